"""TFF's aggregators over vectors, matrices and integers."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp
from tff_row import Row, leaves, of_aggregator

aggregators, learning = tff.aggregators, tff.learning
VECTOR = tff.TensorType(np.float32, [4])
PAIR = tff.StructWithPythonType(
    [("a", tff.TensorType(np.float32, [2, 2])), ("b", tff.TensorType(np.float32, [3]))],
    collections.OrderedDict,
)
SEVERAL = collections.OrderedDict


def _vectors(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=4).astype(np.float32) for _ in range(count)]


def _pairs(count: int, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [
        SEVERAL(
            a=rng.normal(size=(2, 2)).astype(np.float32),
            b=rng.normal(size=3).astype(np.float32),
        )
        for _ in range(count)
    ]


def _with_weights(values: list[Any]) -> list[Any]:
    return [
        SEVERAL(value=value, weight=np.float32(1 + number))
        for number, value in enumerate(values)
    ]


VECTORS = [_vectors(count, count) for count in (3, 2, 4)]
PAIRS = [_pairs(count, count) for count in (3, 2, 4)]
INTEGERS = [
    [np.array([1, -2, 300], np.int32), np.array([4, 5, -6], np.int32)],
    [np.array([7, 8, 9], np.int32)],
    [np.array([-1, 0, 1], np.int32)] * 3,
]


def _row(make: Any, *covers: str, value_type: Any = VECTOR, **more: Any) -> Row:
    rounds = PAIRS if value_type is PAIR else VECTORS
    names = tuple(name if "." in name else f"aggregators.{name}" for name in covers)
    return Row(lambda: of_aggregator(make(), value_type), rounds, names, **more)


def _weighted(make: Any, *covers: str, value_type: Any = PAIR, **more: Any) -> Row:
    values = PAIRS if value_type is PAIR else VECTORS
    rounds = [_with_weights(value) for value in values]
    names = tuple(name if "." in name else f"aggregators.{name}" for name in covers)
    return Row(lambda: of_aggregator(make(), value_type, True), rounds, names, **more)


def _integers(make: Any, *covers: str, **more: Any) -> Row:
    value_type = tff.TensorType(np.int32, [3])
    names = tuple(f"aggregators.{name}" for name in covers)
    return Row(lambda: of_aggregator(make(), value_type), INTEGERS, names, **more)


def _quantile() -> Any:
    return aggregators.PrivateQuantileEstimationProcess.no_noise(1.0, 0.5, 0.2)


def _estimated() -> tff.templates.IterativeProcess:
    """The quantile of the clients' numbers, which the state reports."""
    process = _quantile()
    state_type = process.initialize.type_signature.result
    number = tff.FederatedType(np.float32, tff.CLIENTS)

    @tff.federated_computation(state_type, number)
    def next_round(state: Any, values: Any) -> Any:
        new = process.next(state, values)
        return new, process.report(new)

    return tff.templates.IterativeProcess(process.initialize, next_round)


def _sample(metrics: Any) -> list[Any]:
    """A sample that has room for every client's value, in order."""
    return [np.sort(leaf, axis=0).tolist() for leaf in leaves(metrics)[:1]]


def _one_state(function: Any, client_type: Any) -> tff.templates.IterativeProcess:
    """A process that counts rounds; its metrics are the function of the clients."""

    @tff.federated_computation()
    def initialize() -> Any:
        return tff.federated_value(0, tff.SERVER)

    @tff.tensorflow.computation(np.int32)
    def add_one(number: Any) -> Any:
        return number + 1

    @tff.federated_computation(
        tff.FederatedType(np.int32, tff.SERVER),
        tff.FederatedType(client_type, tff.CLIENTS),
    )
    def next_round(state: Any, values: Any) -> Any:
        return tff.federated_map(add_one, state), function(values)

    return tff.templates.IterativeProcess(initialize, next_round)


def _measured() -> Any:
    return aggregators.add_measurements(
        aggregators.MeanFactory(),
        client_measurement_fn=lambda value, weight: SEVERAL(
            largest=tff.federated_max(
                tff.federated_map(_LARGEST, value),
            )
        ),
        server_measurement_fn=lambda value: SEVERAL(
            result_norm=tff.federated_map(_NORM, value)
        ),
    )


@tff.tensorflow.computation(VECTOR)
def _LARGEST(value: Any) -> Any:
    return tf.reduce_max(value)


@tff.tensorflow.computation(VECTOR)
def _NORM(value: Any) -> Any:
    return tf.norm(value)


def _gather_encoder(spec: tf.TensorSpec) -> Any:
    from tensorflow_model_optimization.python.core.internal import tensor_encoding

    return tensor_encoding.encoders.as_gather_encoder(
        tensor_encoding.encoders.identity(), spec
    )


def _bounds(make: Any) -> Any:
    return make(3.0, -3.0)


