"""A TFF aggregation factory with noise at the clients and a modular sum of integers."""

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
    """Clients add integer noise to clipped updates, and the messages are summed.

    The sum is modular. With `secure=False`, a plain sum adds the same integers as the
    secure sum.
    """

    grid: DistributedPlan
    l2_norm_clip: float
    noise_seed: int = dataclasses.field(repr=False)
    secure: bool
    secure_sums: Optional[SumFormats] = None
    client_secrets: bool = False

    @property
    def client_members(self) -> tuple[str, ...]:
        """Names the seed of a client's noise."""
        return (client_seeds.member(self.client_secrets),)

    @property
    def scale(self) -> float:
        """The number of quanta in a unit of the values."""
        return self.grid.clip_quanta / self.l2_norm_clip

    def encode(
        self,
        value: list[tf.Tensor],
        weight: tf.Tensor,
        rotation_seed: tf.Tensor,
        client_seed: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Encodes a client's update, and returns the variance of its noise in quanta.

        This is Kairouz, Liu and Steinke 2021 (arXiv 2102.06387), Algorithm 1. With
        Skellam noise this is Agarwal, Kairouz and Liu 2021 (arXiv 2110.04995),
        Algorithm 1.

        Returns:
          The message, int64 `[padded dimension]`, in [0, 2^bits). And the variance,
          float32 `[]`, of the table from which the noise is drawn.
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
        """Decodes the sum of the messages to the sum of updates, float32 `[dimension]`.

        Kairouz, Liu and Steinke 2021 (arXiv 2102.06387), Algorithm 2.
        """
        modulus = tf.constant(1 << self.grid.bits, tf.int64)
        half = modulus // 2
        centred = tf.math.floormod(total + half, modulus) - half
        flat = rotation.rotate_back(tf.cast(centred, tf.float32), rotation_seed)
        return flat[: self.grid.dimension] / self.scale

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """Creates the aggregation of `value_type`, a structure of float32 tensors.

        Args:
          value_type: the type of updates, with the plan's number of scalars.
          weight_type: `client_seeds.seeded_weight_type`.

        Raises:
          ValueError: the values are not float32 or have another number of scalars than
            the plan, or the weights have no seed.
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
    """Computes the variance of a client's noise share, in quanta, from its table."""
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
    """Builds discrete Gaussian noise at the clients with a secure modular sum.

    Kairouz, Liu and Steinke 2021 (arXiv 2102.06387), Algorithms 1 and 2. A client
    clips its model delta to l2 norm S and weighs it by w in [0, 1]. It rotates the
    delta by a randomised Hadamard transform, and scales it to the integer grid. It
    rounds at random, under the condition that the norm stays below
    `plan.l2_sensitivity`. It adds N_Z(0, σ²) with σ = `plan.share_stddev`, and sends
    the result modulo 2^bits. The server sees the sum, inverts these steps, and divides
    by `plan.cohort_size`.

    If fewer clients report than `plan.minimum_cohort_size`, the noise is too small for
    the event. The round's result is then zero, as for an empty cohort. The measurements
    are `reporting_clients`, `released` (0 or 1) and `noise_stddev`, the standard
    deviation of the result's noise.

    Every client's noise is a function of a secret seed, the round and the client's own
    seed, so that a resumed round repeats the noise. In a simulation, the client's seed
    need not be secret. In a deployment, the noise must be drawn from secrets that the
    server does not know: with `client_secrets`, the noise depends on the client's
    secret.

    Args:
      l2_norm_clip: S, positive.
      plan: the result of `distributed_plan.plan_distributed("discrete_gaussian", ...)`.
      noise_seed: secret.
      secure: whether `tff.aggregators.SecureModularSumFactory` computes the sum;
        `runtime.in_process` executes this factory as a sum. TFF's runtime cannot
        execute a secure sum of 64-bit integers; give False for a plain sum of the same
        integers, with the same result.
      secure_sums: the fixed-point formats of secure sums for the values that clients
        report beside the integers (1 for each client, and the variance of its noise);
        None for plain sums of these values.
      client_secrets: whether the noise is drawn from the member `client_secret` of a
        client's value (`data.client_secrets`) instead of `seed`.

    Raises:
      ValueError: the plan is for another mechanism, or the clip is not positive.
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
    """Builds Skellam noise at the clients with a secure modular sum.

    Agarwal, Kairouz and Liu 2021 (arXiv 2110.04995), Algorithm 1. The steps are those
    of `discrete_gaussian_aggregator`. A client's noise is the difference of two Poisson
    variables of mean σ²/2. A sum of Skellam variables is a Skellam variable.

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
