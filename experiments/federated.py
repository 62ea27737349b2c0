"""Any federated algorithm for heterogeneous clients, chosen by --algorithm.

FedAvg and FedOpt, FedProx with a fixed or an adaptive strength, SCAFFOLD, FedDyn,
FedNova, FedExP, Mime, MimeLite, FedBuff and federated dropout run on the same task,
clients and local steps, so that they can be compared. So do Ditto, FedRep, federated
reconstruction and IFCA, which give each client a model of its own. The run's folder has
what clients keep between rounds. --personal_evaluation compares the clients' own models
with the global model. Example:

  scripts/run experiments/federated.py --task=mnist --partition=dirichlet \\
      --dirichlet_alpha=0.1 --algorithm=scaffold --rounds=50 \\
      --output_dir=results/scaffold
"""

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

from tfl_research import aggregators, algorithms, cli
from tfl_research.experiment import configs

PRESET = cli.Preset(
    "federated",
    __doc__,
    (
        algorithms.ALGORITHMS,
        cli.PersonalEvaluation,
        configs.Compression,
        *cli.COMMON,
        aggregators.AGGREGATORS,
        configs.Devices,
        configs.Silos,
    ),
)


if __name__ == "__main__":
    cli.main(PRESET)
