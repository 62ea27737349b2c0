"""An empirical audit with canary clients."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfl_research import settings
from tfl_research.experiment.configs.cohorts import Weighting
from tfl_research.privacy.audit.canaries import SABOTAGES, STATISTICS
from tfl_research.settings import Settings


@dataclasses.dataclass(frozen=True)
class Audit(Settings):
    """An audit: canary clients, and the attacks that look for them.

    Example:
      >>> experiment = tfl.Experiment(
      ...     "mnist",
      ...     privacy=tfl.UserLevelPrivacy("gaussian", noise_multiplier=1.0),
      ...     audit=tfl.Audit(canaries=50),
      ... )
      >>> experiment.check()
    """

    TITLE: ClassVar[str] = "Audit"

    canaries: int = settings.integer(
        200,
        "Number of canary clients that join the population. A fair coin decides for "
        "each canary whether it takes part. Give far fewer canaries than the model "
        "has weights.",
        minimum=2,
    )
    canary_scale: float = settings.real(
        100.0,
        "Norm of a canary's update, divided by the l2 norm clip. With weights, a "
        "canary also claims this many times the examples of a client with the full "
        "weight (--weight_cap, or 1).",
        minimum=1,
    )
    audit_statistic: str = settings.choice(
        "mean",
        "The score by which the lower bound judges a canary. mean and max: the mean "
        "or the largest of the canary's cosines with the releases of the rounds; "
        "final: its cosine with the difference between the final and the untrained "
        "model.",
        STATISTICS,
    )
    audit_confidence: float = settings.real(
        0.95, "Confidence of the lower bound and of intervals.", above=0, below=1
    )
    attack_examples: int = settings.integer(
        10_000,
        "Largest number of examples of each kind for membership inference.",
        minimum=2,
    )
    sabotage: str = settings.choice(
        "none",
        "Breaks the mechanism on purpose, to see that the audit notices. WARNING: the "
        "run's ε is then false.",
        SABOTAGES,
    )

    def weight_unit(self, weighting: Weighting) -> float:
        """Returns the number of examples from which on a client has weight 1."""
        return weighting.weight_cap or 1.0
