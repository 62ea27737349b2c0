"""An aggregator that declares the plan of the noise that it adds."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Optional

import tensorflow_federated as tff

from tfl_research.aggregators.contract import UpdateAggregator, declarations

if TYPE_CHECKING:
    from tfl_research.privacy.plans.user_level import UserLevelPlan


@dataclasses.dataclass(frozen=True)
class PlannedAggregator(UpdateAggregator, tff.aggregators.WeightedAggregationFactory):
    """An aggregator with its plan; from `UserLevelPlan.build`.

    Attributes:
      inner: clips, weighs, sums and noises.
      plan: the plan of the noise that `inner` adds.
    """

    inner: tff.aggregators.WeightedAggregationFactory
    plan: Optional[UserLevelPlan] = None

    @property
    def client_members(self) -> tuple[str, ...]:
        """Names the members of a client's data that the inner aggregator needs."""
        return declarations(self.inner).client_members

    @property
    def screens_updates(self) -> bool:
        """Whether the inner aggregator handles updates that are not finite."""
        return declarations(self.inner).screens_updates

    def message_type(self, update_type: tff.Type) -> Optional[tff.Type]:
        """Returns a client's message type; None if the message is the plain update."""
        return declarations(self.inner).message_type(update_type)

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """Creates the inner aggregator's process."""
        return self.inner.create(value_type, weight_type)
