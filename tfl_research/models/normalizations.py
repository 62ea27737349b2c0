"""Keras' normalisation layers with operations of our own, while a model is traced.

With an epsilon of more than 1e-5, Keras' layer normalisation uses `FusedBatchNormV3`.
Its kernel writes beyond its memory (`runtime.tracing.normalization`). In a graph
TensorFlow also joins it with gamma and beta to a kernel that takes vectors alone, and
then refuses a gamma over several axes ("scale must be 1D"). So no layer uses it here:
Keras' own code has plain operations too, for small epsilons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from tfl_research.models import group_normalization, layer_normalization


@contextmanager
def own_normalizations(modules: Sequence[Any]) -> Iterator[None]:
    """Gives layer and group normalisations our own operations.

    Predictions and gradients equal Keras' up to rounding. The functions `own_call` of
    `layer_normalization` and `group_normalization` say which layers are left to Keras'
    own code, with plain operations.

    Args:
      modules: the model's layers and other modules.
    """
    changed, fused = [], []
    try:
        for layer in modules:
            if _is_fused(layer):
                layer._fused = False  # Keras decides it in `build`, for each layer.
                fused.append(layer)
            call = layer_normalization.own_call(layer)
            if call is None:
                call = group_normalization.own_call(layer)
            if call is not None:
                layer.call = call
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
