"""Parts that a user's module outside of the package registers: one of each kind.

A mechanism with an accounting event of its own, a robust rule, an algorithm and a
task. Tests name this module with --plugin or import it.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, ClassVar

import numpy as np

from tfl_research import aggregators, algorithms, privacy, settings, tasks
from tfl_research.privacy.accounting.losses import renyi

# What the mechanism adds, and what it says that it adds, over what is charged.
SCALES = {"added": 1.0, "said": 1.0}


@privacy.register_event
@dataclasses.dataclass(frozen=True)
class CoinEvent(privacy.NoisedEvent):
    """Rounds of which each has the Rényi divergence α / (2 z²) of a Gaussian."""

    kind: ClassVar[str] = "coins"
    composes_by_round: ClassVar[bool] = True

    noise_multiplier: float
    population: int
    neighbouring_relation: str = "zero_out"

    @property
    def num_clients(self) -> int:
        return self.population

    def rdp(self, rounds: int, orders: np.ndarray) -> np.ndarray:
        return rounds * np.asarray(orders) / (2 * self.noise_multiplier**2)

    def epsilon_curve(self, rounds: int, delta: float, accountant: str) -> np.ndarray:
        orders = renyi.default_orders()
        table = [self.rdp(number, orders) for number in range(1, rounds + 1)]
        return renyi.rdp_epsilons(orders, np.array(table), delta)

    def description(self) -> list[str]:
        return [f"Coins are thrown, z = {self.noise_multiplier:g}."]


@privacy.register_mechanism
@dataclasses.dataclass(frozen=True)
class Coins(privacy.MechanismSettings):
    """Gaussian noise of a module of one's own."""

    NAME: ClassVar[str] = "coins"
    SUMMARY: ClassVar[str] = "coins are thrown"
    SAMPLERS: ClassVar[tuple[str, ...]] = ("full", "fixed")

    edge: float = settings.real(0.5, "How often a coin stands on its edge.", above=0)

    def event(self, noise_multiplier: float, shape: Any) -> CoinEvent:
        return CoinEvent(noise_multiplier, shape.amplification.population)

    def aggregator(self, plan: Any, context: Any) -> Any:
        return _coins(plan, context.noise_seed)


def _coins(plan: Any, noise_seed: int) -> Any:
    import tensorflow as tf
    import tensorflow_federated as tff

    stddev = plan.noise_multiplier * plan.l2_norm_clip / plan.expected_cohort_size

    class CoinFactory(tff.aggregators.WeightedAggregationFactory):
        def create(self, value_type: Any, weight_type: Any) -> Any:
            @tff.tensorflow.computation
            def initial() -> Any:
                return tf.constant([noise_seed % 2**31, 0], tf.int32)

            state_type = initial.type_signature.result

            @tff.tensorflow.computation(value_type)
            def clip(value: Any) -> Any:
                norm = tf.linalg.global_norm(tf.nest.flatten(value))
                factor = tf.minimum(1.0, plan.l2_norm_clip / tf.maximum(norm, 1e-9))
                return tf.nest.map_structure(lambda part: part * factor, value)

            @tff.tensorflow.computation(state_type, value_type)
            def noised(state: Any, total: Any) -> Any:
                flat = tf.nest.flatten(total)
                scale = tf.constant(stddev, tf.float32)
                released = [
                    part / plan.expected_cohort_size
                    + tf.random.stateless_normal(tf.shape(part), state + [0, i])
                    * scale
                    * SCALES["added"]
                    for i, part in enumerate(flat)
                ]
                said = collections.OrderedDict(noise_stddev=scale * SCALES["said"])
                packed = tf.nest.pack_sequence_as(total, released)
                return state + [0, 1000], packed, said

            @tff.federated_computation
            def initialize() -> Any:
                return tff.federated_eval(initial, tff.SERVER)

            @tff.federated_computation(
                initialize.type_signature.result,
                tff.FederatedType(value_type, tff.CLIENTS),
                tff.FederatedType(weight_type, tff.CLIENTS),
            )
            def next_round(state: Any, value: Any, weight: Any) -> Any:
                total = tff.federated_sum(tff.federated_map(clip, value))
                done = tff.federated_map(noised, (state, total))
                return tff.templates.MeasuredProcessOutput(done[0], done[1], done[2])

            return tff.templates.AggregationProcess(initialize, next_round)

    return CoinFactory()


@aggregators.register
@dataclasses.dataclass(frozen=True)
class Midrange(aggregators.RuleSettings):
    """The middle between the least and the largest value of every coordinate."""

    NAME = "midrange"
    SUMMARY = "middle between the least and the largest value"
    PER_BYZANTINE, AT_LEAST, SOURCE = 0, 1, "no robust rule"

    stretch: float = settings.real(1.0, "Factor of the result.", above=0)

    def apply(self, rows: Any, *, center: Any = None) -> Any:
        import tensorflow as tf

        there = rows.present[:, None]
        least = tf.reduce_min(tf.where(there, rows.values, np.inf), axis=0)
        most = tf.reduce_max(tf.where(there, rows.values, -np.inf), axis=0)
        return self.stretch * (least + most) / 2


@algorithms.register
@dataclasses.dataclass(frozen=True)
class Damped(algorithms.AlgorithmSettings):
    """FedAvg of which the server takes a part of the update."""

    NAME = "damped"
    SUMMARY = "a part of the update"
    ONLY_UPDATES_LEAVE = True
    OWN_SERVER_STEP = True

    damping: float = settings.real(0.5, "Part of the update that is taken.", above=0)

    def build(self, context: algorithms.AlgorithmContext) -> algorithms.Algorithm:
        import tensorflow_federated as tff

        from tfl_research import clients, processes

        rate = tff.learning.optimizers.build_sgdm(self.damping)
        return algorithms.Algorithm(
            clients.LocalTraining(context.steps), processes.OptimizerStep(rate)
        )


def build_points(*, seed: int, slope: float = 1.0) -> tasks.Task:
    """Eight clients with points on either side of a line."""
    generator = np.random.default_rng(seed)
    clients = {}
    for number in range(8):
        x = generator.normal(size=(24, 2)).astype(np.float32)
        clients[f"client {number}"] = {
            "x": x,
            "y": (x[:, 1] > slope * x[:, 0]).astype(np.int32),
        }
    return tasks.from_arrays(clients, model=build_model, name="points", seed=seed)


def build_model() -> Any:
    import tensorflow as tf

    return tf.keras.Sequential(
        [tf.keras.layers.InputLayer((2,)), tf.keras.layers.Dense(2)]
    )


tasks.register("points", build_points)
