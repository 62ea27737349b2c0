"""A run of any TFF process, described and checked as one object."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional, TextIO, Union

from tfl_research.data.listed import listed
from tfl_research.errors import SettingError
from tfl_research.experiment.configs import (
    Cohorts,
    ProcessPrivacy,
    RecordLevelPrivacy,
    Release,
    Runtime,
    Training,
    UserLevelPrivacy,
)
from tfl_research.program import Callback

if TYPE_CHECKING:
    from tfl_research.experiment.own_process.result import ProcessResult
    from tfl_research.program import RoundReport


_DECLARE = (
    "declare it by tfl.ProcessPrivacy(...), which is about clients and has a ledger of "
    "the run alone"
)
# Why a task's privacy does not fit a process.
_OTHER_PRIVACY: dict[type[Any], str] = {
    UserLevelPrivacy: (
        "adds noise to the updates of a task, and the noise of a process is its own; "
        + _DECLARE
    ),
    RecordLevelPrivacy: (
        "is about local steps, which a task draws and a process takes itself; give the "
        "task to tfl.Experiment, or where the process noises what clients send, "
        + _DECLARE
    ),
}


@dataclasses.dataclass(frozen=True, repr=False)
class ProcessExperiment:
    """A run of any TFF process: with checkpoints, resume, metrics and an account.

    A tutorial's `build_weighted_fed_avg`, k-means, reconstruction, analytics, an
    aggregation process and a computation without a state run in the same loop as an
    `Experiment`, and leave the same folder. Every leaf of a state is kept in
    checkpoints, and every metric: numbers in metrics.csv, by the path
    (`client_work.train.loss` is `train_loss`), vectors and texts in measurements.jsonl.

    Attributes:
      process: a `tff.templates.IterativeProcess`, as a `LearningProcess`; an object
        with `initialize` and `next`; or a `tff.Computation` of clients' values, which
        is executed in each round.
      clients: a mapping from ids to values of the type that `next` takes (tf.data
        datasets, lists of elements, structures of tensors), a list of such values,
        TFF's `ClientData`, the toolkit's `ClientData` or a `Task`, or a function of an
        id. If `next` takes several values of a client, a value has them by name. A
        client's value should be the same whenever it is read: a shuffle needs a seed.
      client_ids: for a function.
      evaluate: (model) -> numbers by name, every `training.evaluate_every` rounds. Of
        a process without a model, the function gets the state.
      model: a function that returns the Keras model, or TFF's `model_fn`, whose
        weights the process trains. A Keras model is exported.
      test: test datasets by client, on which `model` is evaluated; a Keras model must
        be compiled with its loss and metrics.
      cohorts: who takes part in a round. For a computation everybody, once, by default.
      training: number of rounds, seed, evaluation, checkpoints.
      privacy: what each round releases. Without a declaration no ε is known.
      release: what a private run releases in addition to what its event covers.
      public_data: whether the clients' data are public, so that a private run shows
        its exact outputs, marked as not covered.
      runtime: what executes the rounds.
      callbacks: see every round and may stop the run.
      name: the name of the experiment; a folder is resumed by the experiment of the
        same name.

    Raises:
      SettingError: a part that is not of its kind.

    Example:
      >>> import numpy as np
      >>> import tensorflow_federated as tff
      >>> @tff.federated_computation(tff.FederatedType(np.float32, tff.CLIENTS))
      ... def mean_temperature(temperatures):
      ...     return tff.federated_mean(temperatures)
      >>> experiment = tfl.ProcessExperiment(
      ...     mean_temperature, {"north": 11.0, "south": 18.0}
      ... )
      >>> result = experiment.run("results/temperature")
      privacy: no ε is known, since the process declares no noise; ...
      >>> result.metrics["result"].tolist()
      [14.5]
    """

    process: Any
    clients: Any = None
    client_ids: Optional[Iterable[str]] = None
    evaluate: Optional[Callable[[Any], Mapping[str, float]]] = None
    model: Any = None
    test: Any = None
    cohorts: Cohorts = dataclasses.field(default_factory=Cohorts)
    training: Optional[Training] = None
    privacy: Optional[ProcessPrivacy] = None
    release: Release = dataclasses.field(default_factory=Release)
    public_data: bool = False
    runtime: Runtime = dataclasses.field(default_factory=Runtime)
    callbacks: Sequence[Callback] = ()
    name: str = "process"

    def __post_init__(self) -> None:
        kinds: dict[str, tuple[type[Any], ...]] = {
            "cohorts": (Cohorts,),
            "training": (Training, type(None)),
            "privacy": (ProcessPrivacy, type(None)),
            "release": (Release,),
            "public_data": (bool,),
            "runtime": (Runtime,),
            "name": (str,),
        }
        for kind, why in _OTHER_PRIVACY.items():
            if isinstance(self.privacy, kind):
                raise SettingError(f"privacy: {kind.__name__} {why}")
        for name, expected in kinds.items():
            value = getattr(self, name)
            if not isinstance(value, expected):
                raise SettingError(
                    f"{name} must be {expected[0].__name__}, got "
                    f"{type(value).__name__}; give tfl.{expected[0].__name__}(...)"
                )
        if self.evaluate is not None and not callable(self.evaluate):
            raise SettingError(
                "evaluate must be a function of the model that returns numbers by "
                f"name, got {type(self.evaluate).__name__}"
            )
        if self.client_ids is not None:
            try:
                ids = listed("client_ids", self.client_ids)
            except ValueError as error:
                raise SettingError(str(error)) from error
            object.__setattr__(self, "client_ids", ids)
        object.__setattr__(self, "callbacks", tuple(self.callbacks))
        for each in self.callbacks:
            if not isinstance(each, Callback):
                raise SettingError(
                    f"callbacks must be instances of tfl.Callback, got "
                    f"{type(each).__name__}"
                )

    def __repr__(self) -> str:
        return f"ProcessExperiment({type(self.process).__name__}, name={self.name!r})"

    def check(self) -> None:
        """Refuses what cannot run, before anything is written.

        Raises:
          SettingError: one line with what does not go together, and the fix.
        """
        from tfl_research.experiment.own_process import prepared

        prepared.prepare(self).clients.check()

    def run(
        self,
        folder: Union[str, os.PathLike[str]],
        *,
        resume: bool = True,
        recharge: bool = False,
        stream: Optional[TextIO] = None,
    ) -> ProcessResult:
        """Runs the process, or continues the run that the folder holds.

        The initial state is in a checkpoint before the first round. A run that was
        stopped ends like one that was not, if the process is a function of its state
        and of the clients' values.

        Args:
          folder: the folder of the run; made when missing.
          resume: whether a folder that holds this run already is accepted.
          recharge: whether a run continues with another process, if its declared noise
            is drawn anew. The rounds after the last checkpoint are charged again.
          stream: where progress is printed; standard output by default.

        Raises:
          UserError: see `check`; the folder holds another run; or the process differs
            from the process that the run was begun with.
          TrainingDivergedError: the model is not finite.
          RunInterrupted: SIGINT or SIGTERM in the main thread.
        """
        from tfl_research.experiment.own_process import execution

        return execution.run(
            self, folder, resume=resume, recharge=recharge, stream=stream
        )

    def rounds(
        self,
        folder: Union[str, os.PathLike[str]],
        *,
        resume: bool = True,
        recharge: bool = False,
        stream: Optional[TextIO] = None,
    ) -> Generator[RoundReport, None, ProcessResult]:
        """`run`, a round at a time; see `Experiment.rounds`."""
        from tfl_research.experiment.own_process import execution

        return execution.rounds(
            self, folder, resume=resume, recharge=recharge, stream=stream
        )
