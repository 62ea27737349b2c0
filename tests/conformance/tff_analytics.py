"""TFF's analytics: histograms, heavy hitters, distinct counts, k-means."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tff_row import Row, dataset, of_aggregator, plain

analytics = tff.analytics
iblt = analytics.heavy_hitters.iblt
WORDS = [
    [dataset("red", "blue", "red"), dataset("red"), dataset("green", "blue")],
    [dataset("blue", "blue")],
    [dataset("green"), dataset("green", "green", "red")],
]
NUMBERS = [
    [dataset(0.5, 1.5, 2.5, dtype=tf.float32), dataset(3.5, 0.5, dtype=tf.float32)],
    [dataset(1.5, dtype=tf.float32)],
    [dataset(2.5, 2.6, dtype=tf.float32)] * 2,
]
BATCHES = [[client.batch(1) for client in clients] for clients in WORDS]


def _histogram(**more: Any) -> Any:
    return lambda: analytics.build_hierarchical_histogram_process(
        0.0, 4.0, 4, **{"enable_secure_sum": False, **more}
    )


def _iblt(**more: Any) -> Any:
    return lambda: iblt.build_iblt_computation(
        capacity=20, string_max_bytes=10, batch_size=1, **more
    )


def _hitters(metrics: Any) -> list[Any]:
    """The words in order, each with its counts, and the numbers beside them."""
    clients, words, unique, counts, lost = plain(metrics)
    return [
        clients,
        lost,
        *(part for row in sorted(zip(words, unique, counts)) for part in row),
    ]


def _sketched(metrics: Any) -> list[Any]:
    """The words in order, each with its values, and how many were not decoded."""
    words, values, *more = plain(metrics)
    return [*(part for pair in sorted(zip(words, values)) for part in pair), *more]


def _counted(*words: str) -> tf.data.Dataset:
    values = np.arange(2 * len(words), dtype=np.int64).reshape(-1, 2)
    return tf.data.Dataset.from_tensor_slices(
        collections.OrderedDict(key=list(words), value=values)
    )


TABLE = {
    "histogram": Row(
        _histogram(clip_mechanism="distinct"),
        NUMBERS,
        ("analytics.build_hierarchical_histogram_process",),
        quick=False,
    ),
    "histogram_secure": Row(
        _histogram(clip_mechanism="distinct", enable_secure_sum=True),
        NUMBERS,
        quick=False,
    ),
    "histogram_central_noise": Row(
        _histogram(
            clip_mechanism="distinct",
            dp_mechanism="central-gaussian",
            noise_multiplier=0.0,
        ),
        NUMBERS,
        random_state=True,
        quick=False,
    ),
    "heavy_hitters": Row(
        _iblt(),
        BATCHES,
        ("analytics.heavy_hitters.iblt.build_iblt_computation",),
        canonical=_hitters,
        quick=False,
    ),
    "heavy_hitters_secure": Row(
        _iblt(secure_sum_bitwidth=20, max_words_per_user=4),
        BATCHES,
        canonical=_hitters,
        quick=False,
    ),
    "heavy_hitters_counted_once": Row(
        _iblt(multi_contribution=False, k_anonymity=2, max_heavy_hitters=2),
        BATCHES,
        canonical=_hitters,
        quick=False,
    ),
    "iblt_sketch": Row(
        lambda: of_aggregator(
            analytics.IbltFactory(capacity=20, string_max_bytes=10, repetitions=3),
            tff.SequenceType(
                collections.OrderedDict(
                    key=np.str_, value=tff.TensorType(np.int64, [2])
                )
            ),
        ),
        [
            [_counted("red", "blue"), _counted("red")],
            [_counted("blue")],
            [_counted("green"), _counted("red", "green", "red")],
        ],
        ("analytics.IbltFactory",),
        canonical=_sketched,
    ),
    "distinct_count": Row(
        analytics.count_distinct.create_federated_hyperloglog_computation,
        WORDS,
        (
            "analytics.count_distinct.create_federated_hyperloglog_computation",
            "analytics.count_distinct.build_client_hyperloglog_computation",
        ),
    ),
    "distinct_count_secure": Row(
        lambda: analytics.count_distinct.create_federated_hyperloglog_computation(
            use_secagg=True
        ),
        WORDS,
        quick=False,
    ),
    "secure_maximum": Row(
        analytics.count_distinct.build_federated_secure_max_computation,
        [
            [size * np.arange(32, dtype=np.int64) % 7 for size in sizes]
            for sizes in ((1, 2), (1,), (3, 1, 2))
        ],
        ("analytics.count_distinct.build_federated_secure_max_computation",),
    ),
}
