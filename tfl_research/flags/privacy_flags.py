"""Flags of how much privacy a run gives, and how it is accounted for."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Optional

from tfl_research.flags import declare
from tfl_research.flags.declare import FlagError, FlagGroup
from tfl_research.privacy.accounting.events import (
    LARGEST_NOISE_MULTIPLIER,
    check_noise_multiplier,
)


@dataclasses.dataclass(frozen=True)
class PrivacyFlags(FlagGroup):
    """Noise, δ, budget and accountant; what is noised is in `MechanismFlags`."""

    TITLE: ClassVar[str] = "Privacy"

    noise_multiplier: Optional[float] = declare.real(
        None,
        "Standard deviation of the noise over the largest l2 norm of an update (for "
        "local_gaussian of each client's own noise); 0 clips only, and ε is infinite.",
        minimum=0,
        maximum=LARGEST_NOISE_MULTIPLIER,
    )
    target_epsilon: Optional[float] = declare.real(
        None,
        "Calibrate the noise multiplier, so that all --rounds cost this ε.",
        above=0,
    )
    delta: Optional[float] = declare.real(
        None,
        "δ of the guarantee, below 1 over the number of clients; (number of "
        "clients)^-1.1, at most 0.001, when not given.",
        above=0,
        below=1,
    )
    budget_epsilon: Optional[float] = declare.real(
        None, "Stop before the round whose ε would exceed this.", above=0
    )
    accountant: str = declare.choice(
        "auto",
        "pld is tighter; rdp covers distributed mechanisms too; auto picks the "
        "tightest that applies.",
        ("auto", "pld", "rdp"),
    )
    ledger: Optional[str] = declare.text(
        None,
        "File in which several runs over the same clients record what they spend; "
        "--budget_epsilon then holds for all of them together.",
    )

    def check(self) -> None:
        """See `FlagGroup.check`."""
        try:
            check_noise_multiplier(self.noise_multiplier or 0.0)
        except ValueError as error:
            raise self.refused("noise_multiplier", str(error)) from error
        given = self.noise_multiplier is not None, self.target_epsilon is not None
        if all(given):
            raise self.refused(
                "target_epsilon",
                "it calibrates the noise; leave --noise_multiplier or it out",
            )
        if not any(given):
            raise FlagError(
                "--noise_multiplier or --target_epsilon is missing; give one of them"
            )
        if (
            self.target_epsilon is not None
            and self.budget_epsilon is not None
            and self.budget_epsilon < self.target_epsilon
        ):
            raise self.refused(
                "budget_epsilon",
                f"is below --target_epsilon={self.target_epsilon:g}, so that the run "
                "would stop early; leave it out or raise it",
            )
