"""Base class of algorithm specifications: parameters, builder and compatibility.

This module does not import TensorFlow, so that an experiment can be checked before the
slow import.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Optional

from tfl_research.errors import SettingError
from tfl_research.registry import SettingsRegistry
from tfl_research.settings import NamedSettings

if TYPE_CHECKING:
    import tensorflow as tf

    from tfl_research.algorithms.algorithm import Algorithm
    from tfl_research.clients import LocalSteps
    from tfl_research.models import ClientOptimizer, ServerOptimizer
    from tfl_research.processes import OptimizerStep
    from tfl_research.tasks import Task

_MEAN = "mean"


@dataclasses.dataclass(frozen=True)
class AlgorithmContext:
    """Values that an experiment passes to the builder of its algorithm.

    Attributes:
      steps: the clients' local optimizer steps.
      server: the server optimizer.
      population: number of all clients.
      task: data, model and objective.
      seed: seed of the initial weights that the algorithm draws.
    """

    steps: LocalSteps
    server: OptimizerStep
    population: int
    task: Task
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class AlgorithmSettings(NamedSettings):
    """Base class of algorithm specifications: parameters, builder and compatibility.

    A subclass is a frozen dataclass whose fields are the parameters. The attributes
    below say what the algorithm is compatible with. `build` makes client work and
    server work. `algorithms.register` makes the algorithm available by its NAME.

    Attributes:
      WEIGHTING: the client weighting that the paper's argument needs, "uniform"; None
        leaves the choice open.
      REPORTS: words for the values that clients send beside their update, and that
        the server averages; None for no values.
      UPDATES: words for the values that clients send in place of an update of the
        whole model ("an update for each cluster"); None for an update of the whole
        model.
      REPORTS_UNCODED: words for the values that clients compute from their update
        before compression changes the update; compression is then refused. None for no
        values.
      STATEFUL: whether clients keep a state of the algorithm between rounds.
      KEEPS_SENT: whether the client's state depends on what the client sent, so that
        the server must add up exactly what was sent.
      EXCHANGES: number of rounds of the process, all with the same cohort, in one round
        of the paper.
      OWN_CLIENT_STEP: whether the algorithm replaces the client optimizer. Then the
        client optimizer cannot be set, and the run's record does not name it.
      OWN_SERVER_STEP: whether the algorithm replaces the server optimizer, likewise.
      PERSONAL: whether clients end up with personal models.
      ONLY_UPDATES_LEAVE: whether clients send only an update of the whole model and
        keep no state. A user-level mechanism bounds and noises updates only, so its
        guarantee covers only algorithms for which this is true.

    Example:
      >>> import dataclasses
      >>> @tfl.algorithms.register
      ... @dataclasses.dataclass(frozen=True)
      ... class Halved(tfl.algorithms.AlgorithmSettings):
      ...     NAME = "halved"
      ...     SUMMARY = "FedAvg with a part of the update"
      ...     ONLY_UPDATES_LEAVE = True
      ...     OWN_SERVER_STEP = True
      ...     factor: float = tfl.settings.real(0.5, "Part of the update.", above=0)
      ...
      ...     def build(self, context):
      ...         import tensorflow_federated as tff
      ...         from tfl_research import clients, processes
      ...         part = tff.learning.optimizers.build_sgdm(self.factor)
      ...         work = clients.LocalTraining(context.steps)
      ...         return tfl.algorithms.Algorithm(work, processes.OptimizerStep(part))
      >>> training = tfl.Training(rounds=1, print_every=10)
      >>> experiment = tfl.Experiment("heart", algorithm="halved", training=training)
      >>> result = experiment.run("results/halved")
      untrained  eval loss 0.6931 ...
    """

    TITLE: ClassVar[str] = "Algorithm"

    WEIGHTING: ClassVar[Optional[str]] = None
    REPORTS: ClassVar[Optional[str]] = None
    UPDATES: ClassVar[Optional[str]] = None
    REPORTS_UNCODED: ClassVar[Optional[str]] = None
    STATEFUL: ClassVar[bool] = False
    KEEPS_SENT: ClassVar[bool] = False
    EXCHANGES: ClassVar[int] = 1
    OWN_CLIENT_STEP: ClassVar[bool] = False
    OWN_SERVER_STEP: ClassVar[bool] = False
    PERSONAL: ClassVar[bool] = False
    ONLY_UPDATES_LEAVE: ClassVar[bool] = False

    def build(self, context: AlgorithmContext) -> Algorithm:
        """Builds client work and server work; imports TensorFlow.

        Raises:
          ValueError: local steps that the algorithm does not take.
        """
        raise NotImplementedError(f"{type(self).__name__}.build")

    @property
    def buffering(self) -> Optional[tuple[int, int]]:
        """How asynchronous devices train; None for synchronous rounds.

        Returns:
          The number of devices that train at the same time, and the largest staleness
          in server steps. None for algorithms whose rounds are synchronous.
        """
        return None

    @classmethod
    def looks_at_model(cls) -> bool:
        """Whether `check_model` needs the model, whose build imports TensorFlow."""
        return cls.check_model is not AlgorithmSettings.check_model

    def check_model(self, specs: Sequence[tf.TensorSpec]) -> None:
        """Refuses a model that the algorithm cannot divide into its parts.

        Args:
          specs: shapes and dtypes of the model's weights, in order.

        Raises:
          SettingError: the algorithm cannot divide the model.
        """

    def check_clients(self, client: ClientOptimizer) -> None:
        """Refuses local steps that the algorithm does not allow.

        Raises:
          SettingError: the algorithm does not allow the client optimizer.
        """

    def check_client_step(self, client: ClientOptimizer) -> None:
        """Refuses a client optimizer if the algorithm has an optimizer of its own.

        Raises:
          SettingError: a setting that an algorithm with its own client step ignores.
        """
        if not self.OWN_CLIENT_STEP:
            return
        for field in client.of_steps():
            if getattr(client, field) != getattr(type(client)(), field):
                raise client.refused(
                    field,
                    f"{self.NAME} has a client optimizer of its own; leave it out",
                )

    def check_weighting(self, kind: str) -> None:
        """Refuses a client weighting other than the algorithm's own.

        Raises:
          SettingError: the algorithm needs another weighting.
        """
        if self.WEIGHTING is not None and kind != self.WEIGHTING:
            raise SettingError(
                f"--client_weighting={kind}: {self.NAME} weights all clients alike; "
                f"give --client_weighting={self.WEIGHTING}, or leave it out"
            )

    def check_server(self, server: ServerOptimizer) -> None:
        """Refuses a server optimizer if the algorithm has its own server step.

        Raises:
          SettingError: a setting that is not plain SGD of rate 1.
        """
        if not self.OWN_SERVER_STEP:
            return
        given = {
            "optimizer": server.optimizer != "sgd",
            "learning_rate": server.learning_rate != 1,
            "momentum": bool(server.momentum),
            "learning_rate_schedule": server.learning_rate_schedule != "constant",
            "learning_rate_warmup_rounds": server.learning_rate_warmup_rounds > 0,
        }
        for field, is_given in given.items():
            if is_given:
                raise server.refused(
                    field, f"{self.NAME} has a server step of its own; leave it out"
                )

    def check_aggregator(self, aggregator: str) -> None:
        """Refuses an aggregator that does not fit the values that clients send or keep.

        Args:
          aggregator: its name.

        Raises:
          SettingError: the aggregator would have no effect, or would not act on the
            values that clients report or keep.
        """
        name = self.NAME
        if self.UPDATES is not None and aggregator != _MEAN:
            raise SettingError(
                f"--aggregator={aggregator}: clients of {name} send {self.UPDATES}, "
                "and the server takes the mean of these; give --aggregator=mean"
            )
        if self.KEEPS_SENT and aggregator != _MEAN:
            raise SettingError(
                f"--aggregator={aggregator}: clients of {name} keep what they sent, "
                "and the server has to add up the same values; give --aggregator=mean"
            )
        # Compression gives no guarantee that a report could break.
        if self.REPORTS is not None and aggregator not in (_MEAN, "compression"):
            raise SettingError(
                f"--aggregator={aggregator}: acts on updates alone, and clients of "
                f"{name} also send {self.REPORTS}, and the server takes the mean of "
                "these; give --aggregator=mean"
            )

    def check_compression(self, compression: str, *, error_feedback: bool) -> None:
        """Refuses compressed updates that the algorithm cannot use.

        Args:
          compression: name of the code; "none" for no compression.
          error_feedback: whether clients keep the difference that the code lost.

        Raises:
          SettingError: the clients' messages or states do not allow this compression.
        """
        if compression == "none":
            return
        name, setting = self.NAME, f"--compression={compression}"
        if self.UPDATES is not None:
            raise SettingError(
                f"{setting}: clients of {name} send {self.UPDATES}, and the server "
                "takes the mean of these; give --compression=none"
            )
        if self.REPORTS_UNCODED is not None:
            raise SettingError(
                f"{setting}: clients of {name} send {self.REPORTS_UNCODED}; give "
                "--compression=none"
            )
        if self.KEEPS_SENT:
            raise SettingError(
                f"{setting}: clients of {name} keep what they sent, and the server "
                "has to add up the same values; leave it out or choose another "
                "--algorithm"
            )
        if error_feedback and self.STATEFUL:
            raise SettingError(
                f"{setting}: clients of {name} keep a state of their own, so they "
                "cannot also keep the state of error feedback; give quantize, or "
                "random_k with --noerror_feedback, which need no state"
            )
        if self.EXCHANGES > 1:
            raise SettingError(
                f"{setting}: the server drops the updates of the first of "
                f"{self.EXCHANGES} exchanges of {name}, and error feedback would be "
                "lost with them; leave it out or choose another --algorithm"
            )


def check_sgd(client: ClientOptimizer, what: str, *, momentum: bool) -> None:
    """Refuses a client optimizer other than SGD.

    Args:
      client: the client optimizer.
      what: name of the algorithm that needs SGD, for the message.
      momentum: whether SGD may have momentum.

    Raises:
      SettingError: the optimizer is not SGD, or has momentum that is not allowed.
    """
    if client.optimizer != "sgd":
        raise client.refused("optimizer", f"{what} needs --client_optimizer=sgd")
    if client.momentum and not momentum:
        raise client.refused(
            "momentum", f"{what} needs SGD without momentum; leave it out"
        )


class AlgorithmRegistry(SettingsRegistry[AlgorithmSettings]):
    """Maps names to algorithms."""

    def add(self, chosen: type[AlgorithmSettings]) -> type[AlgorithmSettings]:
        """Adds an algorithm, under its NAME, and returns it.

        Raises:
          ValueError: the name is taken or missing, or WEIGHTING is another text.

        Example, with an algorithm that differs from FedProx in its default:
          >>> import dataclasses
          >>> @tfl.algorithms.register
          ... @dataclasses.dataclass(frozen=True)
          ... class StrongProx(tfl.algorithms.FedProx):
          ...     NAME = "strong_prox"
          ...     SUMMARY = "FedProx with a large proximal term"
          ...     proximal_strength: float = tfl.settings.real(10.0, "μ.", minimum=1)
          >>> tfl.Experiment("heart", algorithm="strong_prox").algorithm
          StrongProx()
        """
        if chosen.WEIGHTING not in (None, "uniform"):
            raise ValueError(
                f"WEIGHTING of {chosen.__name__} must be 'uniform', or None for any "
                f"weighting, got {chosen.WEIGHTING!r}"
            )
        return super().add(chosen)


# All registered algorithms by name.
ALGORITHMS = AlgorithmRegistry("algorithm")
register = ALGORITHMS.add
