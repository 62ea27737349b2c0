"""Gives weights to canaries, which hold no examples but claim to hold many."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.aggregators.contract import UpdateAggregator, declarations
from tfl_research.privacy.mechanisms.noised_sum import np_float32

_ROLE = "role"


@dataclasses.dataclass(frozen=True)
class ClaimedWeights(UpdateAggregator, tff.aggregators.WeightedAggregationFactory):
    """An aggregator that weights canaries as if they held the claimed examples.

    `clients.CanaryWork` reports no examples, so that counts and means over examples
    only cover the clients that train. The client weighting turns the claim into a
    weight, so that the audit also tests a bound on weights.

    Attributes:
      inner: clips, weighs, sums and noises.
      weigh: computes a weight, float32 `[]`, from a number of examples, float32 `[]`;
        the same function as for clients.
      num_examples: number of examples that each canary claims, above 0.

    Raises:
      ValueError: the number of examples is not above 0 and finite.
    """

    inner: tff.aggregators.WeightedAggregationFactory
    weigh: Callable[[tf.Tensor], tf.Tensor]
    num_examples: float

    def __post_init__(self) -> None:
        if not 0 < self.num_examples < float("inf"):
            raise ValueError(
                f"num_examples must be above 0 and finite, got {self.num_examples}"
            )

    @property
    def client_members(self) -> tuple[str, ...]:
        """Names the role, and the members that the inner aggregator needs."""
        return (_ROLE, *self._inner_members)

    @property
    def screens_updates(self) -> bool:
        """Whether the inner aggregator handles updates that are not finite."""
        return declarations(self.inner).screens_updates

    @property
    def plan(self) -> Any:
        """The inner aggregator's privacy plan; None without a plan."""
        return declarations(self.inner).plan

    @property
    def _inner_members(self) -> tuple[str, ...]:
        return declarations(self.inner).client_members

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """Creates the inner process, with weights that have the `client_members`.

        Raises:
          ValueError: the weights are not structures of weight and role.
        """
        if not (isinstance(weight_type, tff.StructType) and _has_role(weight_type)):
            raise ValueError(
                f"weights must be structures of weight and role, got {weight_type}"
            )
        members = self._inner_members

        @tff.tensorflow.computation(weight_type)
        def claimed(weight: Any) -> Any:
            claim = self.weigh(tf.constant(self.num_examples, tf.float32))
            effective = tf.where(tf.equal(weight[_ROLE], 0), weight["weight"], claim)
            if not members:
                return effective
            carried = [(name, weight[name]) for name in members]
            return collections.OrderedDict([("weight", effective), *carried])

        inner = self.inner.create(value_type, claimed.type_signature.result)

        @tff.federated_computation(
            inner.initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_release(state: Any, value: Any, weight: Any) -> Any:
            return inner.next(state, value, tff.federated_map(claimed, weight))

        return tff.templates.AggregationProcess(inner.initialize, next_release)


def _has_role(weight_type: tff.StructType) -> bool:
    elements = dict(tff.structure.iter_elements(weight_type))
    return elements.get("weight") == np_float32() and _ROLE in elements
