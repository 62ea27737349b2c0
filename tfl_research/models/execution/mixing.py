"""Finds models whose examples influence each other within a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from tfl_research import interrupts
from tfl_research.models.functional_model import FunctionalModel

# The number of examples of the probe, and of those that are the same in two calls.
_ROWS, _SAME = 4, 2
# Keras layers that apply a user's own function.
_OWN = ("Lambda", "TFOpLambda", "SlicingOpLambda")
# Largest relative differences by rounding between results of equal examples, in batches
# of one size and of different sizes.
_ROUNDED, _ROUNDED_BY_SIZE = 1e-6, 1e-4


def mixes_examples(
    model: FunctionalModel,
    x_spec: Any,
    layers: Sequence[Any],
    *,
    by_gradient: bool = False,
) -> bool:
    """Whether results of training depend on the batch as a whole.

    The result is True for models that change their state. Other models are tried with
    two batches that differ in some examples. Models with penalties or with a user's
    layers are also tried with a smaller batch. Models with a user's layers are also
    tried with copies of an example.

    Args:
      model: the model; `mixes_examples` is not read.
      x_spec: a batch of inputs.
      layers: the Keras layers in the model.
      by_gradient: whether gradients are compared too, since operations of the model
        have gradients of their own.
    """
    return bool(model.changing) or _mixes(
        model, x_spec, layers, training=True, by_gradient=by_gradient
    )


def mixes_predictions(
    model: FunctionalModel, x_spec: Any, layers: Optional[Sequence[Any]]
) -> bool:
    """Whether predictions outside of training depend on the batch as a whole.

    The model is tried as in `mixes_examples`.

    Args:
      model: the model; `mixes_predictions` is not read.
      x_spec: a batch of inputs.
      layers: the Keras layers in the model; None for a model of a user's own.
    """
    return _mixes(model, x_spec, layers, training=False)


def may_depend_on_size(
    model: FunctionalModel, x_spec: Any, layers: Sequence[Any]
) -> bool:
    """Whether a batch's size alone may change a random model's results in training.

    `mixes_examples` tries other batch sizes only for models that are not random. The
    draws of a random model can depend on the size, so True does not mean that examples
    influence each other. The result is False for models without a user's layers.

    Args:
      model: the model.
      x_spec: a batch of inputs.
      layers: the Keras layers in the model.
    """
    if not (model.is_random and has_own_layer(layers)):
        return False
    generator = np.random.default_rng(0)
    batch = probe(x_spec, generator)
    smaller = tf.nest.map_structure(lambda a: a[:_SAME], batch)
    return _differs(model, [batch, smaller], generator, training=True)


def _mixes(
    model: FunctionalModel,
    x_spec: Any,
    layers: Optional[Sequence[Any]],
    *,
    training: bool,
    by_gradient: bool = False,
) -> bool:
    generator = np.random.default_rng(0)
    first, second = probe(x_spec, generator), probe(x_spec, generator)
    batches = [
        first,
        tf.nest.map_structure(
            lambda a, b: tf.concat([a[:_SAME], b[_SAME:]], 0), first, second
        ),
    ]
    is_tried = has_own_layer(layers) or (training and model.has_penalty)
    if is_tried and not (training and model.is_random):
        # A model can mix the examples through the batch's size alone.
        batches.append(tf.nest.map_structure(lambda a: a[:_SAME], first))
    if training and has_own_layer(layers):
        # A model can mix only equal examples, such as the copies that replace padding.
        batches.append(tf.nest.map_structure(_with_copies, first))
    return _differs(
        model, batches, generator, training=training, by_gradient=by_gradient
    )


def _with_copies(a: tf.Tensor) -> tf.Tensor:
    """Replaces all rows except the first ones by copies of the first row."""
    return tf.concat([a[:_SAME], tf.repeat(a[:1], _ROWS - _SAME, axis=0)], 0)


def _differs(
    model: FunctionalModel,
    batches: Sequence[Any],
    generator: np.random.Generator,
    *,
    training: bool,
    by_gradient: bool = False,
) -> bool:
    """Whether the model's results for the first examples of the batches differ."""
    # Weights that begin at zero may hide a dependence, so noise is added.
    weights = [w + _noise(w, generator) for w in model.initial_weights]
    try:
        first, again, *others = [
            _results(model, weights, x, training, by_gradient)
            for x in (batches[0], *batches)
        ]
    except tf.errors.OpError:
        interrupts.check()
        # The model does not take the probe's inputs, so it may mix examples.
        return True
    # A penalty of only the weights has the same bits for all batches. Such a large
    # penalty must not hide a small penalty of the activations.
    if np.array_equal(first[0], again[0], equal_nan=True) and any(
        not np.array_equal(first[0], other[0], equal_nan=True) for other in others
    ):
        return True
    return any(
        not np.allclose(a, b, rtol=part, atol=part * _size(a), equal_nan=True)
        for part, other in zip(map(_rounded, batches[1:]), others)
        for a, b in zip(first, other)
    )


