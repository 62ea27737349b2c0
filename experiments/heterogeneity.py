"""Algorithms against heterogeneity: a grid of algorithms, label skews and seeds.

Every point is a run of federated.py. Without --parallel, all points run in one process
and share compiled programs. The same command again resumes where the sweep stopped. The
curves show the selection metric, as mean and 95% interval over seeds, against rounds
and, with --devices, against simulated time and traffic. The table shows which algorithm
reaches the target first, by each of these measures. Example:

  scripts/run experiments/heterogeneity.py --task=mnist --num_clients=100 \\
      --cohort_size=10 --rounds=100 --alphas=0.1,1 --seeds=0,1,2 \\
      --algorithms=fed_avg,scaffold,fed_dyn --output_dir=results/heterogeneity
"""

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

import pathlib

import federated

from tfl_research import algorithms, cli
from tfl_research.cli.grids import HeterogeneityGrid
from tfl_research.experiment import Experiment, sweeps
from tfl_research.report import convergence, convergence_picture, sweep_heading


def main(given: cli.Given) -> None:
    grid = given.group(HeterogeneityGrid)
    base = Experiment.from_flat(given.settings(HeterogeneityGrid), name="federated")
    sweeps.check_higher_is_better(base)
    folder = pathlib.Path(given.output.folder)
    runs = sweeps.Sweep(folder, grid.points(base, federated.PRESET))
    rows = runs.run(recharge=given.output.recharge, parallel=grid.parallel)
    curves = convergence.of_sweep(rows, [runs.path(p) for p in runs.points])
    title = sweep_heading.of_folders(map(runs.path, runs.points))
    picture = folder / "heterogeneity.svg"
    metric = convergence.metric_of(rows)
    convergence_picture.write(curves, picture, metric=metric, title=title)
    print(convergence.table(curves, target=grid.target))
    print(f"results: {runs.results_path}  {picture}")


PRESET = cli.Preset(
    "heterogeneity",
    __doc__,
    (
        HeterogeneityGrid,
        *(g for g in federated.PRESET.groups if g is not algorithms.ALGORITHMS),
    ),
    defaults={"client_weighting": "uniform", "evaluate_every": 2, "print_every": 20},
    missing={
        "seed": "the grid sets it; give --seeds",
        "dirichlet_alpha": "the grid sets it; give --alphas",
        "partition": "the grid sets it; give --alphas",
    },
    main=main,
)


if __name__ == "__main__":
    cli.main(PRESET)
