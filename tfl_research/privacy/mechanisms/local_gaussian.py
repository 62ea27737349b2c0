"""A TFF aggregation factory with Gaussian noise on each client's own update."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import stateless_random
from tfl_research.aggregators import SumFormats
from tfl_research.aggregators.contract import UpdateAggregator
from tfl_research.aggregators.secure_sums import summation
from tfl_research.privacy.mechanisms.client_noised_sum import client_noised_sum
from tfl_research.privacy.mechanisms.independent import check_settings
from tfl_research.privacy.mechanisms.noise import client_seeds
from tfl_research.privacy.mechanisms.noised_sum import bounded_record


def noised_update(
    value: list[tf.Tensor],
    weight: tf.Tensor,
    seed: tf.Tensor,
    *,
    l2_norm_clip: float,
    stddev: tf.Tensor,
) -> list[tf.Tensor]:
    """Makes a client's message: clips, weighs and noises the update.

    Args:
      value: leaves of the update, float32.
      weight: float32 `[]`, bounded by `noised_sum.bounded_weight`.
      seed: the client's secret int64 `[2]` seed of the round.
      l2_norm_clip: S.
      stddev: float32 `[]`, standard deviation zS of the noise in each coordinate.
    """
    record = bounded_record(value, weight, tf.constant(l2_norm_clip, tf.float32))[0]
    noise = stateless_random.normals([part.shape for part in record], seed)
    return [part + stddev * own for part, own in zip(record, noise)]


@dataclasses.dataclass(frozen=True)
class LocalGaussianFactory(
    UpdateAggregator, tff.aggregators.WeightedAggregationFactory
):
    """The factory that `local_gaussian_aggregator` returns."""

    l2_norm_clip: float
    noise_multiplier: float
    denominator: float
    noise_seed: int = dataclasses.field(repr=False)
    sum_factory: tff.aggregators.UnweightedAggregationFactory
    secure_sums: Optional[SumFormats] = None
    client_secrets: bool = False

    @property
    def client_members(self) -> tuple[str, ...]:
        """Names the seed of a client's noise."""
        return (client_seeds.member(self.client_secrets),)

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """Creates the aggregation of `value_type`, a structure of float32 tensors.

        Args:
          value_type: the type of updates.
          weight_type: `client_seeds.seeded_weight_type`.

        Raises:
          ValueError: the values are not float32, or the weights have no seed.
        """

        def encode(
            value: list[tf.Tensor], weight: tf.Tensor, _: tf.Tensor, seed: tf.Tensor
        ) -> tuple[list[tf.Tensor], tf.Tensor]:
            clip = self.l2_norm_clip
            stddev = tf.constant(self.noise_multiplier * clip, tf.float32)
            sent = noised_update(value, weight, seed, l2_norm_clip=clip, stddev=stddev)
            return sent, tf.square(stddev)

        def release(
            total: list[tf.Tensor],
            reporting: tf.Tensor,
            variance: tf.Tensor,
            _: tf.Tensor,
        ) -> tuple[list[tf.Tensor], Any]:
            measurements = collections.OrderedDict(
                reporting_clients=reporting,
                noise_stddev=tf.sqrt(variance) / self.denominator,
            )
            return [part / self.denominator for part in total], measurements

        return client_noised_sum(
            value_type,
            weight_type,
            noise_seed=self.noise_seed,
            encode=encode,
            sum_factory=self.sum_factory,
            release=release,
            variance=(self.noise_multiplier * self.l2_norm_clip) ** 2 or 1.0,
            secure_sums=self.secure_sums,
            secret=self.client_secrets,
        )


def local_gaussian_aggregator(
    *,
    l2_norm_clip: float,
    noise_multiplier: float,
    expected_cohort_size: float,
    noise_seed: int,
    sum_factory: Optional[tff.aggregators.UnweightedAggregationFactory] = None,
    secure_sums: Optional[SumFormats] = None,
    client_secrets: bool = False,
) -> LocalGaussianFactory:
    """Builds local differential privacy: each client noises its own update.

    Every client runs the Gaussian mechanism (Dwork and Roth 2014, Appendix A): the
    model delta is clipped to l2 norm S, weighed by w in [0, 1], and gets noise
    N(0, (zS)²) in each coordinate before the client sends it. The sum is divided by the
    fixed `expected_cohort_size`. A round is charged as a `LocalGaussianEvent`. Clients
    need not trust the server. The noise of the mean is √cohort times the noise of
    `gaussian_aggregator`. The result of an empty cohort is zero, without noise, since
    it reveals nothing about any client.

    Args:
      l2_norm_clip: S, positive.
      noise_multiplier: z of every client's own noise, at least 0.
      expected_cohort_size: the denominator, positive.
      noise_seed: secret; a client's noise is a pure function of this seed, of the
        round and of the client's seed of the round.
      sum_factory: sums the noised deltas; by default plain summation, or a secure sum
        with `secure_sums`.
      secure_sums: the fixed-point formats of secure sums; None for plain sums.
      client_secrets: whether the noise is drawn from the member `client_secret` of a
        client's value (`data.client_secrets`) instead of `seed`.

    Raises:
      ValueError: an argument is outside of its range.
    """
    check_settings(noise_multiplier, expected_cohort_size, l2_norm_clip)
    return LocalGaussianFactory(
        l2_norm_clip,
        noise_multiplier,
        expected_cohort_size,
        noise_seed,
        sum_factory or summation.or_plain(secure_sums),
        secure_sums,
        client_secrets,
    )
