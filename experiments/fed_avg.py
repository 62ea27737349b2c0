"""Federated averaging, and FedOpt with a server optimizer other than plain SGD.

Clients train from the server's model for a few local steps; the server applies the
mean of their model deltas (McMahan et al. 2017, arXiv 1602.05629; Reddi et al. 2020,
arXiv 2003.00295). Example:

  scripts/run experiments/fed_avg.py --task=heart --rounds=50 --output_dir=results/heart
"""

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

from tfl_research import aggregators, cli
from tfl_research.experiment import configs

PRESET = cli.Preset(
    "fed_avg",
    __doc__,
    (*cli.COMMON, aggregators.AGGREGATORS, configs.Devices),
)


if __name__ == "__main__":
    cli.main(PRESET)