PLAIN = {
    "sum": _row(aggregators.SumFactory, "SumFactory", value_type=PAIR),
    "sum_of_integers": _integers(aggregators.SumFactory),
    "mean": _weighted(aggregators.MeanFactory, "MeanFactory"),
    "mean_of_nobody": Row(
        lambda: of_aggregator(
            aggregators.MeanFactory(no_nan_division=True), VECTOR, True
        ),
        [[], _with_weights(VECTORS[0]), []],
    ),
    "unweighted_mean": _row(
        aggregators.UnweightedMeanFactory, "UnweightedMeanFactory", value_type=PAIR
    ),
    "as_weighted": _weighted(
        lambda: aggregators.as_weighted_aggregator(aggregators.UnweightedMeanFactory()),
        "as_weighted_aggregator",
    ),
    "concat": _row(
        lambda: aggregators.concat_factory(aggregators.SumFactory()),
        "concat_factory",
        value_type=PAIR,
    ),
    "clipping": _row(
        lambda: aggregators.clipping_factory(0.5, aggregators.SumFactory()),
        "clipping_factory",
        value_type=PAIR,
    ),
    "clipping_by_quantile": _weighted(
        lambda: aggregators.clipping_factory(_quantile(), aggregators.MeanFactory()),
        quick=False,
    ),
    "zeroing": _row(
        lambda: aggregators.zeroing_factory(1.2, aggregators.SumFactory()),
        "zeroing_factory",
    ),
    "zeroing_by_quantile": _weighted(
        lambda: aggregators.zeroing_factory(
            _quantile(), aggregators.MeanFactory(), norm_order=2.0
        ),
        quick=False,
    ),
    "measurements": Row(
        lambda: of_aggregator(_measured(), VECTOR, True),
        [_with_weights(v) for v in VECTORS],
        ("aggregators.add_measurements",),
    ),
    "quantile": Row(
        _estimated,
        [[np.float32(v) for v in values] for values in ([0.1, 2.0], [0.3], [5.0, 0.2])],
        ("aggregators.PrivateQuantileEstimationProcess",),
    ),
    "encoded_sum": _row(
        lambda: aggregators.EncodedSumFactory(_gather_encoder), "EncodedSumFactory"
    ),
}

ROTATED = {
    "hadamard": _row(
        aggregators.HadamardTransformFactory,
        "HadamardTransformFactory",
        value_type=PAIR,
        random_state=True,
        quick=False,
    ),
    "fourier": _row(
        aggregators.DiscreteFourierTransformFactory,
        "DiscreteFourierTransformFactory",
        value_type=PAIR,
        random_state=True,
    ),
}

SECURE = {
    "secure_sum": _row(
        lambda: _bounds(aggregators.SecureSumFactory), "SecureSumFactory", quick=False
    ),
    "secure_sum_by_quantile": _row(
        lambda: aggregators.SecureSumFactory(_quantile()), quick=False
    ),
    "secure_modular_sum": _integers(
        lambda: aggregators.SecureModularSumFactory(64, symmetric_range=True),
        "SecureModularSumFactory",
    ),
    "secure_quantized_sum": Row(
        lambda: _one_state(
            lambda values: aggregators.secure_quantized_sum(
                values, np.float32(-3), np.float32(3)
            ),
            VECTOR,
        ),
        VECTORS,
        ("aggregators.secure_quantized_sum",),
    ),
}

SAMPLES = {
    "reservoir": _row(
        lambda: aggregators.UnweightedReservoirSamplingFactory(10),
        "UnweightedReservoirSamplingFactory",
        canonical=_sample,
        quick=False,
    ),
    "federated_sample": Row(
        lambda: _one_state(aggregators.federated_sample, VECTOR),
        VECTORS,
        ("aggregators.federated_sample",),
        canonical=_sample,
    ),
}

PRIVATE = {
    "dp_fixed": _row(
        lambda: aggregators.DifferentiallyPrivateFactory.gaussian_fixed(0.0, 3.0, 0.5),
        "DifferentiallyPrivateFactory",
        value_type=PAIR,
        random_state=True,
    ),
    "dp_adaptive": _row(
        lambda: aggregators.DifferentiallyPrivateFactory.gaussian_adaptive(0.0, 3.0),
        random_state=True,
        quick=False,
    ),
    "dp_tree": _row(
        lambda: aggregators.DifferentiallyPrivateFactory.tree_aggregation(
            0.0,
            3.0,
            0.5,
            SEVERAL(a=tf.TensorSpec([2, 2]), b=tf.TensorSpec([3])),
        ),
        value_type=PAIR,
        random_state=True,
        quick=False,
    ),
    "dp_query": _row(
        lambda: aggregators.DifferentiallyPrivateFactory(
            tfp.GaussianSumQuery(l2_norm_clip=0.7, stddev=0.0)
        ),
    ),
}

RECOMMENDED = {
    "robust": _weighted(
        learning.robust_aggregator, "learning.robust_aggregator", quick=False
    ),
    "learning_dp": _row(
        lambda: learning.dp_aggregator(0.0, 3.0),
        "learning.dp_aggregator",
        random_state=True,
        quick=False,
    ),
    "compression": _weighted(
        learning.compression_aggregator,
        "learning.compression_aggregator",
        quick=False,
    ),
    "secure": _weighted(
        learning.secure_aggregator, "learning.secure_aggregator", quick=False
    ),
    "debugging": _weighted(
        lambda: learning.add_debug_measurements(aggregators.MeanFactory()),
        "learning.add_debug_measurements",
        quick=False,
    ),
    "debugging_mixed": _weighted(
        lambda: learning.add_debug_measurements_with_mixed_dtype(
            aggregators.MeanFactory()
        ),
        "learning.add_debug_measurements_with_mixed_dtype",
        quick=False,
    ),
    "distributed_dp": _row(
        lambda: learning.ddp_secure_aggregator(1e-6, 3, zeroing=False),
        "learning.ddp_secure_aggregator",
        tff_fails="DecodeError|.*",
        quick=False,
    ),
}

TABLE = {**PLAIN, **ROTATED, **SECURE, **SAMPLES, **PRIVATE, **RECOMMENDED}
