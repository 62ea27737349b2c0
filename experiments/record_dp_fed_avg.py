"""Federated averaging over silos with record-level differential privacy (DP-SGD).

Every client trains by DP-SGD (Abadi et al. 2016, arXiv 1607.00133, Algorithm 1): each
local step draws the client's records by Poisson sampling, clips each record's gradient,
and adds Gaussian noise to the sum before anything leaves the client. The guarantee
protects each record against the server, the other clients and whoever sees the models.
Every client has its own ε (client_epsilon.csv); metrics.csv has the largest ε. A secret
seed in the run's folder decides which records take part, and gives the noise. A client
is charged for every round, even if the client is down (--silo_drop_out) or the round is
abandoned (--minimum_clients), because what other clients sent has been seen. Example:

  scripts/run experiments/record_dp_fed_avg.py --task=heart --record_target_epsilon=4 \\
      --rounds=20 --output_dir=results/heart_record_dp
"""

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

from tfl_research import aggregators, cli
from tfl_research.experiment import configs

PRESET = cli.Preset(
    "record_dp_fed_avg",
    __doc__,
    (
        configs.RecordLevelPrivacy,
        configs.Release,
        *cli.COMMON,
        aggregators.AGGREGATORS,
        configs.Silos,
    ),
    fixed={"privacy_unit": "record"},
)


if __name__ == "__main__":
    cli.main(PRESET)
