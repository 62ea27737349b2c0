"""A run of any TFF process, described and checked as one object."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional, TextIO, Union

from tfl_research.data.arrays.listed import listed
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
    "declare it by tfl.ProcessPrivacy(...), which is about clients and has only the "
    "run's own ledger"
)
# The reasons why the privacy settings of a task do not fit a process.
_OTHER_PRIVACY: dict[type[Any], str] = {
    UserLevelPrivacy: (
        "adds noise to the updates of a task, but a process adds its own noise; "
        + _DECLARE
    ),
    RecordLevelPrivacy: (
        "is about the local steps of a task, but a process has its own local steps; "
        "give the task to tfl.Experiment, or, if the process adds noise to what "
        "clients send, " + _DECLARE
    ),
}


@dataclasses.dataclass(frozen=True, repr=False)
class ProcessExperiment:
    """A run of any TFF process, with checkpoints, resume, metrics and a ledger.

    A tutorial's `build_weighted_fed_avg`, k-means, reconstruction, analytics, an
    aggregation process and a computation without a state run in the same loop as an
    `Experiment`, and write the same folder. Checkpoints have every leaf of the state.
    metrics.csv has all metrics that are numbers, by their path
    (`client_work.train.loss` is `train_loss`). measurements.jsonl has vectors and
    texts.

    Attributes:
      process: a `tff.templates.IterativeProcess`, as a `LearningProcess`; an object
        with `initialize` and `next`; or a `tff.Computation` of clients' values, which
        is executed in each round.
      clients: a mapping from ids to values of the type that `next` takes (tf.data
        datasets, lists of elements, structures of tensors), a list of such values,
        TFF's `ClientData`, the toolkit's `ClientData` or a `Task`, or a function of an
        id. If `next` takes several values of a client, give these by name. A client's
        value should be the same at each reading, so a shuffle needs a seed.
      client_ids: the ids, if `clients` is a function.
      evaluate: a function that takes the model, or the state of a process without a
        model, and returns numbers by name. It is called every
        `training.evaluate_every` rounds.
      model: a function that returns the Keras model, or TFF's `model_fn`, whose
        weights the process trains. A Keras model is exported.
      test: test datasets by client, on which `model` is evaluated; a Keras model must
        be compiled with its loss and metrics.
      cohorts: the clients of a round. By default, a computation without state runs once
        with all clients.
      training: number of rounds, seed, evaluation, checkpoints.
      privacy: declares what each round releases; without a declaration, no ε is known.
      release: the outputs that a private run releases although the event does not cover
        them.
      public_data: whether the clients' data are public, so that a private run shows
        its exact outputs, marked as not covered.
      runtime: the engine that executes the rounds.
      callbacks: objects that see every round and may stop the run.
      name: the name of the experiment; a folder is resumed by the experiment of the
        same name.

    Raises:
      SettingError: a part has the wrong type.

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
        """Refuses an experiment that cannot run, before any file is written.

        Raises:
          SettingError: two settings do not fit together; the message says the fix.
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

        The initial state is written to a checkpoint before the first round. If the
        process is a function of its state and of the clients' values, a run that was
        stopped ends like an uninterrupted run.

        Args:
          folder: the folder of the run; a missing folder is made.
          resume: whether a folder that holds this run already is accepted.
          recharge: whether a run whose declared noise is drawn anew may continue with
            another process. The rounds after the last checkpoint are charged again.
          stream: where progress is printed; standard output by default.

        Raises:
          UserError: `check` refuses the experiment, the folder holds another run, or
            the process differs from the process with which the run was begun.
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
        """Runs the process one round at a time; see `Experiment.rounds`."""
        from tfl_research.experiment.own_process import execution

        return execution.rounds(
            self, folder, resume=resume, recharge=recharge, stream=stream
        )
