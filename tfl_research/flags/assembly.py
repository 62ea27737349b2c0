"""The steps that every experiment takes, from checked flags to a finished run.

TensorFlow is imported in `train` only, which comes last.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Optional

from tfl_research import errors
from tfl_research.data.tables import files as silo_files
from tfl_research.devices import message_bytes, told_sizes
from tfl_research.flags import app, rehearsal
from tfl_research.flags.cohort_flags import SamplerFlags, WeightingFlags
from tfl_research.flags.optimizer_flags import (
    ClientOptimizerFlags,
    ServerOptimizerFlags,
)
from tfl_research.flags.run_flags import RunFlags
from tfl_research.flags.runtime_flags import RuntimeFlags
from tfl_research.flags.task_flags import TaskFlags
from tfl_research.program import RunResult
from tfl_research.sampling import Sampler
from tfl_research.storage import RunFolder
from tfl_research.tasks import Task

if TYPE_CHECKING:
    import tensorflow_federated as tff

# Flag groups of every experiment.
GROUPS = (
    TaskFlags,
    ClientOptimizerFlags,
    ServerOptimizerFlags,
    SamplerFlags,
    WeightingFlags,
    RunFlags,
    RuntimeFlags,
)


@dataclasses.dataclass(frozen=True)
class Setup:
    """The checked values of `GROUPS`, and what is built of them without TensorFlow.

    Attributes:
      client, server: optimizers.
      cohort: who takes part in a round.
      weighting: how much a client counts.
      run: the run's length, folder and seeds.
      runtime: what executes the rounds.
      task: data, model builder and objective.
      sampler: `cohort` over the task's clients, seeded by --seed.
      client_weights: of --client_weight.
    """

    client: ClientOptimizerFlags
    server: ServerOptimizerFlags
    cohort: SamplerFlags
    weighting: WeightingFlags
    run: RunFlags
    runtime: RuntimeFlags
    task: Task
    sampler: Sampler
    client_weights: Mapping[str, float] = dataclasses.field(default_factory=dict)


def setup(change: Callable[[Task], Task] = lambda task: task) -> Setup:
    """Checks the flags of `GROUPS`, reads the data and builds the sampler.

    Args:
      change: of the task, before the sampler learns who its clients are.

    Raises:
      FlagError: a flag's value is refused.
    """
    task_flags, run = TaskFlags.get(), RunFlags.get()
    cohort, weighting = SamplerFlags.get(), WeightingFlags.get()
    client, server = ClientOptimizerFlags.get(), ServerOptimizerFlags.get()
    task = change(task_flags.build(run.seed))
    client_weights = run.client_weights(task.test.client_ids)
    sampler = cohort.build(task.train.client_ids, run.seed)
    return Setup(
        client,
        server,
        cohort,
        weighting,
        run,
        RuntimeFlags.get(),
        task,
        sampler,
        client_weights,
    )


def open_run(
    experiment: str, parts: Setup, resolved: Optional[Mapping[str, Any]] = None
) -> RunFolder:
    """Opens the run's folder; records every flag, and what was derived from flags.

    Args:
      experiment: the experiment's name.
      parts: of `setup`.
      resolved: hyperparameters that were derived (a calibrated noise multiplier).

    Raises:
      UserError: the folder cannot be used; see `RunFolder.open`.
    """
    rehearsal.everything_is_checked()
    run, clients = parts.run, parts.task.train
    hparams = {
        **app.hparams(),
        "batching": dataclasses.asdict(clients.batching),
        "expected_cohort_size": parts.sampler.expected_cohort_size,
        "num_train_clients": len(clients),
        **_data_hash(),
        **(resolved or {}),
    }
    return RunFolder.open(
        str(run.output_dir),
        hparams,
        experiment=experiment,
        resume=run.resume,
        run_seed=None if run.run_seed is None else int(run.run_seed),
    )


def _data_hash() -> dict[str, str]:
    """Of one's own files, so that no run is resumed on others.

    A private run would draw the same noise for them, and the difference of two models
    with the same noise is not private.
    """
    folder = TaskFlags.get().options().get("data_dir")
    if folder is None:
        return {}
    return {"data_sha256": silo_files.content_hash(pathlib.Path(folder).expanduser())}


def train(
    parts: Setup,
    process: tff.templates.IterativeProcess,
    folder: RunFolder,
    *,
    sampler: Optional[Sampler] = None,
    account: Any = None,
    cohort_seed: Optional[int] = None,
    personal_evaluator: Any = None,
) -> RunResult:
    """Runs the rounds on the runtime of --runtime, and writes the results.

    Args:
      parts: of `setup`.
      process: what a round computes.
      folder: of `open_run`.
      sampler: who takes part in a round; that of `parts` by default.
      account: charges rounds to a privacy budget; None without privacy.
      cohort_seed: of which examples clients use, where that must be secret.
      personal_evaluator: evaluates personal models when the rounds are done.

    Raises:
      UserError: see `program.run`; or no worker of --workers answers.
    """
    from tfl_research import program, runtime

    try:
        with parts.runtime.engine(process, folder.path) as engine:
            return program.run(
                task=parts.task,
                engine=engine,
                sampler=told_sizes(sampler or parts.sampler, process),
                folder=folder,
                config=dataclasses.replace(
                    parts.run.config(),
                    cohort_seed=cohort_seed,
                    client_weights=parts.client_weights,
                ),
                account=account,
                client_states=getattr(process, "client_states", None),
                message_bytes=message_bytes(process),
                personal_evaluator=personal_evaluator,
            )
    except runtime.WorkerUnavailable as error:
        raise errors.UserError(
            f"--workers={parts.runtime.workers}: {error}; start one there with "
            "scripts/worker --port=PORT, then the same command goes on from the last "
            "checkpoint"
        ) from error
