"""Settings of the optimizers of clients and server, with learning-rate schedules.

Only `Optimizer.build` and `Optimizer.schedule` import TensorFlow.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Optional

from tfl_research import settings
from tfl_research.settings import Settings

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_federated as tff

# The hyperparameters of each optimizer, without the learning rate.
_TAKEN: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum",),
    "adam": ("beta_1", "beta_2", "epsilon"),
    "yogi": ("beta_1", "beta_2", "epsilon", "initial_preconditioner"),
    "adagrad": ("epsilon", "initial_preconditioner"),
}
# TFF's names of the hyperparameters.
_ARGUMENTS = {
    "momentum": "momentum",
    "beta_1": "beta_1",
    "beta_2": "beta_2",
    "epsilon": "epsilon",
    "initial_preconditioner": "initial_preconditioner_value",
}
_SCHEDULE_TAKES: dict[str, tuple[str, ...]] = {
    "constant": (),
    "exponential": ("learning_rate_decay", "learning_rate_decay_rounds"),
    "inverse_sqrt": (),
    "cosine": ("learning_rate_decay_rounds",),
    "step": ("learning_rate_decay", "learning_rate_decay_rounds"),
}


@dataclasses.dataclass(frozen=True)
class Optimizer(Settings):
    """An optimizer with its hyperparameters and learning-rate schedule.

    Let t be the round number from 0, η the learning rate, γ the decay and T the decay
    rounds. The learning rate of a round is: constant η; exponential η γ^(t/T); step
    η γ^⌊t/T⌋; inverse_sqrt η / √(t+1); cosine η (1 + cos(π min(t/T, 1))) / 2. In the
    first W warm-up rounds η is multiplied by (t+1)/(W+1). After the warm-up, t counts
    from the end of the warm-up. Rounds that do not move the model count too. Under an
    algorithm of several exchanges (mime), t counts the paper's rounds.

    Example:
      >>> tfl.Optimizer("sgd", learning_rate=0.1, momentum=0.9).momentum
      0.9
      >>> halved = tfl.Optimizer(
      ...     "sgd",
      ...     learning_rate=0.1,
      ...     learning_rate_schedule="step",
      ...     learning_rate_decay=0.5,
      ...     learning_rate_decay_rounds=10,
      ... )
      >>> rate = halved.schedule()
      >>> [round(float(rate(t)), 4) for t in (0, 9, 10, 20)]
      [0.1, 0.1, 0.05, 0.025]
    """

    optimizer: str = settings.choice("sgd", "Optimizer.", tuple(_TAKEN))
    learning_rate: float = settings.real(0.1, "Learning rate η.", minimum=0)
    momentum: Optional[float] = settings.real(
        None, "Momentum of sgd; 0 when not given.", minimum=0, below=1
    )
    beta_1: Optional[float] = settings.real(
        None,
        "First-moment decay of adam and yogi; 0.9 when not given.",
        minimum=0,
        below=1,
    )
    beta_2: Optional[float] = settings.real(
        None,
        "Second-moment decay of adam and yogi; 0.999 when not given.",
        minimum=0,
        below=1,
    )
    epsilon: Optional[float] = settings.real(
        None,
        "Adaptivity τ of adam (1e-7), yogi (1e-3) and adagrad (1e-7). adagrad adds τ "
        "before the root is taken, so its τ is about the square of the paper's τ.",
        above=0,
    )
    initial_preconditioner: Optional[float] = settings.real(
        None, "Initial second moment of yogi (1e-6) and adagrad (0.1).", minimum=0
    )
    learning_rate_schedule: str = settings.choice(
        "constant", "How the learning rate changes over rounds.", tuple(_SCHEDULE_TAKES)
    )
    learning_rate_decay: Optional[float] = settings.real(
        None, "Factor γ of exponential and step.", above=0, maximum=1
    )
    learning_rate_decay_rounds: Optional[int] = settings.integer(
        None, "Rounds T of exponential, step and cosine.", minimum=1
    )
    learning_rate_warmup_rounds: int = settings.integer(
        0, "Rounds of linear warm-up before the schedule.", minimum=0
    )

    def check(self) -> None:
        taken = _TAKEN[self.optimizer]
        for field in dict.fromkeys(f for fields in _TAKEN.values() for f in fields):
            if getattr(self, field) is not None and field not in taken:
                raise self.refused(
                    field,
                    f"{self.optimizer} has no such hyperparameter; leave it out or "
                    f"choose another {self.flag('optimizer')}",
                )
        schedule = self.learning_rate_schedule
        needed = _SCHEDULE_TAKES[schedule]
        for field in ("learning_rate_decay", "learning_rate_decay_rounds"):
            given = getattr(self, field) is not None
            if given and field not in needed:
                raise self.refused(
                    field,
                    f"the {schedule} schedule has no such parameter; leave it out or "
                    f"choose another {self.flag('learning_rate_schedule')}",
                )
            if field in needed and not given:
                raise self.refused(
                    "learning_rate_schedule", f"needs {self.flag(field)} too; give it"
                )

    @property
    def scheduled(self) -> bool:
        """Whether the learning rate differs between rounds."""
        return (
            self.learning_rate_schedule != "constant"
            or self.learning_rate_warmup_rounds > 0
        )

    def schedule(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Returns the learning rate's function: (round int32, from 0) -> float32.

        The class' docstring has the formulas. This imports TensorFlow.
        """
        import tensorflow as tf

        warmup = float(self.learning_rate_warmup_rounds)
        decay = self.learning_rate_decay or 1.0
        period = float(self.learning_rate_decay_rounds or 1)

        def factor(t: tf.Tensor) -> tf.Tensor:
            kind = self.learning_rate_schedule
            if kind == "exponential":
                return tf.pow(decay, t / period)
            if kind == "step":
                return tf.pow(decay, tf.floor(t / period))
            if kind == "inverse_sqrt":
                return tf.math.rsqrt(t + 1.0)
            if kind == "cosine":
                return 0.5 * (1.0 + tf.cos(math.pi * tf.minimum(t / period, 1.0)))
            return tf.ones_like(t)

        def rate(round_number: tf.Tensor) -> tf.Tensor:
            t = tf.cast(round_number, tf.float32)
            rising = tf.minimum((t + 1.0) / (warmup + 1.0), 1.0)
            return self.learning_rate * rising * factor(tf.maximum(t - warmup, 0.0))

        return rate

    def build(self) -> tff.learning.optimizers.Optimizer:
        """Builds TFF's optimizer with these hyperparameters, without the schedule.

        Imports TensorFlow.
        """
        import tensorflow_federated as tff

        builders: dict[str, Callable[..., tff.learning.optimizers.Optimizer]] = {
            "sgd": tff.learning.optimizers.build_sgdm,
            "adam": tff.learning.optimizers.build_adam,
            "yogi": tff.learning.optimizers.build_yogi,
            "adagrad": tff.learning.optimizers.build_adagrad,
        }
        arguments: dict[str, Any] = {
            argument: getattr(self, field)
            for field, argument in _ARGUMENTS.items()
            if getattr(self, field) is not None
        }
        return builders[self.optimizer](learning_rate=self.learning_rate, **arguments)

    def of_steps(self) -> tuple[str, ...]:
        """Returns the fields that only the optimizer's own steps read.

        A schedule, which other optimizers can follow too, reads the learning rate.
        """
        names = ("optimizer", *_ARGUMENTS)
        return names if self.scheduled else (*names, "learning_rate")


