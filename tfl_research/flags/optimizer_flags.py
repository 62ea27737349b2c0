"""Flags of the client's and the server's optimizer and learning-rate schedule."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Optional

from tfl_research.flags import declare
from tfl_research.flags.declare import FlagGroup

# Which hyperparameters each optimizer has, besides its learning rate.
_TAKEN = {
    "sgd": ("momentum",),
    "adam": ("beta_1", "beta_2", "epsilon"),
    "yogi": ("beta_1", "beta_2", "epsilon", "initial_preconditioner"),
    "adagrad": ("epsilon", "initial_preconditioner"),
}
_SCHEDULE_TAKES = {
    "constant": (),
    "exponential": ("learning_rate_decay", "learning_rate_decay_rounds"),
    "inverse_sqrt": (),
    "cosine": ("learning_rate_decay_rounds",),
    "step": ("learning_rate_decay", "learning_rate_decay_rounds"),
}


@dataclasses.dataclass(frozen=True)
class OptimizerFlags(FlagGroup):
    """An optimizer; use `ClientOptimizerFlags` and `ServerOptimizerFlags`.

    With t counting rounds from 0, η the learning rate, γ the decay, T the decay
    rounds, the learning rate of a round is: constant η; exponential η γ^(t/T); step
    η γ^⌊t/T⌋; inverse_sqrt η / √(t+1); cosine η (1 + cos(π min(t/T, 1))) / 2. In the
    first W warm-up rounds it is multiplied by (t+1)/(W+1), and t then counts from
    the warm-up's end.
    """

    optimizer: str = declare.choice("sgd", "Optimizer.", tuple(_TAKEN))
    learning_rate: float = declare.real(0.1, "Learning rate η.", minimum=0)
    momentum: Optional[float] = declare.real(
        None, "Momentum of sgd; 0 when not given.", minimum=0, below=1
    )
    beta_1: Optional[float] = declare.real(
        None, "First-moment decay of adam and yogi; 0.9.", minimum=0, below=1
    )
    beta_2: Optional[float] = declare.real(
        None, "Second-moment decay of adam and yogi; 0.999.", minimum=0, below=1
    )
    epsilon: Optional[float] = declare.real(
        None,
        "Adaptivity τ of adam (1e-7), yogi (1e-3) and adagrad (1e-7, added before the "
        "root is taken).",
        above=0,
    )
    initial_preconditioner: Optional[float] = declare.real(
        None, "Initial second moment of yogi (1e-6) and adagrad (0.1).", minimum=0
    )
    learning_rate_schedule: str = declare.choice(
        "constant", "How the learning rate changes over rounds.", tuple(_SCHEDULE_TAKES)
    )
    learning_rate_decay: Optional[float] = declare.real(
        None, "Factor γ of exponential and step.", above=0, maximum=1
    )
    learning_rate_decay_rounds: Optional[int] = declare.integer(
        None, "Rounds T of exponential, step and cosine.", minimum=1
    )
    learning_rate_warmup_rounds: int = declare.integer(
        0, "Rounds of linear warm-up before the schedule.", minimum=0
    )

    def check(self) -> None:
        """See `FlagGroup.check`."""
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
                    "learning_rate_schedule", f"needs {self.flag(field)} too"
                )

    @property
    def scheduled(self) -> bool:
        """Whether the learning rate differs between rounds."""
        return (
            self.learning_rate_schedule != "constant"
            or self.learning_rate_warmup_rounds > 0
        )


@dataclasses.dataclass(frozen=True)
class ClientOptimizerFlags(OptimizerFlags):
    """The optimizer of the local steps; its state is new in each round."""

    TITLE: ClassVar[str] = "Client optimizer"
    PREFIX: ClassVar[str] = "client_"

    gradient_clip: Optional[float] = declare.real(
        None, "Largest global l2 norm of a local step's gradient.", above=0
    )


@dataclasses.dataclass(frozen=True)
class ServerOptimizerFlags(OptimizerFlags):
    """The optimizer that is applied to the negated aggregate (FedOpt)."""

    TITLE: ClassVar[str] = "Server optimizer"
    PREFIX: ClassVar[str] = "server_"

    learning_rate: float = declare.real(1.0, "Learning rate η.", minimum=0)