def _rounded(batch: Any) -> float:
    """Returns the share of the largest result by which equal examples may differ."""
    rows = tf.nest.flatten(batch)[0].shape[0]
    return _ROUNDED if rows == _ROWS else _ROUNDED_BY_SIZE


def _noise(weight: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    inputs = max(1, math.prod(weight.shape[:-1]))
    noise = generator.standard_normal(weight.shape, np.float32)
    return (noise / math.sqrt(inputs)).astype(weight.dtype)


def _size(values: np.ndarray) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max()) if finite.size else 1.0


def may_fail_for_padding(layers: Sequence[Any]) -> bool:
    """Whether the layers may have no finite gradients for rows of zeros.

    The mean over a completely masked sequence is 0/0. The gradients of a user's own
    layer are not known.
    """
    return any(_is_own(layer) or _makes_mask(layer) for layer in layers)


def has_own_layer(layers: Optional[Sequence[Any]]) -> bool:
    """Whether a layer is a user's own; pass None for a user's own model."""
    return layers is None or any(_is_own(layer) for layer in layers)


def _is_own(layer: Any) -> bool:
    own_function = type(layer).__name__ in _OWN
    plain_model = type(layer) in (tf.keras.Sequential, tf.keras.Model)
    return own_function or not (
        plain_model or type(layer).__module__.startswith("keras.")
    )


def _makes_mask(layer: Any) -> bool:
    if isinstance(layer, tf.keras.layers.Masking):
        return True
    return isinstance(layer, tf.keras.layers.Embedding) and layer.mask_zero


def _results(
    model: FunctionalModel,
    weights: Sequence[np.ndarray],
    x: Any,
    training: bool,
    by_gradient: bool,
) -> list[np.ndarray]:
    """Returns penalty, predictions for a batch's first examples, and gradients."""
    given = [tf.constant(w) for w in weights]
    # A tape that watches nothing costs nothing.
    with tf.GradientTape() as tape:
        tape.watch(given if by_gradient else [])
        result = model.forward(
            given,
            [tf.constant(w) for w in model.initial_state],
            x,
            training,
            tf.constant([1, 2], tf.int32),
        )
        outputs = [o[:_SAME] for o in tf.nest.flatten(result.predictions)]
        total = [tf.reduce_sum(o) for o in outputs if o.dtype.is_floating]
    found = [np.asarray(value) for value in (result.penalty, *outputs)]
    if by_gradient and total:
        gradient = tape.gradient(total, given)
        found += [
            np.asarray(tf.convert_to_tensor(g)) for g in gradient if g is not None
        ]
    return found


def probe(x_spec: Any, generator: np.random.Generator) -> Any:
    """Makes a batch of inputs; ids are 0 or 1, and texts are two different texts."""
    return tf.nest.map_structure(lambda spec: _probe(spec, generator), x_spec)


def _probe(spec: tf.TensorSpec, generator: np.random.Generator) -> tf.Tensor:
    shape = [2 if size is None else size for size in spec.shape.as_list()]
    shape[0] = _ROWS
    if spec.dtype == tf.string:
        return tf.constant(generator.choice(["a", "b"], shape))
    if spec.dtype.is_floating:
        return tf.constant(generator.normal(size=shape), spec.dtype)
    return tf.cast(tf.constant(generator.integers(0, 2, shape)), spec.dtype)
