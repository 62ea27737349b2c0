"""Robust rules under attack: a grid of attacks, rules and malicious fractions.

Every point is a run of robust_fed_avg.py. Without --parallel, all points run in one
process and share compiled programs. The same command again resumes where the sweep
stopped. Each rule gets the number of malicious clients to expect. The heatmap shows the
metric at the end of the runs, and the success rate of a backdoor. Example:

  scripts/run experiments/byzantine.py --task=mnist --partition=dirichlet \\
      --num_clients=25 --sampler=full --attacks=none,alie,sign_flip --rounds=50 \\
      --rules=mean,coordinate_median,krum,krum+mixing --output_dir=results/byzantine
"""

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

import pathlib

import robust_fed_avg

from tfl_research import cli
from tfl_research.cli.grids import ByzantineGrid
from tfl_research.experiment import Experiment, sweeps
from tfl_research.experiment.sweeps.byzantine import BACKDOOR, with_places
from tfl_research.report import convergence, sweep_heading, sweeps as pictures


def main(given: cli.Given) -> None:
    grid = given.group(ByzantineGrid)
    base = Experiment.from_flat(given.settings(ByzantineGrid), name="robust_fed_avg")
    points, left_out = grid.points(base, robust_fed_avg.PRESET)
    folder = pathlib.Path(given.output.folder)
    runs = sweeps.Sweep(folder, points)
    for line in left_out:
        print(f"left out: {line}")
    rows = with_places(runs.run(recharge=given.output.recharge, parallel=grid.parallel))
    title = sweep_heading.of_folders(map(runs.path, runs.points))
    picture = folder / "byzantine.svg"
    metric = convergence.metric_of(rows)
    panels = [("final_value", metric), (BACKDOOR, "backdoor success")]
    pictures.heatmaps(
        rows, picture, across="attacked by", down="rule", panels=panels, title=title
    )
    for column, name in panels:
        if any(row.get(column) is not None for row in rows):
            print(f"{name}, median over seeds:")
            print(
                pictures.matrix(rows, down="rule", across="attacked by", column=column)
            )
    print(f"results: {runs.results_path}  {picture}")


PRESET = cli.Preset(
    "byzantine",
    __doc__,
    (ByzantineGrid, *cli.COMMON),
    defaults={"client_weighting": "uniform", "print_every": 20},
    missing={"seed": "the grid of the sweep sets it; give --seeds"},
    main=main,
)


if __name__ == "__main__":
    cli.main(PRESET)
