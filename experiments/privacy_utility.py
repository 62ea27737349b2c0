"""Accuracy against ε: private federated averaging over a grid of ε and mechanisms.

Every point is a run of dp_fed_avg.py, calibrated to its target ε. The line without
privacy is a run of fed_avg.py with the same cohorts and optimizers. Without --parallel,
all runs share one process and compiled programs. The same command again resumes where
the sweep stopped. Flags of both experiments are passed on to their runs. Example:

  scripts/run experiments/privacy_utility.py --task=shakespeare --cohort_size=100 \\
      --rounds=60 --epsilons=1,2,4,8 --output_dir=results/privacy_utility
"""

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

import pathlib

import dp_fed_avg

from tfl_research import cli, privacy
from tfl_research.cli.grids import PrivacyUtilityGrid
from tfl_research.experiment import Experiment, configs, sweeps
from tfl_research.report import sweep_heading, sweeps as pictures

PRIVATE = (configs.UserLevelPrivacy, configs.Release, privacy.MECHANISMS)
SWEPT = "the grid of the sweep sets it"


def main(given: cli.Given) -> None:
    grid = given.group(PrivacyUtilityGrid)
    # The grid sets ε of every point; the base has the smallest.
    values = {"target_epsilon": min(grid.targets), **given.settings(PrivacyUtilityGrid)}
    base = Experiment.from_flat(values, name="dp_fed_avg")
    folder = pathlib.Path(given.output.folder)
    runs = sweeps.Sweep(folder, grid.points(base, dp_fed_avg.PRESET))
    rows = runs.run(recharge=given.output.recharge, parallel=grid.parallel)
    title = sweep_heading.of_folders(map(runs.path, runs.points))
    picture = folder / "privacy_utility.svg"
    cost = ("epsilon", "ε")
    pictures.frontier(
        rows, picture, x=cost, lines="mechanism", reference="none", title=title
    )
    print(pictures.table(rows, ("mechanism", "target_epsilon")))
    print(f"results: {folder / 'results.csv'}  {picture}")


PRESET = cli.Preset(
    "privacy_utility",
    __doc__,
    (PrivacyUtilityGrid, *PRIVATE, *cli.COMMON),
    defaults={"print_every": 20},
    fixed={"privacy_unit": "client"},
    missing={
        "seed": f"{SWEPT}; give --seeds",
        "mechanism": f"{SWEPT}; give --mechanisms",
        "target_epsilon": f"{SWEPT}; give --epsilons",
        "noise_multiplier": f"{SWEPT}; give --epsilons",
    },
    main=main,
)


if __name__ == "__main__":
    cli.main(PRESET)
