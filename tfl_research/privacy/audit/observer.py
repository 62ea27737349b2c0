"""Keeps statistics of a mechanism's releases in the mechanism's state, for audits."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import autograph
from tfl_research.aggregators.contract import UpdateAggregator, declarations
from tfl_research.clients import canary_directions as directions


@dataclasses.dataclass(frozen=True)
class CanaryObserver(UpdateAggregator, tff.aggregators.WeightedAggregationFactory):
    """An aggregator that keeps statistics of its releases in the server's state.

    Results and measurements are those of the inner aggregator, unchanged. The
    statistics are part of the state, so checkpoints have them, and a resumed run
    continues them. They are functions of the releases, so the mechanism's guarantee
    covers them:

    mean: the sum of the releases' unit vectors. Its cosine with a direction is, up to
      the length of the sum, the mean over rounds of the cosines.
    max: the largest cosine of a release with each direction (Andrew et al. 2023, arXiv
      2302.03098, section 4). The state has it only with `keep_max`, since each round
      then draws `count` times the model's size in random numbers.

    Attributes:
      inner: clips, weighs, sums and noises.
      count: number of canaries.
      seed: the seed of the canaries' directions.
      keep_max: whether the state has the largest cosines.

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
        """Names the members of a client's data that the inner aggregator needs."""
        return declarations(self.inner).client_members

    @property
    def screens_updates(self) -> bool:
        """Whether the inner aggregator handles updates that are not finite."""
        return declarations(self.inner).screens_updates

    @property
    def plan(self) -> Any:
        """The inner aggregator's privacy plan; None without a plan."""
        return declarations(self.inner).plan

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """Creates the inner process of these types, and observes its releases."""
        inner = self.inner.create(value_type, weight_type)
        seed = directions.direction_seed(self.seed)

        @tff.tensorflow.computation(value_type)
        def flatten(value: Any) -> Any:
            return tf.nest.flatten(value)

        flat = flatten.type_signature.result
        shapes = [flat[index].shape for index in range(len(flat))]

        @tff.tensorflow.computation
        def initial_statistics() -> Any:
            initial = collections.OrderedDict(
                unit_sum=[tf.zeros(shape, tf.float32) for shape in shapes]
            )
            if self.keep_max:
                initial["largest"] = tf.fill([self.count], tf.constant(-1.0))
            return initial

        @tff.tensorflow.computation(
            initial_statistics.type_signature.result,
            inner.next.type_signature.result.result.member,
        )
        def watch(statistics: Any, released: Any) -> Any:
            unit = directions.unit_vector(tf.nest.flatten(released))
            updated = collections.OrderedDict(
                unit_sum=[s + u for s, u in zip(statistics["unit_sum"], unit)]
            )
            if self.keep_max:
                cosines = directions.cosines(unit, seed, self.count)
                updated["largest"] = tf.maximum(statistics["largest"], cosines)
            return updated

        @tff.federated_computation
        def initialize() -> Any:
            canary_statistics = tff.federated_eval(initial_statistics, tff.SERVER)
            return tff.federated_zip(
                collections.OrderedDict(
                    inner=inner.initialize(), canaries=canary_statistics
                )
            )

        @tff.federated_computation(
            initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_release(state: Any, value: Any, weight: Any) -> Any:
            output = inner.next(state["inner"], value, weight)
            canary_statistics = tff.federated_map(
                watch, tff.federated_zip((state["canaries"], output.result))
            )
            return tff.templates.MeasuredProcessOutput(
                tff.federated_zip(
                    collections.OrderedDict(
                        inner=output.state, canaries=canary_statistics
                    )
                ),
                output.result,
                output.measurements,
            )

        return tff.templates.AggregationProcess(initialize, next_release)


def observed(
    state: Any, initial_weights: Any, seed: int, count: int
) -> collections.OrderedDict[str, np.ndarray]:
    """Computes every canary's cosines by statistic, from a process' final state.

    Args:
      state: `LearningAlgorithmState` of a process with a `CanaryObserver`.
      initial_weights: arrays, weights of the untrained model.
      seed: the seed of the directions.
      count: number of canaries.

    Returns:
      float64 `[count]` for "mean", "final" (the final minus the untrained model) and,
      with `keep_max`, "max".
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
    compute = autograph.function(directions.cosines)
    cosines = collections.OrderedDict(
        (name, np.asarray(compute(vector, key, count), np.float64))
        for name, vector in vectors.items()
    )
    if "largest" in statistics:
        cosines["max"] = np.asarray(statistics["largest"], np.float64)
    return cosines
