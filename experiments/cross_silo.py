"""Federation across silos, compared with each silo alone and with pooled data.

The sweep runs federated.py, record_dp_fed_avg.py if --record_epsilons is given, and
silo_baseline.py for every silo and for the pooled data. All runs have the same model,
local steps and number of rounds. Without --parallel, all runs are in one process. The
same command again resumes where the comparison stopped. Every silo takes part in every
round. With --silo_drop_out some silos do not report, and a round with fewer reports
than --minimum_clients is abandoned. The tables have the metrics of the final or the
best models on the test examples of each silo, and ε of each silo's records. Example:

  scripts/run experiments/cross_silo.py --task=heart --rounds=50 --seeds=0,1,2 \\
      --record_epsilons=4 --output_dir=results/heart_silos
"""

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

import federated
import record_dp_fed_avg

from tfl_research import cli
from tfl_research.cli.grids import CrossSiloGrid
from tfl_research.experiment import Experiment, configs, sweeps
from tfl_research.experiment.setup import built_task
from tfl_research.report import silos


def main(given: cli.Given) -> None:
    grid = given.group(CrossSiloGrid)
    base = Experiment.from_flat(given.settings(CrossSiloGrid), name="cross_silo")
    points = grid.points(base, federated.PRESET, record_dp_fed_avg.PRESET)
    runs = sweeps.Sweep(given.output.folder, points)
    rows = runs.run(recharge=given.output.recharge, parallel=grid.parallel)
    table = silos.by_silo(
        [(row["method"], runs.path(p)) for row, p in zip(rows, runs.points)],
        model=grid.compared_model,
    )
    silos.write(table, runs.folder / "silos.csv")
    for metric in dict.fromkeys((built_task(base).selection_metric, "accuracy")):
        print(f"{metric} of the {grid.compared_model} models, mean over seeds:")
        print(silos.table(table, metric=metric))
    for line in silos.remarks({p.name: runs.path(p) for p in runs.points}, rows):
        print(line)
    print(f"results: {runs.folder / 'silos.csv'}  {runs.results_path}")


PRESET = cli.Preset(
    "cross_silo",
    __doc__,
    (CrossSiloGrid, *cli.COMMON, configs.Silos),
    defaults={"print_every": 20},
    fixed={"sampler": "full"},
    missing={
        "seed": "the comparison sets it; give --seeds",
        "sampler": "every silo takes part in every round; leave it out, or run "
        "experiments/federated.py",
    },
    main=main,
)


if __name__ == "__main__":
    cli.main(PRESET)
