"""Trains models whose inputs pass through operations without a gradient.

Keras trains such a model, since it differentiates only with respect to weights. But a
traced function is differentiated with respect to all floating-point arguments. So the
inputs of such a model are given as integers with the same bits, which have no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import tensorflow as tf

from tfl_research import _tff_compat
from tfl_research.models.modules import layer_in

_INTEGERS = {2: tf.int16, 4: tf.int32, 8: tf.int64}


def has_gradient(traced: Any, count: int) -> bool:
    """Whether TensorFlow has the gradient of a traced function.

    Args:
      traced: a concrete function of tensors, with flat results.
      count: the gradient is with respect to the first `count` arguments, and to all
        floating-point arguments on the way.
    """
    return not _without_gradient(traced) or _reason(traced, count) is None


def check_gradient(traced: Any, count: int, what: str, modules: Sequence[Any]) -> None:
    """Refuses a model if an operation between weights and loss has no gradient.

    Args:
      traced, count: see `has_gradient`.
      what: the traced thing, for messages.
      modules: the model's layers, which messages name.

    Raises:
      ValueError: TensorFlow does not know the gradient of an operation.
    """
    if has_gradient(traced, count):
        return
    kinds = _without_gradient(traced)
    reason = str(_reason(traced, count))
    nodes = _tff_compat.called_nodes(traced.graph.as_graph_def())
    named = [n for n in nodes if n.op in kinds and n.name in reason]
    node = max(named, key=lambda n: len(n.name), default=None)
    if node is None:
        raise ValueError(f"{what} has no gradient: {reason.partition('. ')[0]}")
    layer = layer_in(node.name, list(modules))
    place = "" if layer is None else f" in layer {layer!r}"
    raise ValueError(
        f"{what} has the operation {node.op}{place} after a trainable weight, and "
        "TensorFlow knows no gradient of it; expected such operations before the first "
        "trainable layer, or behind tf.stop_gradient"
    )


def as_integers(tensor: tf.Tensor) -> tf.Tensor:
    """Converts a floating-point tensor to integers with the same bits."""
    kind = tensor.dtype
    return tf.bitcast(tensor, _INTEGERS[kind.size]) if kind.is_floating else tensor


def integer_spec(spec: tf.TensorSpec) -> tf.TensorSpec:
    """The spec of `as_integers`."""
    kind = spec.dtype
    return tf.TensorSpec(spec.shape, _INTEGERS[kind.size] if kind.is_floating else kind)


def from_integers(tensor: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """The reverse of `as_integers`."""
    return tf.bitcast(tensor, dtype) if dtype.is_floating else tensor


def _without_gradient(traced: Any) -> set[str]:
    nodes = _tff_compat.called_nodes(traced.graph.as_graph_def())
    return {node.op for node in nodes if not _tff_compat.knows_gradient(node.op)}


def _reason(traced: Any, count: int) -> Optional[LookupError]:
    """Returns why the first arguments' gradient does not exist; None if it does."""

    def gradient(*arguments: tf.Tensor) -> list[Any]:
        with tf.GradientTape() as tape:
            tape.watch(arguments[:count])
            results = [r for r in traced(*arguments) if r.dtype.is_floating]
        found = tape.gradient(results, arguments[:count])
        return [g for g in found if g is not None]

    specs = [tf.TensorSpec(t.shape, t.dtype) for t in traced.inputs]
    try:
        tf.function(gradient, autograph=False).get_concrete_function(*specs)
    except LookupError as error:
        return error
    return None
