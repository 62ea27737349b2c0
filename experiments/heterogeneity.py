"""Algorithms against heterogeneity: a grid of algorithms, label skews and seeds.

Every point is a run of federated.py; all run in one process and share what is
compiled, and the same command again resumes where it stopped. The curves show the
selection metric, mean and 95% interval over seeds, by rounds and, where devices are
simulated, by simulated time and traffic; the table, which algorithm reaches the target
first by each of them. Example:

  scripts/run experiments/heterogeneity.py --task=mnist --num_clients=100 \\
      --cohort_size=10 --rounds=100 --alphas=0.1,1 --seeds=0,1,2 \\
      --algorithms=fed_avg,scaffold,fed_dyn --output_dir=results/heterogeneity
"""

import pathlib

import federated

from tfl_research import flags
from tfl_research.errors import UserError
from tfl_research.flags import sweep
from tfl_research.flags.heterogeneity_flags import NATURAL
from tfl_research.report import convergence, convergence_picture

GROUPS = (
    flags.HeterogeneityFlags,
    *(group for group in federated.GROUPS if group is not flags.AlgorithmFlags),
)
DEFAULTS = {
    **federated.DEFAULTS,
    "client_weighting": "uniform",
    "evaluate_every": 2,
    "print_every": 20,
}
# Set by the grid.
_OWN = ("seed", "output_dir", "dirichlet_alpha", "partition")


def points(grid: flags.HeterogeneityFlags) -> list[sweep.Point]:
    """The runs, those that share compiled programs next to each other."""
    experiment = sweep.Experiment.of(federated)
    common = sweep.passed_on(GROUPS[1:], without=(*_OWN, *DEFAULTS))
    # The grid's own defaults, or what was given in their place.
    common += [f"--{name}={flags.value(name)}" for name in DEFAULTS]
    algorithms, alphas, seeds = grid.grid()
    further = grid.further()
    found = []
    for name in algorithms:
        for alpha in alphas:
            skew = ["--partition=dirichlet", f"--dirichlet_alpha={alpha}"]
            for seed in seeds:
                own = [f"--algorithm={name}", f"--seed={seed}"]
                own += [] if alpha == NATURAL else skew
                found.append(
                    sweep.Point(
                        f"{name}-{alpha}-{seed}",
                        experiment,
                        (*common, *own, *further.get(name, [])),
                        {"algorithm": name, "alpha": alpha, "seed": seed},
                    )
                )
    return found


def main() -> None:
    grid = flags.HeterogeneityFlags.get()
    for name in ("seed", "dirichlet_alpha"):
        if flags.given(name) is not None:
            raise flags.FlagError(f"--{name}: the grid sets it; give its list")
    run = flags.RunFlags.get()
    if run.selection_metric is not None and "loss" in str(run.selection_metric):
        raise run.refused(
            "selection_metric",
            "the target is one that higher values reach; name accuracy or auc",
        )
    folder = pathlib.Path(str(run.output_dir))
    runs = sweep.Sweep(folder, points(grid))
    rows = runs.run()
    metric = next((str(row["metric"]) for row in rows if "metric" in row), None)
    if metric is None:
        raise UserError(
            "every run diverged before its first evaluation; lower the client or "
            "server learning rate, or clip gradients, in another --output_dir"
        )
    curves = convergence.read(
        [(row["algorithm"], row["alpha"], row["seed"]) for row in rows],
        [runs.path(point) for point in runs.points],
        metric=metric,
        diverged=[row["stop_reason"] == "diverged" for row in rows],
    )
    picture = folder / "heterogeneity.svg"
    convergence_picture.write(curves, picture, metric=metric)
    print(convergence.table(curves, target=grid.target))
    print(f"results: {runs.results_path}  {picture}")


if __name__ == "__main__":
    flags.run_main(main, GROUPS, __doc__, defaults=DEFAULTS)
