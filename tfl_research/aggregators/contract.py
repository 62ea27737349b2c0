"""What an aggregation factory may declare beside TFF's interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    import tensorflow_federated as tff


class UpdateAggregator:
    """Mixin of aggregation factories that declare more than TFF's interface has.

    TFF's own factories declare nothing: `declarations` gives the defaults for them.
    A factory overrides a property by a property or by a class attribute.

        @dataclasses.dataclass(frozen=True)
        class Screening(UpdateAggregator, tff.aggregators.WeightedAggregationFactory):
            screens_updates = True

            def create(self, value_type, weight_type): ...
    """

    @property
    def client_members(self) -> tuple[str, ...]:
        """Members of a client's data that the weights carry, "seed" or "role".

        With some, weights are structures of `weight` and of these members.
        """
        return ()

    @property
    def screens_updates(self) -> bool:
        """Whether the factory takes updates that are not finite.

        Otherwise they are replaced by zeros of weight 0 before it sees them.
        """
        return False

    @property
    def plan(self) -> Any:
        """The privacy plan that the factory was built from; None without one."""
        return None

    def message_type(self, update_type: tff.Type) -> Optional[tff.Type]:
        """Type of what a client sends of an update; None for the update as it is.

        Args:
          update_type: of the client's update.
        """
        del update_type
        return None


_NOTHING = UpdateAggregator()


def declarations(factory: object) -> UpdateAggregator:
    """What a factory declares: itself, or the defaults for a factory of TFF's own."""
    return factory if isinstance(factory, UpdateAggregator) else _NOTHING
