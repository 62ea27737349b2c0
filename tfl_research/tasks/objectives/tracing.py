"""Traces functions of Keras' losses and metrics apart from the graph that calls them.

The behaviour of Keras' objects depends on the graph in which they are used: whether
Python conditions are converted, and whether a metric's update is wrapped once more.
Inside a TFF computation the graph is not Keras' own graph. So each function is traced
once for each shape, in a new thread, where TensorFlow has the state that Keras expects.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any, Optional

import tensorflow as tf

from tfl_research import autograph
from tfl_research.errors import users_line
from tfl_research.models import heads


class Traced:
    """A function of tensors or structures of them, traced once for each shape.

    Args:
      name: the name of the function, for messages.
      function: returns tensors or structures of them.
      is_batched: whether the arguments have a first axis of examples.
      is_pure: whether a graph of TFF can call it: it may use no variables, and tensors
        from outside become constants.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        is_batched: bool = True,
        is_pure: bool = True,
    ):
        self._is_pure = is_pure
        self._name = name
        self._function = function
        self._is_batched = is_batched
        self._traced: dict[Any, Any] = {}

    @tf.autograph.experimental.do_not_convert
    def __call__(self, *arguments: Any) -> Any:
        """Computes the function's value for these arguments."""
        arguments = tf.nest.map_structure(tf.convert_to_tensor, arguments)
        specs = tf.nest.map_structure(self._spec, arguments)
        given = tf.nest.flatten(arguments)
        found = [heads.of(tensor) for tensor in given]
        key = tuple(
            (s.shape.rank, *s.shape, s.dtype, *(h[:2] if h else ()))
            for s, h in zip(tf.nest.flatten(specs), found)
        )
        if key not in self._traced:
            self._traced[key] = self._trace(specs, found)
        return self._traced[key](*(h.logits if h else t for h, t in zip(found, given)))

    def _spec(self, tensor: tf.Tensor) -> tf.TensorSpec:
        shape = tensor.shape
        if self._is_batched and shape.rank:
            shape = tf.TensorShape([None, *shape[1:]])
        return tf.TensorSpec(shape, tensor.dtype)

    def _trace(self, specs: Any, found: Sequence[Optional[heads.Head]]) -> Any:
        def flat(*leaves: tf.Tensor) -> Any:
            tensors = [h.output(t) if h else t for h, t in zip(found, leaves)]
            return self._function(*tf.nest.pack_sequence_as(specs, tensors))

        named = [
            tf.TensorSpec(spec.shape, spec.dtype, f"leaf_{index}")
            for index, spec in enumerate(tf.nest.flatten(specs))
        ]

        def trace() -> Any:
            traced = autograph.function(flat).get_concrete_function(*named)
            if self._is_pure and traced.captured_inputs:
                traced = _without_captures(traced, named)
            return traced

        with futures.ThreadPoolExecutor(1) as thread:
            try:
                return thread.submit(trace).result()
            except Exception as error:  # Of a user's function: any.
                raise ValueError(
                    f"{self._name} fails: {last_line(error)}{users_line(error)}"
                ) from error


def _without_captures(traced: Any, specs: Sequence[tf.TensorSpec]) -> Any:
    """Returns the same function with constants instead of tensors from outside.

    A graph of TFF cannot call a function that refers to tensors of the process.

    Raises:
      ValueError: the function uses a variable.
    """
    graph = traced.graph
    constants = {}
    for outside, inside in graph.captures:
        if outside.dtype == tf.resource:
            raise ValueError(
                "the function uses a variable, which clients do not have; use constants"
            )
        constants[inside.name] = outside.numpy()
    inputs = [tensor.name for tensor in graph.inputs if tensor.name not in constants]
    outputs = [tensor.name for tensor in tf.nest.flatten(graph.structured_outputs)]
    graph_def = graph.as_graph_def()
    # The inputs' own nodes would stay as placeholders, which XLA cannot compile.
    mapped = {tensor.op.name for tensor in graph.inputs}
    nodes = [node for node in graph_def.node if node.name not in mapped]
    del graph_def.node[:]
    graph_def.node.extend(nodes)

    def imported(*leaves: tf.Tensor) -> Any:
        given = {name: tf.constant(value) for name, value in constants.items()}
        found = tf.graph_util.import_graph_def(
            graph_def, {**dict(zip(inputs, leaves)), **given}, outputs, name=""
        )
        return tf.nest.pack_sequence_as(graph.structured_outputs, found)

    return tf.function(imported, autograph=False).get_concrete_function(*specs)


def last_line(error: Exception) -> str:
    """Returns an error's type and the last line of its message."""
    lines = [line.strip() for line in str(error).splitlines()]
    last = next((line for line in reversed(lines) if line), "")
    kind = type(error).__name__
    return last if last.startswith(kind) else f"{kind}: {last}"


def as_in_fit(
    y: tf.Tensor, predictions: tf.Tensor, *weights: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """Converts labels, predictions and weights as Keras' `fit` does for metrics.

    If predictions have two axes, labels and weights `[batch]` get a last axis. Labels
    get the dtype of the predictions if both are floats or both are integers.

    Args:
      y: the labels.
      predictions: the model's output.
      *weights: the examples' weights, if there are any.
    """
    if predictions.shape.rank == 2:
        weights = tuple(w[:, tf.newaxis] for w in weights)
    if y.shape.rank == 1 and predictions.shape.rank == 2:
        y = y[:, tf.newaxis]
    kinds = y.dtype, predictions.dtype
    if all(k.is_floating for k in kinds) or all(k.is_integer for k in kinds):
        y = tf.cast(y, predictions.dtype)
    return (y, predictions, *weights)


def required_arguments(function: Callable[..., Any]) -> int:
    """Counts the arguments that a call of the function must give by position."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0
    return sum(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        for p in parameters
    )
