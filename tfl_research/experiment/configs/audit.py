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
        "Canary clients that join the population; a fair coin decides for each whether "
        "it takes part. They should be far fewer than the model's weights.",
        minimum=2,
    )
    canary_scale: float = settings.real(
        100.0,
        "Norm of a canary's update over the l2 norm clip, and examples it claims over "
        "those that count once.",
        minimum=1,
    )
    audit_statistic: str = settings.choice(
        "mean",
        "What the lower bound judges a canary by. mean, max: of its cosines with what "
        "the rounds release; final: its cosine with the final model less the untrained "
        "one.",
        STATISTICS,
    )
    audit_confidence: float = settings.real(
        0.95, "Confidence of the lower bound and of intervals.", above=0, below=1
    )
    attack_examples: int = settings.integer(
        10_000,
        "Examples of each kind, at most, for membership inference.",
        minimum=2,
    )
    sabotage: str = settings.choice(
        "none",
        "Breaks the mechanism on purpose, to see that the audit notices: WARNING: the "
        "run's ε is then false.",
        SABOTAGES,
    )

    def weight_unit(self, weighting: Weighting) -> float:
        """Examples from which a client counts fully."""
        return weighting.weight_cap or 1.0
