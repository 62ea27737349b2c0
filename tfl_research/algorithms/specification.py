"""What an algorithm's specification says: parameters, builder, what it fits with.

Without TensorFlow, so that an experiment is checked before TensorFlow is imported.
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
    """What an experiment gives to the builder of its algorithm.

    Attributes:
      steps: the clients' local optimizer steps.
      server: the server optimizer.
      population: number of all clients.
      task: data, model and objective.
      seed: of initial weights that the algorithm draws.
    """

    steps: LocalSteps
    server: OptimizerStep
    population: int
    task: Task
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class AlgorithmSettings(NamedSettings):
    """A federated algorithm: its parameters, its builder and what it fits with.

    A subclass is a frozen dataclass whose fields are the parameters. It says by the
    attributes below what it fits with, and builds client work and server work in
    `build`. Registered with `algorithms.register`, it is chosen by its NAME.

    Attributes:
      WEIGHTING: the client weighting that the paper's argument needs, "uniform"; None
        leaves the choice open.
      REPORTS: what clients send beside their update, in words, and of which the
        server takes the mean; None for nothing.
      UPDATES: what clients send in place of an update of the whole model, in words
        ("an update for each cluster"); None for an update of the whole model.
      REPORTS_UNCODED: what clients report about their update before a compression
        changes it, in words, so that compression is refused; None for nothing.
      STATEFUL: whether clients keep a state of the algorithm between rounds.
      KEEPS_SENT: whether that state depends on what the client sent, so that the
        server must add up exactly what was sent.
      EXCHANGES: rounds of the process, all with the same cohort, that one round of
        the paper takes.
      OWN_SERVER_STEP: whether the algorithm takes the server's step itself and leaves
        no room for a server optimizer.
      PERSONAL: whether clients end up with models of their own.
      ONLY_UPDATES_LEAVE: whether clients send nothing but an update of the whole
        model and keep no state. A user-level mechanism bounds and noises updates
        only, so its guarantee covers such algorithms and no others.

    Example:
      >>> import dataclasses
      >>> @tfl.algorithms.register
      ... @dataclasses.dataclass(frozen=True)
      ... class Halved(tfl.algorithms.AlgorithmSettings):
      ...     NAME = "halved"
      ...     SUMMARY = "FedAvg with a part of the update"
      ...     ONLY_UPDATES_LEAVE = True
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
    OWN_SERVER_STEP: ClassVar[bool] = False
    PERSONAL: ClassVar[bool] = False
    ONLY_UPDATES_LEAVE: ClassVar[bool] = False

    def build(self, context: AlgorithmContext) -> Algorithm:
        """Client work and server work; imports TensorFlow.

        Raises:
          ValueError: local steps that the algorithm does not take.
        """
        raise NotImplementedError(f"{type(self).__name__}.build")

    @property
    def buffering(self) -> Optional[tuple[int, int]]:
        """Devices that train at once and the largest staleness in server steps.

        None for algorithms whose rounds are synchronous.
        """
        return None

    @classmethod
    def looks_at_model(cls) -> bool:
        """Whether `check_model` looks at the model, which imports TensorFlow."""
        return cls.check_model is not AlgorithmSettings.check_model

    def check_model(self, specs: Sequence[tf.TensorSpec]) -> None:
        """Refuses a model that the algorithm cannot take apart.

        Args:
          specs: shapes and dtypes of the model's weights, in order.

        Raises:
          SettingError: as described.
        """

    def check_clients(self, client: ClientOptimizer) -> None:
        """Refuses local steps other than those that the algorithm assumes.

        Raises:
          SettingError: as described.
        """

    def check_weighting(self, kind: str) -> None:
        """Refuses a client weighting other than the algorithm's own.

        Raises:
          SettingError: as described.
        """
        if self.WEIGHTING is not None and kind != self.WEIGHTING:
            raise SettingError(
                f"--client_weighting={kind}: {self.NAME} weighs all clients alike; "
                f"give --client_weighting={self.WEIGHTING}, or leave it out"
            )

    def check_server(self, server: ServerOptimizer) -> None:
        """Refuses a server optimizer where the algorithm takes the step itself.

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
        """Refuses an aggregator where clients send or keep more than updates.

        Args:
          aggregator: its name.

        Raises:
          SettingError: an aggregator that would change nothing, or leave out what
            clients report or keep beside their updates.
        """
        name = self.NAME
        if self.UPDATES is not None and aggregator != _MEAN:
            raise SettingError(
                f"--aggregator={aggregator}: clients of {name} send {self.UPDATES}, "
                "of which the server takes the mean; give --aggregator=mean"
            )
        if self.KEEPS_SENT and aggregator != _MEAN:
            raise SettingError(
                f"--aggregator={aggregator}: clients of {name} keep what they sent, "
                "and the server has to add up the same; give --aggregator=mean"
            )
        # Quantising updates gives no guarantee that a report could break.
        if self.REPORTS is not None and aggregator not in (_MEAN, "compression"):
            raise SettingError(
                f"--aggregator={aggregator}: acts on updates alone, and clients of "
                f"{name} also send {self.REPORTS}, of which the server takes the mean; "
                "give --aggregator=mean"
            )

    def check_compression(self, compression: str, *, error_feedback: bool) -> None:
        """Refuses compressed updates that the algorithm cannot use.

        Args:
          compression: name of the code, "none" for updates as they are.
          error_feedback: whether clients keep what the code lost.

        Raises:
          SettingError: as described.
        """
        if compression == "none":
            return
        name, setting = self.NAME, f"--compression={compression}"
        if self.UPDATES is not None:
            raise SettingError(
                f"{setting}: clients of {name} send {self.UPDATES}, of which the "
                "server takes the mean; give --compression=none"
            )
        if self.REPORTS_UNCODED is not None:
            raise SettingError(
                f"{setting}: clients of {name} send {self.REPORTS_UNCODED}; give "
                "--compression=none"
            )
        if self.KEEPS_SENT:
            raise SettingError(
                f"{setting}: clients of {name} keep what they sent, and the server has "
                "to add up the same; leave it out or choose another --algorithm"
            )
        if error_feedback and self.STATEFUL:
            raise SettingError(
                f"{setting}: clients of {name} keep a state of their own, beside which "
                "none is kept for error feedback; give quantize, or random_k with "
                "--noerror_feedback, which need none"
            )
        if self.EXCHANGES > 1:
            raise SettingError(
                f"{setting}: the server drops the updates of the first of "
                f"{self.EXCHANGES} exchanges of {name}, with what clients fed back; "
                "leave it out or choose another --algorithm"
            )


def check_sgd(client: ClientOptimizer, what: str, *, momentum: bool) -> None:
    """Refuses a client optimizer other than SGD.

    Args:
      client: the client optimizer.
      what: what needs SGD, for the message.
      momentum: whether SGD may have momentum.

    Raises:
      SettingError: as described.
    """
    if client.optimizer != "sgd":
        raise client.refused("optimizer", f"{what} needs --client_optimizer=sgd")
    if client.momentum and not momentum:
        raise client.refused(
            "momentum", f"{what} needs SGD without momentum; leave it out"
        )


# Every algorithm by name.
ALGORITHMS: SettingsRegistry[AlgorithmSettings] = SettingsRegistry("algorithm")
register = ALGORITHMS.add
