"""Declares properties of aggregation factories that TFF's interface lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    import tensorflow_federated as tff


class UpdateAggregator:
    """Mixin of aggregation factories that declare properties beyond TFF's interface.

    TFF's factories do not have this mixin; `declarations` gives the defaults for them.
    A factory overrides a property by a property or by a class attribute:

        @dataclasses.dataclass(frozen=True)
        class Screening(UpdateAggregator, tff.aggregators.WeightedAggregationFactory):
            screens_updates = True

            def create(self, value_type, weight_type): ...
    """

    @property
    def client_members(self) -> tuple[str, ...]:
        """Members of a client's data that are sent with the weight: "seed", "role".

        If there are members, weights are structures of `weight` and the members.
        """
        return ()

    @property
    def screens_updates(self) -> bool:
        """Whether the factory handles updates that are not finite.

        Otherwise the process replaces such updates by zeros with weight 0 first.
        """
        return False

    @property
    def plan(self) -> Any:
        """The privacy plan that the factory was built from; None without a plan."""
        return None

    def message_type(self, update_type: tff.Type) -> Optional[tff.Type]:
        """Type of a client's message; None if the message is the plain update.

        Args:
          update_type: type of the client's update.
        """
        del update_type
        return None


_DEFAULTS = UpdateAggregator()


def declarations(factory: object) -> UpdateAggregator:
    """Returns the factory itself, or the defaults if it has no `UpdateAggregator`."""
    return factory if isinstance(factory, UpdateAggregator) else _DEFAULTS
