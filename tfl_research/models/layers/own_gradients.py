"""Gives tensors our own gradient, which remains when a graph is imported.

`tf.custom_gradient` holds tensors of the graph in which it was traced, and is wrong in
an imported graph. Here the gradient's name is an attribute of an `IdentityN`, and the
gradient only reads the operation's inputs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Optional

import tensorflow as tf

# Gradient of the outputs and inputs of an operation: (operation, gradients of its
# outputs) -> gradients of its inputs, None for none.
Gradient = Callable[[Any, Sequence[tf.Tensor]], list[Optional[tf.Tensor]]]

# Our names in TensorFlow's registry of gradients, which accepts a name only once.
_registered: set[str] = set()
_registering = threading.Lock()


def attached(
    name: str,
    gradient: Gradient,
    outputs: Sequence[tf.Tensor],
    others: Sequence[tf.Tensor],
) -> list[tf.Tensor]:
    """Returns tensors with the values of `outputs` and our gradient; call in a graph.

    The gradient holds for `tf.gradients`, and for tapes outside of a traced function. A
    `tf.GradientTape` in the same graph does not see it, and gives TensorFlow's gradient
    of `outputs`.

    Args:
      name: the name of the gradient; one name must always mean the same gradient.
      gradient: the gradient of an operation with the inputs `[*outputs, *others]`. It
        must only read these inputs.
      outputs: the tensors.
      others: the tensors that the gradient reads, and those that have gradients.
    """
    with _registering:
        if name not in _registered:
            _registered.add(name)
            tf.RegisterGradient(name)(lambda op, *g: gradient(op, g))
    graph = tf.compat.v1.get_default_graph()
    with graph.gradient_override_map({"IdentityN": name}):
        return tf.identity_n([*outputs, *others])[: len(outputs)]


def by_weights(
    name: str, gradient: Callable[..., Gradient]
) -> dict[tuple[bool, bool], tuple[str, Gradient]]:
    """Makes a name and a gradient for each kind of normalisation, by (scales, shifts).

    Args:
      name: the beginning of the names.
      gradient: makes the gradient; takes `scales` and `shifts`, whether the
        normalisation has a factor and a summand.
    """
    return {
        (scales, shifts): (
            name + "_scaled" * scales + "_shifted" * shifts,
            gradient(scales=scales, shifts=shifts),
        )
        for scales in (False, True)
        for shifts in (False, True)
    }


def is_attached(name: str) -> bool:
    """Whether a gradient of this name was given to `attached`."""
    return name in _registered
