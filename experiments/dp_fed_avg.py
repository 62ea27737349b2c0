"""Federated averaging with user-level differential privacy (DP-FedAvg, DP-FTRL).

Updates are clipped, summed, noised by the mechanism of --mechanism, and divided by the
expected cohort size (McMahan et al. 2018, arXiv 1710.06963). Cohorts and noise are
drawn from a secret seed in the run's folder. The privacy loss ε is composed over the
ledger of all rounds. --aggregator accepts a robust rule if the guarantee still holds:
any rule with --mechanism=local_gaussian, under which clients noise their own updates,
and norm_clipping with the other mechanisms. Other pairs are refused with the reason.
With --devices, devices come and go, but the course of a round tells nothing about
their data. Examples:

  scripts/run experiments/dp_fed_avg.py --task=shakespeare --cohort_size=100 \\
      --target_epsilon=8 --rounds=50 --output_dir=results/private
  scripts/run experiments/dp_fed_avg.py --task=shakespeare --cohort_size=50 \\
      --mechanism=banded_matrix --sampler=min_separation --target_epsilon=8 \\
      --rounds=50 --output_dir=results/matrix
  scripts/run experiments/dp_fed_avg.py --task=shakespeare --cohort_size=50 \\
      --mechanism=local_gaussian --sampler=fixed --noise_multiplier=0.5 \\
      --aggregator=trimmed_mean --byzantine=5 --rounds=50 --output_dir=results/local
  scripts/run experiments/dp_fed_avg.py --task=shakespeare --devices=714 \\
      --sampler=fixed --cohort_size=100 --minimum_cohort=60 --noise_multiplier=4 \\
      --rounds=50 --output_dir=results/private_devices
"""

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

from tfl_research import aggregators, cli, privacy
from tfl_research.experiment import configs

PRESET = cli.Preset(
    "dp_fed_avg",
    __doc__,
    (
        configs.UserLevelPrivacy,
        configs.Release,
        privacy.MECHANISMS,
        *cli.COMMON,
        aggregators.AGGREGATORS,
        configs.Devices,
    ),
    fixed={"privacy_unit": "client"},
)


if __name__ == "__main__":
    cli.main(PRESET)
