"""Noise at the clients and a modular sum of integers, as a TFF aggregation factory."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import stateless_random
from tfl_research.aggregators import SumFormats
from tfl_research.aggregators.contract import UpdateAggregator
from tfl_research.privacy.accounting.distributed_plan import DistributedPlan
from tfl_research.privacy.mechanisms.client_noised_sum import client_noised_sum
from tfl_research.privacy.mechanisms.independent import check_settings
from tfl_research.privacy.mechanisms.noise import client_seeds, discrete_noise, rotation
from tfl_research.privacy.mechanisms.noise.noise_tables import noise_table
from tfl_research.privacy.mechanisms.noised_sum import bounded_record


@dataclasses.dataclass(frozen=True)
class DistributedSumFactory(
    UpdateAggregator, tff.aggregators.WeightedAggregationFactory
):
    """Integer noise at the clients, and a modular sum of their clipped updates.

    The plain sum of `secure=False` adds the same integers as the secure sum.
    """

    grid: DistributedPlan
    l2_norm_clip: float
    noise_seed: int
    secure: bool
    secure_sums: Optional[SumFormats] = None
    client_secrets: bool = False

    @property
    def client_members(self) -> tuple[str, ...]:
        """The seed of a client's noise."""
        return (client_seeds.member(self.client_secrets),)

    @property
    def scale(self) -> float:
        """Quanta in a unit of the values."""
        return self.grid.clip_quanta / self.l2_norm_clip

    def encode(
        self,
        value: list[tf.Tensor],
        weight: tf.Tensor,
        rotation_seed: tf.Tensor,
        client_seed: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """A client's message, and the variance of its noise in quanta.

        The message is int64 `[padded dimension]`, in [0, 2^bits). The variance is
        float32 `[]`, of the table from which the noise is drawn.

        Kairouz, Liu and Steinke 2021 (arXiv 2102.06387), Algorithm 1; with Skellam
        noise it is Agarwal, Kairouz and Liu 2021 (arXiv 2110.04995), Algorithm 1.
        """
        plan = self.grid
        fold = stateless_random.fold_in
        clip = tf.constant(self.l2_norm_clip, tf.float32)
        record, _ = bounded_record(value, weight, clip)
        flat = tf.concat([tf.reshape(part, [-1]) for part in record], axis=0)
        flat = tf.pad(flat, [[0, plan.padded_dimension - plan.dimension]])
        rotated = rotation.rotate(flat, rotation_seed) * self.scale
        rounded = discrete_noise.conditional_round(
            rotated, plan.squared_norm_bound, fold(client_seed, 0)
        )
        variance = 0.0
        if plan.share_stddev > 0:
            table = noise_table(plan.mechanism, plan.share_stddev)
            variance = variance_of_share(plan)
            rounded += discrete_noise.draw(
                [plan.padded_dimension], fold(client_seed, 1), table
            )
        sent = tf.math.floormod(rounded, tf.constant(1 << plan.bits, tf.int64))
        return sent, tf.constant(variance, tf.float32)

    def decode(self, total: tf.Tensor, rotation_seed: tf.Tensor) -> tf.Tensor:
        """The sum of updates, float32 `[dimension]`, from the sum of the messages.

        arXiv 2102.06387, Algorithm 2.
        """
        modulus = tf.constant(1 << self.grid.bits, tf.int64)
        half = modulus // 2
        centred = tf.math.floormod(total + half, modulus) - half
        flat = rotation.rotate_back(tf.cast(centred, tf.float32), rotation_seed)
        return flat[: self.grid.dimension] / self.scale

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """An aggregation of `value_type`, a structure of float32 tensors.

        Args:
          value_type: the type of updates, with the plan's number of scalars.
          weight_type: `client_seeds.seeded_weight_type`.

        Raises:
          ValueError: values of another dtype or number of scalars, or weights
            without a seed.
        """
        secret = self.client_secrets
        client_seeds.check_types(value_type, weight_type, secret=secret)
        specs = tff.types.type_to_tf_tensor_specs(value_type)
        shapes = [spec.shape for spec in tf.nest.flatten(specs)]
        sizes = [shape.num_elements() for shape in shapes]
        size = sum(sizes)
        if size != self.grid.dimension:
            raise ValueError(
                f"the plan is for updates of {self.grid.dimension} scalars, but these "
                f"updates have {size}: give plan_distributed dimension={size}"
            )
        plan = self.grid

        def release(
            total: tf.Tensor,
            reporting: tf.Tensor,
            variance: tf.Tensor,
            rotation_seed: tf.Tensor,
        ) -> tuple[list[tf.Tensor], Any]:
            flat = self.decode(total, rotation_seed)
            enough = reporting >= plan.minimum_cohort_size
            flat = tf.where(enough, flat / plan.cohort_size, tf.zeros_like(flat))
            parts = [
                tf.reshape(part, shape)
                for part, shape in zip(tf.split(flat, sizes), shapes)
            ]
            stddev = tf.sqrt(variance) / (self.scale * plan.cohort_size)
            measurements = collections.OrderedDict(
                reporting_clients=reporting,
                released=tf.cast(enough, tf.int32),
                noise_stddev=tf.where(enough, stddev, tf.zeros_like(stddev)),
            )
            return parts, measurements

        sum_factory: Any = tff.aggregators.SumFactory()
        if self.secure:
            sum_factory = tff.aggregators.SecureModularSumFactory(1 << plan.bits)
        return client_noised_sum(
            value_type,
            weight_type,
            noise_seed=self.noise_seed,
            encode=self.encode,
            sum_factory=sum_factory,
            release=release,
            variance=variance_of_share(plan) or 1.0,
            secure_sums=self.secure_sums,
            secret=secret,
        )


def variance_of_share(plan: DistributedPlan) -> float:
    """Variance of a client's share of the noise in quanta, of the table it is from."""
    if plan.share_stddev <= 0:
        return 0.0
    return float(noise_table(plan.mechanism, plan.share_stddev).variance)


def _factory(
    kind: str,
    l2_norm_clip: float,
    plan: DistributedPlan,
    noise_seed: int,
    secure: bool,
    secure_sums: Optional[SumFormats],
    client_secrets: bool,
) -> DistributedSumFactory:
    if plan.mechanism != kind:
        raise ValueError(f"the plan is for {plan.mechanism!r}, expected {kind!r}")
    check_settings(plan.noise_multiplier, None, l2_norm_clip)
    return DistributedSumFactory(
        plan, l2_norm_clip, noise_seed, secure, secure_sums, client_secrets
    )


def discrete_gaussian_aggregator(
    *,
    l2_norm_clip: float,
    plan: DistributedPlan,
    noise_seed: int,
    secure: bool = True,
    secure_sums: Optional[SumFormats] = None,
    client_secrets: bool = False,
) -> DistributedSumFactory:
    """Discrete Gaussian noise at the clients and a secure modular sum.

    Kairouz, Liu and Steinke 2021 (arXiv 2102.06387), Algorithms 1 and 2. A client
    clips its model delta to l2 norm S, weighs it by w in [0, 1], rotates it by a
    randomised Hadamard transform, scales it to the integer grid, rounds it at random
    under the condition that the norm stays below `plan.l2_sensitivity`, adds
    N_Z(0, σ²) with σ = `plan.share_stddev`, and sends it modulo 2^bits. The server
    sees the sum, inverts these steps, and divides by `plan.cohort_size`.

    With fewer reporting clients than `plan.minimum_cohort_size` there is too little
    noise for the event: the round's result is then zero, as for an empty cohort.
    Measurements: `reporting_clients`, `released` (0 or 1) and `noise_stddev`, the
    standard deviation of the result's noise.

    Every client's noise is a function of a secret seed, the round and the client's own
    seed, so that a resumed round repeats the noise. In a simulation the client's seed
    need not be secret. In a deployment the noise must be drawn from secrets that the
    server does not know: with `client_secrets` the noise is keyed by the client's
    secret.

    Args:
      l2_norm_clip: S, positive.
      plan: the result of `distributed_plan.plan_distributed("discrete_gaussian", ...)`.
      noise_seed: secret.
      secure: sum with `tff.aggregators.SecureModularSumFactory`, which
        `runtime.in_process` executes as a sum. TFF's runtime cannot execute a secure
        sum of 64-bit integers; give False for a plain sum of the same integers, with
        the same result.
      secure_sums: the numbers of secure sums for what clients report in addition to the
        integers (one number for each client, and the variance of its noise); None for
        plain sums of these.
      client_secrets: whether the noise is drawn from the member `client_secret` of a
        client's value (`data.client_secrets`) instead of `seed`.

    Raises:
      ValueError: another mechanism's plan, or a clip that is not positive.
    """
    return _factory(
        "discrete_gaussian",
        l2_norm_clip,
        plan,
        noise_seed,
        secure,
        secure_sums,
        client_secrets,
    )


def skellam_aggregator(
    *,
    l2_norm_clip: float,
    plan: DistributedPlan,
    noise_seed: int,
    secure: bool = True,
    secure_sums: Optional[SumFormats] = None,
    client_secrets: bool = False,
) -> DistributedSumFactory:
    """Skellam noise at the clients and a secure modular sum.

    Agarwal, Kairouz and Liu 2021 (arXiv 2110.04995), Algorithm 1: as
    `discrete_gaussian_aggregator`, with the difference of two Poisson variables of
    mean σ²/2 as a client's noise. Sums of such noise have the same distribution.

    See `discrete_gaussian_aggregator` for arguments and errors.
    """
    return _factory(
        "skellam",
        l2_norm_clip,
        plan,
        noise_seed,
        secure,
        secure_sums,
        client_secrets,
    )
