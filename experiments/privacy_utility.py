"""Accuracy against ε: private federated averaging over a grid of ε and mechanisms.

Every point is a run of dp_fed_avg.py, calibrated to its target ε, and the line without
privacy is a run of fed_avg.py with the same cohorts and optimizers; all run in one
process and share what is compiled. The same command again resumes where it stopped.
Flags of the two experiments are passed on to their runs. Example:

  scripts/run experiments/privacy_utility.py --task=shakespeare --cohort_size=100 \\
      --rounds=60 --epsilons=1,2,4,8 --output_dir=results/privacy_utility
"""

import pathlib

import dp_fed_avg
import fed_avg

from tfl_research import flags
from tfl_research.flags import assembly, sweep
from tfl_research.report import sweeps

GROUPS = (
    flags.PrivacyUtilityFlags,
    flags.PrivacyFlags,
    flags.MechanismFlags,
    *assembly.GROUPS,
)
DEFAULTS = {"sampler": "poisson", "client_weighting": "uniform", "print_every": 20}
# Set by the grid, or without a meaning for it.
_OWN = ("mechanism", "target_epsilon", "noise_multiplier", "seed", "output_dir")


def points(grid: flags.PrivacyUtilityFlags) -> list[sweep.Point]:
    """The runs without privacy, then the private ones."""
    private, public = sweep.Experiment.of(dp_fed_avg), sweep.Experiment.of(fed_avg)
    sampler = flags.SamplerFlags.get().sampler
    common = sweep.passed_on(assembly.GROUPS, without=(*_OWN, "sampler"))
    common += [f"--print_every={flags.RunFlags.get().print_every}"]
    noise = sweep.passed_on((flags.PrivacyFlags, flags.MechanismFlags), without=_OWN)
    mechanisms, epsilons, seeds = grid.grid()
    found = []
    for seed in seeds:
        uniform = ("--client_weighting=uniform", f"--sampler={sampler}")
        found.append(
            sweep.Point(
                f"not_private-{seed}",
                public,
                (*uniform, *common, f"--seed={seed}"),
                {"mechanism": "none", "target_epsilon": "inf", "seed": seed},
            )
        )
        for name in mechanisms:
            for epsilon in epsilons:
                own = (f"--mechanism={name}", f"--target_epsilon={epsilon:g}")
                further = grid.further().get(name, [])
                found.append(
                    sweep.Point(
                        f"{name}-{epsilon:g}-{seed}",
                        private,
                        (f"--sampler={sampler}", *common, *noise, *own)
                        + (f"--seed={seed}", *further),
                        {"mechanism": name, "target_epsilon": epsilon, "seed": seed},
                    )
                )
    return found


def main() -> None:
    grid, run = flags.PrivacyUtilityFlags.get(), flags.RunFlags.get()
    for name in _OWN[:-1]:
        if flags.given(name) is not None:
            raise flags.FlagError(f"--{name}: the grid of the sweep sets it")
    folder = pathlib.Path(str(run.output_dir))
    rows = sweep.Sweep(folder, points(grid)).run()
    picture = folder / "privacy_utility.svg"
    sweeps.frontier(
        rows,
        picture,
        x=("epsilon", "ε"),
        lines="mechanism",
        reference="none",
    )
    print(sweeps.table(rows, ("mechanism", "target_epsilon")))
    print(f"results: {folder / 'results.csv'}  {picture}")


if __name__ == "__main__":
    flags.run_main(main, GROUPS, __doc__, defaults=DEFAULTS)