@dataclasses.dataclass(frozen=True)
class ClientOptimizer(Optimizer):
    """The optimizer of the local steps; its state is new in each round."""

    TITLE: ClassVar[str] = "Client optimizer"
    PREFIX: ClassVar[str] = "client_"

    gradient_clip: Optional[float] = settings.real(
        None,
        "Largest global l2 norm of a local step's gradient; unbounded when not given.",
        above=0,
    )


@dataclasses.dataclass(frozen=True)
class ServerOptimizer(Optimizer):
    """The server's optimizer, which takes the negated aggregate (FedOpt)."""

    TITLE: ClassVar[str] = "Server optimizer"
    PREFIX: ClassVar[str] = "server_"

    learning_rate: float = settings.real(1.0, "Learning rate η.", minimum=0)


def SGD(
    learning_rate: float, momentum: Optional[float] = None, **more: Any
) -> Optimizer:
    """Makes stochastic gradient descent.

    Args:
      learning_rate: η, the learning rate.
      momentum: in [0, 1); 0 when not given.
      **more: further settings of `Optimizer`.

    Example:
      >>> experiment = tfl.Experiment(
      ...     "heart",
      ...     client_optimizer=tfl.SGD(0.1),
      ...     server_optimizer=tfl.SGD(1, momentum=0.9, learning_rate_warmup_rounds=5),
      ... )
      >>> experiment.flat()["server_momentum"]
      0.9
    """
    return Optimizer("sgd", learning_rate, momentum=momentum, **more)


def Adam(learning_rate: float, **more: Any) -> Optimizer:
    """Makes Adam, for example `Adam(0.01, epsilon=1e-3)`.

    Args:
      learning_rate: η, the learning rate.
      **more: further settings of `Optimizer`.

    Example:
      >>> server = tfl.Adam(0.01, epsilon=1e-3)
      >>> experiment = tfl.Experiment("heart", server_optimizer=server)
      >>> experiment.flat()["server_learning_rate"]
      0.01
    """
    return Optimizer("adam", learning_rate, **more)


def Yogi(learning_rate: float, **more: Any) -> Optimizer:
    """Makes Yogi, for example `Yogi(0.01)`.

    Args:
      learning_rate: η, the learning rate.
      **more: further settings of `Optimizer`.

    Example:
      >>> server = tfl.Yogi(0.01)
      >>> experiment = tfl.Experiment("heart", server_optimizer=server)
      >>> experiment.flat()["server_learning_rate"]
      0.01
    """
    return Optimizer("yogi", learning_rate, **more)


def Adagrad(learning_rate: float, **more: Any) -> Optimizer:
    """Makes Adagrad, for example `Adagrad(0.1)`.

    Args:
      learning_rate: η, the learning rate.
      **more: further settings of `Optimizer`.

    Example:
      >>> server = tfl.Adagrad(0.1)
      >>> experiment = tfl.Experiment("heart", server_optimizer=server)
      >>> experiment.flat()["server_learning_rate"]
      0.1
    """
    return Optimizer("adagrad", learning_rate, **more)
