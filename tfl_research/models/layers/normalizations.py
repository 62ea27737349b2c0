"""Gives Keras' normalisation layers our own operations while a model is traced.

With an epsilon of more than 1e-5, Keras' layer normalisation uses `FusedBatchNormV3`.
Its kernel writes beyond its memory (`runtime.tracing.normalization`). In a graph,
TensorFlow also joins this operation with gamma and beta to a kernel that only takes
vectors, and then refuses a gamma over several axes ("scale must be 1D"). So no layer
uses the operation here. Keras' own code has plain operations for small epsilons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from tfl_research.models.layers import group_normalization, layer_normalization

_OWN_CALLS = {
    tf.keras.layers.LayerNormalization: layer_normalization.own_call,
    tf.keras.layers.GroupNormalization: group_normalization.own_call,
}


@contextmanager
def own_normalizations(modules: Sequence[Any]) -> Iterator[None]:
    """Gives layer and group normalisations our own operations.

    Predictions and gradients equal Keras' up to rounding. Keras' own code, with plain
    operations, still computes derived classes, layers with a `call` of their own, other
    types than float32, and the calls that the functions `own_call` name.

    Args:
      modules: the model's layers and other modules.
    """
    changed, fused = [], []
    try:
        for layer in modules:
            if _is_fused(layer):
                layer._fused = False  # Keras decides it in `build`, for each layer.
                fused.append(layer)
            if _is_plain(layer):
                layer.call = _OWN_CALLS[type(layer)](layer)
                changed.append(layer)
        yield
    finally:
        for layer in changed:
            del layer.call
        for layer in fused:
            layer._fused = True


def _is_fused(layer: Any) -> bool:
    is_normalization = isinstance(layer, tf.keras.layers.LayerNormalization)
    return is_normalization and vars(layer).get("_fused") is True


def _is_plain(layer: Any) -> bool:
    return (
        type(layer) in _OWN_CALLS
        and "call" not in vars(layer)
        and layer.compute_dtype == layer.dtype == "float32"
    )
