"""DP-SGD as client work, with the plan of the noise that it adds."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Optional

from tfl_research.clients import RecordLevelTraining

if TYPE_CHECKING:
    from tfl_research.privacy.plans.record_level import RecordLevelPlan


@dataclasses.dataclass(frozen=True)
class PlannedTraining(RecordLevelTraining):
    """`clients.RecordLevelTraining` of a plan; from `RecordLevelPlan.client_work`.

    Attributes:
      plan: the plan of the noise that the training adds.
    """

    plan: Optional[RecordLevelPlan] = None
