"""A mechanism with its own event, as a user's module outside of the package has it.

Every coordinate of the sum gets noise that is uniform in [-w, w], which gives no pure
differential privacy worth its name; the event charges a made-up Rényi divergence, so
that tests can follow it by hand.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, ClassVar

import numpy as np

from tfl_research import privacy, settings
from tfl_research.privacy.accounting.losses import renyi

# Tests scale the noise that is added, and what is said of it.
SCALES = {"added": 1.0, "said": 1.0}


@privacy.register_event
@dataclasses.dataclass(frozen=True)
class PebbleEvent(privacy.NoisedEvent):
    """Rounds of which each has the divergence α / z²."""

    kind: ClassVar[str] = "pebbles"
    composes_by_round: ClassVar[bool] = True

    noise_multiplier: float
    population: int
    neighbouring_relation: str = "zero_out"

    @property
    def num_clients(self):
        return self.population

    def rdp(self, rounds, orders):
        return rounds * np.asarray(orders) / self.noise_multiplier**2

    def epsilon_curve(self, rounds, delta, accountant):
        orders = renyi.default_orders()
        table = [self.rdp(number, orders) for number in range(1, rounds + 1)]
        return renyi.rdp_epsilons(orders, np.array(table), delta)

    def description(self):
        return [f"Pebbles are thrown, z = {self.noise_multiplier:g} (Stone 1900)."]


@privacy.register_mechanism
@dataclasses.dataclass(frozen=True)
class Pebbles(privacy.MechanismSettings):
    """Gaussian noise under another name."""

    NAME: ClassVar[str] = "pebbles"
    SUMMARY: ClassVar[str] = "pebbles are thrown"
    PAPERS: ClassVar[tuple[str, ...]] = ("Stone 1900",)
    SAMPLERS: ClassVar[tuple[str, ...]] = ("full", "fixed")

    roughness: float = settings.real(0.5, "How rough a pebble is.", above=0)

    def event(self, noise_multiplier, shape):
        return PebbleEvent(noise_multiplier, shape.amplification.population)

    def aggregator(self, plan, context):
        return _factory(plan, context.noise_seed)


def _factory(plan: Any, noise_seed: int) -> Any:
    import tensorflow as tf
    import tensorflow_federated as tff

    class Factory(tff.aggregators.WeightedAggregationFactory):
        def create(self, value_type, weight_type):
            stddev = (
                plan.noise_multiplier * plan.l2_norm_clip / plan.expected_cohort_size
            )

            @tff.tensorflow.computation
            def initial():
                return tf.constant([noise_seed % 2**31, 0], tf.int32)

            @tff.tensorflow.computation(np.dtype(np.int32), value_type)
            def clip(_, value):
                norm = tf.linalg.global_norm(tf.nest.flatten(value))
                factor = tf.minimum(1.0, plan.l2_norm_clip / tf.maximum(norm, 1e-9))
                return tf.nest.map_structure(lambda part: part * factor, value)

            @tff.tensorflow.computation(initial.type_signature.result, value_type)
            def release(state, total):
                parts = tf.nest.flatten(total)
                noised = [
                    part / plan.expected_cohort_size
                    + SCALES["added"]
                    * stddev
                    * tf.random.stateless_normal(part.shape, state + [0, index])
                    for index, part in enumerate(parts)
                ]
                measured = collections.OrderedDict(
                    noise_stddev=tf.constant(SCALES["said"] * stddev, tf.float32)
                )
                return (
                    state + [1, 0],
                    tf.nest.pack_sequence_as(total, noised),
                    measured,
                )

            @tff.federated_computation
            def initialize():
                return tff.federated_eval(initial, tff.SERVER)

            @tff.federated_computation(
                initialize.type_signature.result,
                tff.FederatedType(value_type, tff.CLIENTS),
                tff.FederatedType(weight_type, tff.CLIENTS),
            )
            def next_sum(state, value, weight):
                one = tff.federated_value(np.int32(0), tff.CLIENTS)
                clipped = tff.federated_map(clip, tff.federated_zip((one, value)))
                new, mean, measured = tff.federated_map(
                    release, tff.federated_zip((state, tff.federated_sum(clipped)))
                )
                return tff.templates.MeasuredProcessOutput(new, mean, measured)

            return tff.templates.AggregationProcess(initialize, next_sum)

    return Factory()
