"""TFF's weighted means, changed so that they are zero when no client counts."""

from __future__ import annotations

import math
from typing import Any, Optional

import tensorflow_federated as tff

from tfl_research.aggregators.contract import UpdateAggregator

# The quantiles of `tff.learning.robust_aggregator`.
CLIPPING = {"initial_estimate": 1.0, "target_quantile": 0.8, "learning_rate": 0.2}
ZEROING = {
    "initial_estimate": 10.0,
    "target_quantile": 0.98,
    "learning_rate": math.log(10.0),
    "multiplier": 2.0,
    "increment": 1.0,
}


def mean(
    sums: Optional[tff.aggregators.UnweightedAggregationFactory] = None,
) -> tff.aggregators.WeightedAggregationFactory:
    """Builds the weighted mean, which is zero (not NaN) if all weights are zero.

    TFF's default mean is NaN for an empty cohort, which a Poisson sampler can draw, and
    for a cohort whose clients were all excluded.

    Args:
      sums: sums the weighted updates; plain summation by default.
    """
    return tff.aggregators.MeanFactory(sums, no_nan_division=True)


def clipping(
    inner: Optional[tff.aggregators.WeightedAggregationFactory] = None,
) -> tff.aggregators.WeightedAggregationFactory:
    """Builds clipping to a norm that follows the 0.8 quantile of the cohort's norms.

    The quantile is estimated without noise (Andrew et al. 2021, arXiv 1905.03871,
    with TFF's parameters in `tff.learning.robust_aggregator`). Clipping bounds
    outliers. It gives no differential privacy.

    Args:
      inner: aggregates the clipped updates; `mean()` by default.
    """
    norm = tff.aggregators.PrivateQuantileEstimationProcess.no_noise(**CLIPPING)
    return tff.aggregators.clipping_factory(norm, inner or mean())


def zeroing(
    inner: Optional[tff.aggregators.WeightedAggregationFactory] = None,
) -> tff.aggregators.WeightedAggregationFactory:
    """Builds zeroing of updates far above the 0.98 quantile of the cohort's norms.

    The parameters are the same as in `tff.learning.robust_aggregator`: an update
    becomes zero if its largest magnitude exceeds twice the quantile plus one. This
    gives no differential privacy.

    Args:
      inner: aggregates the updates that remain; `mean()` by default.
    """
    norm = tff.aggregators.PrivateQuantileEstimationProcess.no_noise(**ZEROING)
    return tff.aggregators.zeroing_factory(norm, inner or mean(), norm_order=math.inf)


def robust() -> tff.aggregators.WeightedAggregationFactory:
    """Builds zeroing, then clipping: `tff.learning.robust_aggregator` over `mean`."""
    return zeroing(clipping())


class QuantizedMeanFactory(UpdateAggregator, tff.aggregators.MeanFactory):
    """The factory that `compression` builds; it states the size of its messages."""

    def __init__(self) -> None:
        self._sums = tff.aggregators.EncodedSumFactory.quantize_above_threshold(
            quantization_bits=8, threshold=20000
        )
        super().__init__(self._sums, no_nan_division=True)

    def message_type(self, update_type: tff.Type) -> tff.Type:
        """Returns the type of a client's message, as its computation returns it."""
        sums = self._sums.create(update_type)

        @tff.federated_computation(
            sums.initialize.type_signature.result,
            tff.FederatedType(update_type, tff.CLIENTS),
        )
        def alone(state: Any, updates: Any) -> Any:
            summed = sums.next(state, updates)
            return summed.state, summed.result

        form = tff.backends.mapreduce.get_map_reduce_form_for_computation(alone)
        return form.work.type_signature.result


def compression() -> tff.aggregators.WeightedAggregationFactory:
    """Builds a mean that quantises tensors of more than 20,000 entries to 8 bits.

    The parameters are those of `tff.learning.compression_aggregator`. TFF packs three
    and a half quantised entries into 32 bits.
    """
    return QuantizedMeanFactory()


def secure() -> tff.aggregators.WeightedAggregationFactory:
    """Builds zeroing, clipping and a mean of secure sums: the server sees only sums.

    `tff.learning.secure_aggregator` over a mean that is zero if no client counts.
    Values are clipped to twice the 0.95 quantile of their magnitudes and quantised to
    32-bit integers before they are summed by `tff.federated_secure_sum_bitwidth`
    (Bonawitz et al. 2017). Secure sums also add the counts for the quantiles.
    """
    return _secure_zeroing(_secure_clipping(_secure_mean()))


def _secure_quantile(**parameters: float) -> tff.templates.EstimationProcess:
    return tff.aggregators.PrivateQuantileEstimationProcess.no_noise(
        secure_estimation=True, **parameters
    )


def _secure_count() -> tff.aggregators.UnweightedAggregationFactory:
    return tff.aggregators.SecureSumFactory(
        upper_bound_threshold=1, lower_bound_threshold=0
    )


def _secure_mean() -> tff.aggregators.WeightedAggregationFactory:
    bound = _secure_quantile(
        initial_estimate=50.0, target_quantile=0.95, learning_rate=1.0, multiplier=2.0
    )
    return tff.aggregators.MeanFactory(
        tff.aggregators.SecureSumFactory(bound),
        # A power of two minus one is exact for weights that are whole numbers.
        tff.aggregators.SecureSumFactory(
            upper_bound_threshold=float(2**20 - 1), lower_bound_threshold=0.0
        ),
        no_nan_division=True,
    )


def _secure_clipping(
    inner: tff.aggregators.WeightedAggregationFactory,
) -> tff.aggregators.WeightedAggregationFactory:
    norm = _secure_quantile(**CLIPPING)
    return tff.aggregators.clipping_factory(
        norm, inner, clipped_count_sum_factory=_secure_count()
    )


def _secure_zeroing(
    inner: tff.aggregators.WeightedAggregationFactory,
) -> tff.aggregators.WeightedAggregationFactory:
    return tff.aggregators.zeroing_factory(
        _secure_quantile(**ZEROING),
        inner,
        zeroed_count_sum_factory=_secure_count(),
        norm_order=math.inf,
    )
