"""Federated averaging with a Byzantine-robust rule in place of the mean.

The server looks at all updates of a cohort together, excludes those that are not
finite, and makes one update of the rest by a rule that a few hostile clients cannot
bend far: the coordinate-wise median by default (Yin et al. 2018, arXiv 1803.01498).
Rules and their conditions on the cohort's size are those of --aggregator; for
trusted_root (FLTrust) the server trains on --root_examples of its own in every round.
With --attack a part of the clients is malicious; the columns eval_backdoor_* of
metrics.csv then hold a backdoor's success rate (accuracy). Example:

  scripts/run experiments/robust_fed_avg.py --task=mnist --cohort_size=20 \\
      --aggregator=krum --byzantine=4 --attack=alie --rounds=50 \\
      --output_dir=results/krum
"""

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.end_on_signals()

from tfl_research import aggregators, cli
from tfl_research.experiment import configs

PRESET = cli.Preset(
    "robust_fed_avg",
    __doc__,
    (aggregators.AGGREGATORS, configs.Attack, *cli.COMMON),
    defaults={"aggregator": "coordinate_median", "client_weighting": "uniform"},
)


if __name__ == "__main__":
    cli.main(PRESET)
