"""What the flags become in TensorFlow Federated.

Imported once all flags are checked, since it imports TensorFlow.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import aggregators, clients, privacy, processes
from tfl_research.flags import mechanism_plan
from tfl_research.flags.aggregator_flags import (
    REPEATED,
    ROOT_ROLE,
    ROOTED,
    AggregatorFlags,
)
from tfl_research.flags.assembly import Setup
from tfl_research.flags.cohort_flags import WeightingFlags
from tfl_research.flags.optimizer_flags import (
    ClientOptimizerFlags,
    OptimizerFlags,
    ServerOptimizerFlags,
)
from tfl_research.flags.private_assembly import PrivacyPlan
from tfl_research.flags.record_privacy_flags import RecordPrivacyFlags
from tfl_research.privacy import Mechanism
from tfl_research.processes.fed_avg import Aggregator
from tfl_research.tasks import Task

# The smoothing of a geometric median by secure sums, which round to 2^-31: distances
# between updates below it count as this.
_SECURE_SMOOTHING = 1e-3
_BUILD = {
    "sgd": tff.learning.optimizers.build_sgdm,
    "adam": tff.learning.optimizers.build_adam,
    "yogi": tff.learning.optimizers.build_yogi,
    "adagrad": tff.learning.optimizers.build_adagrad,
}
_ARGUMENTS = {
    "momentum": "momentum",
    "beta_1": "beta_1",
    "beta_2": "beta_2",
    "epsilon": "epsilon",
    "initial_preconditioner": "initial_preconditioner_value",
}


def learning_rate_schedule(
    flags: OptimizerFlags,
) -> Callable[[tf.Tensor], tf.Tensor]:
    """The learning rate of a round: (round number int32, from 0) -> float32.

    See `OptimizerFlags` for the formulas.
    """
    warmup = float(flags.learning_rate_warmup_rounds)
    decay = flags.learning_rate_decay or 1.0
    period = float(flags.learning_rate_decay_rounds or 1)

    def factor(t: tf.Tensor) -> tf.Tensor:
        kind = flags.learning_rate_schedule
        if kind == "exponential":
            return tf.pow(decay, t / period)
        if kind == "step":
            return tf.pow(decay, tf.floor(t / period))
        if kind == "inverse_sqrt":
            return tf.math.rsqrt(t + 1.0)
        if kind == "cosine":
            return 0.5 * (1.0 + tf.cos(math.pi * tf.minimum(t / period, 1.0)))
        return tf.ones_like(t)

    def schedule(round_number: tf.Tensor) -> tf.Tensor:
        t = tf.cast(round_number, tf.float32)
        rising = tf.minimum((t + 1.0) / (warmup + 1.0), 1.0)
        return flags.learning_rate * rising * factor(tf.maximum(t - warmup, 0.0))

    return schedule


def _optimizer(flags: OptimizerFlags) -> tff.learning.optimizers.Optimizer:
    arguments: dict[str, Any] = {
        argument: getattr(flags, field)
        for field, argument in _ARGUMENTS.items()
        if getattr(flags, field) is not None
    }
    return _BUILD[flags.optimizer](learning_rate=flags.learning_rate, **arguments)


def server_optimizer(flags: ServerOptimizerFlags) -> tff.learning.optimizers.Optimizer:
    """The server's optimizer, with its schedule."""
    optimizer = _optimizer(flags)
    if flags.scheduled:
        return tff.learning.optimizers.schedule_learning_rate(
            optimizer, learning_rate_schedule(flags)
        )
    return optimizer


def local_steps(flags: ClientOptimizerFlags) -> clients.LocalSteps:
    """The client's optimizer, with its schedule and gradient clipping."""
    schedule = learning_rate_schedule(flags) if flags.scheduled else None
    return clients.LocalSteps(_optimizer(flags), flags.gradient_clip, schedule)


def client_work(
    flags: ClientOptimizerFlags, *, proximal_strength: float = 0.0
) -> clients.ClientWork:
    """Local training with the client's optimizer, schedule and gradient clipping."""
    return clients.LocalTraining(local_steps(flags), proximal_strength)


def record_level_work(
    flags: RecordPrivacyFlags, parts: Setup, *, noise_multiplier: float
) -> clients.ClientWork:
    """DP-SGD with the client's optimizer and schedule.

    Args:
      flags: clipping.
      parts: of the experiment; its task's local steps are drawn by Poisson sampling.
      noise_multiplier: given or calibrated.
    """
    return clients.record_level_training(
        optimizer=_optimizer(parts.client),
        batching=parts.task.train.batching,
        l2_norm_clip=flags.record_l2_norm_clip,
        noise_multiplier=noise_multiplier,
        learning_rate_schedule=(
            learning_rate_schedule(parts.client) if parts.client.scheduled else None
        ),
        report_metrics=not parts.run.withhold_train_metrics,
    )


def client_weighting(flags: WeightingFlags) -> processes.ClientWeighting:
    """How much a client counts."""
    return processes.ClientWeighting(flags.client_weighting, flags.weight_cap)


