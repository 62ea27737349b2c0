"""FedProx: federated averaging that pulls clients back to the server's model.

Each local objective gains the proximal term μ/2 ||w - w_t||² (Li et al. 2020, arXiv
1812.06127, Algorithm 2). Example:

  scripts/run experiments/fed_prox.py --task=heart --proximal_strength=0.1 \\
      --rounds=50 --output_dir=results/heart_prox
"""

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

from tfl_research import aggregators, algorithms, cli
from tfl_research.experiment import configs

PRESET = cli.Preset(
    "fed_prox",
    __doc__,
    (algorithms.FedProx, *cli.COMMON, aggregators.AGGREGATORS, configs.Devices),
    fixed={"algorithm": "fed_prox"},
)


if __name__ == "__main__":
    cli.main(PRESET)
