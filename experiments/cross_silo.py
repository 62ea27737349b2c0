"""Federation across silos beside its baselines: each silo alone, and pooled data.

Every silo is asked in every round; with --silo_drop_out some do not report, and a round
with fewer than --minimum_clients is abandoned. Runs of federated.py, of
record_dp_fed_avg.py where records are to be private, and of silo_baseline.py for every
silo and for the pooled data, with the same model, local steps and number of rounds; all
run in one process, and the same command again resumes where it stopped. The tables have
the final or the best models' metrics on the test examples of each silo, and ε of each
silo's records. Example:

  scripts/run experiments/cross_silo.py --task=heart --rounds=50 --seeds=0,1,2 \\
      --record_epsilons=4 --output_dir=results/heart_silos
"""

import pathlib

import federated
import record_dp_fed_avg
import silo_baseline

from tfl_research import data, flags
from tfl_research.flags import assembly, sweep
from tfl_research.flags.assembly import Setup
from tfl_research.report import silos

GROUPS = (flags.CrossSiloFlags, *assembly.GROUPS, flags.SiloFlags)
DEFAULTS = {"sampler": "full", "print_every": 20}
_OWN = ("seed", "output_dir", "sampler")
# Local epochs are for those whose records are not drawn at random.
_NOT_PRIVATE = ("client_epochs", "batch_size", "max_examples_per_client")


def points(compared: flags.CrossSiloFlags, parts: Setup) -> list[sweep.Point]:
    """The runs of every seed: federated, private, alone and pooled."""
    algorithms, epsilons, seeds = compared.grid()
    plain, private, baseline = (
        sweep.Experiment.of(m) for m in (federated, record_dp_fed_avg, silo_baseline)
    )
    common = sweep.passed_on(assembly.GROUPS, without=_OWN)
    records = sweep.passed_on(assembly.GROUPS, without=(*_OWN, *_NOT_PRIVATE))
    # A silo alone, and pooled data, are never down.
    down = sweep.passed_on((flags.SiloFlags,), without=())
    further = compared.further()
    found = []
    for seed in seeds:
        own = (f"--print_every={parts.run.print_every}", f"--seed={seed}")
        for name in algorithms:
            arguments = (*common, *down, *own, f"--algorithm={name}", "--sampler=full")
            labels = {"method": name, "seed": seed}
            further_own = further.get(name, [])
            found.append(
                sweep.Point(f"{name}-{seed}", plain, (*arguments, *further_own), labels)
            )
        for epsilon in epsilons:
            arguments = (*records, *down, *own, f"--record_target_epsilon={epsilon:g}")
            labels = {"method": f"fed_avg, ε {epsilon:g}", "seed": seed}
            found.append(
                sweep.Point(
                    f"record_dp-{epsilon:g}-{seed}",
                    private,
                    (*arguments, *compared.record_arguments),
                    labels,
                )
            )
        for number, name in enumerate(
            (*parts.task.train.client_ids, data.client_splits.POOLED)
        ):
            pooled = name == data.client_splits.POOLED
            labels = {"method": "pooled" if pooled else f"only {name}", "seed": seed}
            folder = "pooled" if pooled else f"only_{number}"
            found.append(
                sweep.Point(
                    f"{folder}-{seed}",
                    baseline,
                    (*common, *own, f"--train_on={name}"),
                    labels,
                )
            )
    return found


def main() -> None:
    compared = flags.CrossSiloFlags.get()
    if flags.given("seed") is not None:
        raise flags.FlagError("--seed: the comparison sets it; give --seeds")
    parts = assembly.setup()
    if parts.cohort.sampler != "full":
        raise flags.FlagError(
            f"--sampler={parts.cohort.sampler}: every silo takes part in every round; "
            "leave it out, or run experiments/federated.py"
        )
    flags.SiloFlags.get().sampler(parts.sampler, parts.run.seed)
    folder = pathlib.Path(str(parts.run.output_dir))
    runs = sweep.Sweep(folder, points(compared, parts))
    rows = runs.run()
    found = silos.by_silo(
        [(row["method"], runs.path(p)) for row, p in zip(rows, runs.points)],
        model=compared.compared_model,
    )
    silos.write(found, folder / "silos.csv")
    for metric in dict.fromkeys((parts.task.selection_metric, "accuracy")):
        print(f"{metric} of the {compared.compared_model} models, mean over seeds:")
        print(silos.table(found, metric=metric))
    for line in silos.remarks([p.name for p in runs.points], rows):
        print(line)
    print(f"results: {folder / 'silos.csv'}  {runs.results_path}")


if __name__ == "__main__":
    flags.run_main(main, GROUPS, __doc__, defaults=DEFAULTS)