def aggregator(flags: AggregatorFlags, parts: Optional[Setup] = None) -> Aggregator:
    """The aggregation factory of that name.

    Args:
      flags: the name and its parameters.
      parts: the sampler, whose largest cohort a rule must hold, the weights and the
        seed; needed by the robust rules that stack updates.

    Raises:
      ValueError: a robust rule without parts.
    """
    if flags.aggregator == REPEATED:
        steps = flags.weiszfeld_steps or 1
        if not flags.secure_sums:
            return aggregators.RepeatedMeanFactory(steps)
        # Whatever a client of a weight of at most 1 sends is within these bounds.
        sums = tff.aggregators.SecureSumFactory(1.0, -1.0)
        return aggregators.RepeatedMeanFactory(steps, _SECURE_SMOOTHING, sums)
    if not flags.is_stacked and flags.aggregator == "norm_clipping":
        return aggregators.NormClippingFactory(flags.clip_radius or 0.0)
    if not flags.is_stacked and flags.aggregator != ROOTED:
        return getattr(aggregators, flags.aggregator)()
    if parts is None:
        raise ValueError(f"{flags.aggregator} needs the sampler, got no parts")
    if flags.aggregator == ROOTED:
        return aggregators.TrustedRootFactory(
            parts.sampler.maximum_cohort_size, ROOT_ROLE
        )
    weighted = parts.weighting.client_weighting != "uniform"
    return aggregators.StackingFactory(
        flags.rule(weighted=weighted, seed=parts.run.seed),
        capacity=parts.sampler.maximum_cohort_size,
        on_breakdown=flags.policy(weighted=weighted),
        smallest_cohort=parts.sampler.minimum_cohort_size,
    )


def model_dimension(task: Task) -> int:
    """Number of scalars in the task's trainable weights."""
    specs = tf.nest.flatten(processes.functional_model(task).weight_specs)
    return sum(spec.shape.num_elements() for spec in specs)


def mechanism(promise: PrivacyPlan, parts: Setup, *, noise_seed: int) -> Mechanism:
    """The mechanism of --mechanism, with the rule of --aggregator if there is one.

    Args:
      promise: its flags, and the noise.
      parts: of the experiment.
      noise_seed: secret; the noise is a function of it and of the round.
    """
    built = _mechanism(promise, parts, noise_seed=noise_seed)
    if promise.has_rule and not promise.noised_at_clients:
        # The one rule that may come before noise at the server.
        radius = promise.aggregation.clip_radius or 0.0
        clipped = aggregators.NormClippingFactory(radius, built.aggregator)
        return dataclasses.replace(built, aggregator=clipped)
    return built


def _mechanism(promise: PrivacyPlan, parts: Setup, *, noise_seed: int) -> Mechanism:
    flags, noise = promise.mechanism, promise.noise
    name, clip = flags.mechanism, flags.l2_norm_clip
    if noise.distributed is not None:
        build = {
            "discrete_gaussian": privacy.discrete_gaussian_mechanism,
            "skellam": privacy.skellam_mechanism,
        }[name]
        return build(
            l2_norm_clip=clip,
            plan=noise.distributed,
            noise_seed=noise_seed,
            # TFF's runtime cannot take a secure sum of 64-bit integers modulo a
            # number; it gets the plain sum of the same integers.
            secure=parts.runtime.runtime == "in_process",
        )
    common: dict[str, Any] = {
        "noise_multiplier": noise.noise_multiplier,
        "noise_seed": noise_seed,
    }
    size = parts.sampler.expected_cohort_size
    if name == "bounded_weight":
        return privacy.bounded_weight_mechanism(
            l2_norm_clip=clip,
            expected_cohort_weight=size * (flags.expected_client_weight or 1.0),
            clipped_denominator=bool(flags.clipped_denominator),
            **common,
        )
    common["expected_cohort_size"] = size
    if name == "adaptive_gaussian":
        quantile, rate = flags.target_unclipped_quantile, flags.clip_learning_rate
        return privacy.adaptive_gaussian_mechanism(
            initial_l2_norm_clip=clip,
            target_unclipped_quantile=0.5 if quantile is None else quantile,
            clip_learning_rate=0.2 if rate is None else rate,
            clipped_count_stddev=flags.count_stddev_for(size),
            **common,
        )
    common["l2_norm_clip"] = clip
    if name == "local_gaussian" and promise.has_rule:
        return privacy.local_gaussian_rule(
            l2_norm_clip=clip,
            noise_multiplier=noise.noise_multiplier,
            noise_seed=noise_seed,
            rule=aggregator(promise.aggregation, parts),
        )
    if name == "local_gaussian":
        return privacy.local_gaussian_mechanism(**common)
    if name == "gaussian":
        return privacy.gaussian_mechanism(**common)
    common["amplification"] = parts.sampler.amplification
    if name == "tree":
        return privacy.tree_mechanism(
            restart_every=flags.restart_every or parts.run.rounds,
            efficient=flags.tree_efficient is not False,
            **common,
        )
    return privacy.banded_matrix_mechanism(
        rounds=parts.run.rounds,
        bands=mechanism_plan.bands_for(flags, parts),
        **_matrix_workload(parts),
        **common,
    )


def _matrix_workload(parts: Setup) -> dict[str, Any]:
    """What the server does with the noisy means, which the matrix is optimised for.

    Adaptive optimizers are not linear in the means: for them the matrix is that of
    plain sums.
    """
    server = parts.server
    if server.optimizer != "sgd":
        return {}
    workload: dict[str, Any] = {"momentum": server.momentum or 0.0}
    if server.scheduled:
        schedule = learning_rate_schedule(server)
        workload["learning_rates"] = [
            float(schedule(tf.constant(number, tf.int32)))
            for number in range(parts.run.rounds)
        ]
    return workload
