"""Record-level differential privacy: DP-SGD inside every client."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Optional

from tfl_research import settings
from tfl_research.errors import SettingError
from tfl_research.experiment.configs.task import Batches
from tfl_research.privacy.accounting.events import (
    LARGEST_NOISE_MULTIPLIER,
    check_noise_multiplier,
)
from tfl_research.settings import Settings

_DEFAULT_STEPS = 10


@dataclasses.dataclass(frozen=True)
class RecordLevelPrivacy(Settings):
    """Record-level privacy: clip, noise and sampling of DP-SGD, and each client's ε.

    Example:
      >>> experiment = tfl.Experiment(
      ...     "heart",
      ...     batches=tfl.Batches(client_steps=5),
      ...     privacy=tfl.RecordLevelPrivacy(record_target_epsilon=4),
      ...     training=tfl.Training(rounds=20),
      ... )
      >>> experiment.check()
    """

    TITLE: ClassVar[str] = "Record-level privacy (DP-SGD, arXiv 1607.00133)"

    record_noise_multiplier: Optional[float] = settings.real(
        None,
        "Standard deviation of the noise on a local step's sum of gradients, divided "
        "by --record_l2_norm_clip. 0 only clips, and ε is infinite. Give this or "
        "--record_target_epsilon.",
        minimum=0,
        maximum=LARGEST_NOISE_MULTIPLIER,
    )
    record_target_epsilon: Optional[float] = settings.real(
        None,
        "Choose the noise multiplier so that all --rounds together cost no client's "
        "records more than this ε.",
        above=0,
    )
    record_delta: Optional[float] = settings.real(
        None,
        "δ of every client's guarantee. When not given (number of the client's "
        "records)^-1.1, at most 0.001.",
        above=0,
        below=1,
    )
    record_budget_epsilon: Optional[float] = settings.real(
        None,
        "Stop before the round in which some client's ε would exceed this value; "
        "never when not given.",
        above=0,
    )
    record_accountant: str = settings.choice(
        "auto", "auto is pld, which gives a smaller ε than rdp.", ("auto", "pld", "rdp")
    )
    record_ledgers: Optional[str] = settings.text(
        None,
        "Folder in which several runs over the same clients record what they spend, "
        "in one ledger for each client. --record_budget_epsilon then holds for all "
        "runs together.",
    )
    record_l2_norm_clip: float = settings.real(
        1.0, "Largest l2 norm of a record's (or microbatch's) gradient.", above=0
    )
    record_batch_size: Optional[float] = settings.real(
        None,
        "Expected number of records in a local step. Each record joins a step with "
        "the same probability: this number divided by the number of the client's "
        "records. The task's batch size when not given. --client_steps gives the "
        f"number of steps in a round ({_DEFAULT_STEPS}).",
        above=0,
    )
    microbatch_size: int = settings.integer(
        1,
        "Number of records whose mean gradient is clipped together. With more than 1 a "
        "step is cheaper, but one record can change the sum by two clips instead of "
        "one.",
        minimum=1,
    )

    def check(self) -> None:
        try:
            check_noise_multiplier(self.record_noise_multiplier or 0.0)
        except ValueError as error:
            raise self.refused("record_noise_multiplier", str(error)) from error
        noise, target = self.record_noise_multiplier, self.record_target_epsilon
        if noise is not None and target is not None:
            raise self.refused(
                "record_target_epsilon",
                "already decides the noise; leave it or --record_noise_multiplier out",
            )
        if noise is None and target is None:
            raise SettingError(
                "--record_noise_multiplier or --record_target_epsilon is missing; "
                "give one of them"
            )
        budget = self.record_budget_epsilon
        if target is not None and budget is not None and budget < target:
            raise self.refused(
                "record_budget_epsilon",
                f"is below --record_target_epsilon={target:g}, so the run would stop "
                "early; leave it out or raise it",
            )

    def steps(self, batches: Batches) -> int:
        """Returns the number of local steps in a round."""
        return batches.client_steps or _DEFAULT_STEPS
