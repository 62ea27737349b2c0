"""Federated averaging with a Byzantine-robust rule instead of the mean.

The server takes all updates of a cohort together and leaves out updates that are not
finite. A rule combines the other updates into one, on which a few hostile clients have
little influence. The default is the coordinate-wise median (Yin et al. 2018, arXiv
1803.01498). --aggregator lists the rules and their conditions on the cohort's size. For
trusted_root (FLTrust) the server trains on its own --root_examples in every round. With
--attack some clients are malicious. The columns eval_backdoor_* of metrics.csv then
have the success rate (accuracy) of a backdoor. Example:

  scripts/run experiments/robust_fed_avg.py --task=mnist --cohort_size=20 \\
      --aggregator=krum --byzantine=4 --attack=alie --rounds=50 \\
      --output_dir=results/krum
"""

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

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
