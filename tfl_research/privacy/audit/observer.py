"""Watches what a mechanism releases, for an audit, within its own state."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.aggregators.contract import UpdateAggregator, declarations
from tfl_research.clients import canary_directions as directions


@dataclasses.dataclass(frozen=True)
class CanaryObserver(UpdateAggregator, tff.aggregators.WeightedAggregationFactory):
    """Another aggregator, and statistics of its releases in the server's state.

    Results and measurements are the other's, unchanged. The statistics are part of
    the state, so that checkpoints hold them and a resumed run goes on with them. They
    are functions of what is released, which the mechanism's guarantee covers:

    mean: the sum of the releases' unit vectors. Its cosine with a direction is, up to
      its length, the mean over rounds of the cosines.
    max: of all iterates, the largest cosine with each direction (Andrew et al. 2023,
      arXiv 2302.03098, section 4). Kept where `keep_max` is set, since it costs
      `count` times the model's size in random numbers a round.

    Attributes:
      inner: clips, weighs, sums and noises.
      count: canaries.
      seed: of their directions.
      keep_max: whether the largest cosines are kept.

    Raises:
      ValueError: the inner aggregator takes no weights.
    """

    inner: tff.aggregators.WeightedAggregationFactory
    count: int
    seed: int
    keep_max: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.inner, tff.aggregators.WeightedAggregationFactory):
            raise ValueError(
                "only aggregators that take weights are audited, got "
                f"{type(self.inner).__name__}"
            )

    @property
    def client_members(self) -> tuple[str, ...]:
        """Those of the inner aggregator."""
        return declarations(self.inner).client_members

    @property
    def screens_updates(self) -> bool:
        """As the inner aggregator does."""
        return declarations(self.inner).screens_updates

    @property
    def plan(self) -> Any:
        """That of the inner aggregator."""
        return declarations(self.inner).plan

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """The inner process of these types, watched."""
        inner = self.inner.create(value_type, weight_type)
        seed = directions.direction_seed(self.seed)

        @tff.tensorflow.computation(value_type)
        def flatten(value: Any) -> Any:
            return tf.nest.flatten(value)

        flat = flatten.type_signature.result
        shapes = [flat[index].shape for index in range(len(flat))]

        @tff.tensorflow.computation
        def initial_statistics() -> Any:
            found = collections.OrderedDict(
                unit_sum=[tf.zeros(shape, tf.float32) for shape in shapes]
            )
            if self.keep_max:
                found["largest"] = tf.fill([self.count], tf.constant(-1.0))
            return found

        @tff.tensorflow.computation(
            initial_statistics.type_signature.result,
            inner.next.type_signature.result.result.member,
        )
        def watch(statistics: Any, released: Any) -> Any:
            unit = directions.unit_vector(tf.nest.flatten(released))
            found = collections.OrderedDict(
                unit_sum=[s + u for s, u in zip(statistics["unit_sum"], unit)]
            )
            if self.keep_max:
                cosines = directions.cosines(unit, seed, self.count)
                found["largest"] = tf.maximum(statistics["largest"], cosines)
            return found

        @tff.federated_computation
        def initialize() -> Any:
            own = tff.federated_eval(initial_statistics, tff.SERVER)
            return tff.federated_zip(
                collections.OrderedDict(inner=inner.initialize(), canaries=own)
            )

        @tff.federated_computation(
            initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_release(state: Any, value: Any, weight: Any) -> Any:
            output = inner.next(state["inner"], value, weight)
            own = tff.federated_map(
                watch, tff.federated_zip((state["canaries"], output.result))
            )
            return tff.templates.MeasuredProcessOutput(
                tff.federated_zip(
                    collections.OrderedDict(inner=output.state, canaries=own)
                ),
                output.result,
                output.measurements,
            )

        return tff.templates.AggregationProcess(initialize, next_release)


def observed(
    state: Any, initial_weights: Any, seed: int, count: int
) -> collections.OrderedDict[str, np.ndarray]:
    """Every canary's cosines by statistic, from the final state of a process.

    Args:
      state: `LearningAlgorithmState` of a process with a `CanaryObserver`.
      initial_weights: arrays, of the untrained model.
      seed: of the directions.
      count: canaries.

    Returns:
      float64 `[count]` of "mean", "final" (the final model less the untrained one)
      and, where it was kept, "max".
    """
    statistics = state.aggregator["canaries"]
    moved = [
        np.asarray(final) - initial
        for final, initial in zip(state.global_model_weights.trainable, initial_weights)
    ]
    vectors = {
        "mean": [np.asarray(part) for part in statistics["unit_sum"]],
        "final": moved,
    }
    key = directions.direction_seed(seed)
    compute = tf.function(directions.cosines)
    found = collections.OrderedDict(
        (name, np.asarray(compute(vector, key, count), np.float64))
        for name, vector in vectors.items()
    )
    if "largest" in statistics:
        found["max"] = np.asarray(statistics["largest"], np.float64)
    return found
