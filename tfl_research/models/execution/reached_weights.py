"""Refuses models with trainable weights that a custom gradient hides from training.

While a model is traced, its variables are tensors. A function in `tf.custom_gradient`
or `tf.recompute_grad` gives gradients to variables that it uses, but not to such
tensors. So these weights would not be trained.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfl_research import _tff_compat, interrupts
from tfl_research.models.execution.mixing import probe
from tfl_research.models.execution.tracing import one_line
from tfl_research.models.functional_model import FunctionalModel

_CUSTOM = b"CustomGradient"


def has_custom_gradient(traced: Any) -> bool:
    """Whether a concrete function has operations with a gradient of their own."""
    return any(
        node.attr["_gradient_op_type"].s.startswith(_CUSTOM)
        for node in _tff_compat.called_nodes(traced.graph.as_graph_def())
        if "_gradient_op_type" in node.attr
    )


def check_reached(
    functional: FunctionalModel,
    trainable: Sequence[tf.Variable],
    others: Sequence[tf.Variable],
    call: Callable[[Any, bool], Any],
    x_spec: Any,
) -> None:
    """Refuses a weight that has a gradient in the model, but not in the function.

    Args:
      functional: the model as a function.
      trainable: the model's trainable variables.
      others: the model's further variables, which keep their values.
      call: (x, training) -> predictions of the model itself.
      x_spec: a batch of inputs.

    Raises:
      ValueError: there is such a weight; the message names it.
    """
    before = [variable.numpy() for variable in others]
    x = probe(x_spec, np.random.default_rng(0))
    try:
        with tf.GradientTape() as tape:
            total = _total(call(x, True))
        theirs = tape.gradient(total, list(trainable))
    except tf.errors.OpError as error:
        interrupts.check()
        warnings.warn(
            f"the model refuses made-up inputs ({one_line(error)}), so it is not known "
            "whether tf.custom_gradient hides a weight of the model from training",
            stacklevel=2,
        )
        return
    finally:
        for variable, value in zip(others, before):
            variable.assign(value)
    weights = [tf.constant(weight) for weight in functional.initial_weights]
    state = [tf.constant(value) for value in functional.initial_state]
    with tf.GradientTape() as tape:
        tape.watch(weights)
        seed = tf.constant([0, 0])
        found = functional.forward(weights, state, x, True, seed)
        total = _total(found.predictions)
    ours = tape.gradient(total, weights)
    for variable, expected, given in zip(trainable, theirs, ours):
        if _counts(expected) and not _counts(given):
            raise ValueError(
                f"the weight {variable.name} is used inside tf.custom_gradient or "
                "tf.recompute_grad, which hide it from training here; give the "
                "function the weight as an argument: f(x, self.w), not f(x)"
            )


def _total(predictions: Any) -> tf.Tensor:
    """Sums the predictions with different factors, so that nothing cancels."""
    generator = np.random.default_rng(0)
    return tf.add_n(
        [
            tf.reduce_sum(
                tf.cast(output, tf.float32)
                * generator.normal(size=output.shape).astype(np.float32)
            )
            for output in tf.nest.flatten(predictions)
        ]
    )


def _counts(gradient: Any) -> bool:
    if gradient is None:
        return False
    return bool(np.any(np.asarray(tf.convert_to_tensor(gradient)) != 0))
