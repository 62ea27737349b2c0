"""Traces models to pure functions, or refuses models that are not pure."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from tfl_research import _tff_compat, autograph
from tfl_research.errors import users_line
from tfl_research.models.execution import inlining
from tfl_research.models.modules import layer_in

# Stateful operations of TensorFlow that are pure here: control flow, calls, and checks.
_HARMLESS = {
    "Assert",
    "Case",
    "If",
    "PartitionedCall",
    "Print",
    "PrintV2",
    "StatefulPartitionedCall",
    "StatelessCase",
    "While",
}
_RANDOM = {
    "Multinomial",
    "ParameterizedTruncatedNormal",
    "RandomGammaV2",
    "RandomGamma",
    "RandomPoissonV2",
    "RandomShuffle",
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "RngReadAndSkip",
    "StatefulStandardNormalV2",
    "StatefulTruncatedNormal",
    "StatefulUniform",
    "StatefulUniformInt",
    "TruncatedNormal",
}


def pure_function(
    function: Callable[..., Any],
    specs: Sequence[tf.TensorSpec],
    what: str,
    modules: Sequence[Any] = (),
) -> Any:
    """Traces a function of tensors, and checks that it is pure.

    The model is traced outside of TFF's computations, because Keras would build layers
    for a TensorFlow 1 graph inside of them. Tensors that the function holds become
    constants.

    Args:
      function: tensors -> list of tensors.
      specs: the specs of the arguments.
      what: the traced thing, for messages ("the model").
      modules: the model's layers, which messages name.

    Returns:
      A concrete function of tensors, whose results are flat.

    Raises:
      ValueError: tracing fails, or the function has an operation that is not pure.
    """
    try:
        with _kept_variable_scope():
            traced = autograph.function(function).get_concrete_function(*specs)
    except Exception as error:
        raise ValueError(
            f"{what} cannot be traced: {one_line(error)}{users_line(error)}"
        ) from error
    definition = traced.graph.as_graph_def()
    _check_pure(definition, what, modules)
    for capture in traced.captured_inputs:
        if capture.dtype in (tf.resource, tf.variant):
            raise ValueError(
                f"{what} holds a variable, table or dataset that is not a weight of "
                "one of its layers; expected weights that layers create with add_weight"
            )
    if not traced.captured_inputs:
        return traced
    imported = _imported(
        definition,
        specs,
        traced.inputs,
        traced.outputs,
        [capture.numpy() for capture in traced.captured_inputs],
    )
    # TensorFlow drops the functions of loops and branches when `traced` is dropped.
    imported.traced_first = traced
    return imported


def pure_function_of_graph(
    function: Callable[..., Any], specs: Sequence[tf.TensorSpec], what: str
) -> Any:
    """Traces a function that TFF allows only in TensorFlow 1 graphs.

    The result is like that of `pure_function`.

    Args:
      function: takes tensors of `specs` and returns a sequence of tensors.
      specs: shapes and dtypes of the arguments.
      what: names the function in errors.

    Raises:
      ValueError: the function cannot be traced, or is not a pure function.
    """
    with tf.Graph().as_default() as graph:
        inputs = [tf.compat.v1.placeholder(s.dtype, s.shape) for s in specs]
        try:
            outputs = [tf.identity(output) for output in function(*inputs)]
        except Exception as error:
            raise ValueError(
                f"{what} cannot be traced: {one_line(error)}{users_line(error)}"
            ) from error
    definition = graph.as_graph_def()
    needed = [tensor.op.name for tensor in outputs]
    needed += [node.name for node in definition.node if node.op == "Assert"]
    definition = tf.compat.v1.graph_util.extract_sub_graph(definition, needed)
    _check_pure(definition, what, ())
    return _imported(definition, specs, inputs, outputs, [])


@contextmanager
def _kept_variable_scope() -> Iterator[None]:
    """Restores what `tf.map_fn` leaves behind if its function raises.

    `tf.map_fn` sets the caching device of the scope that all functions share, and
    resets it only if nothing raises. TensorFlow's encoders refuse such a scope.
    """
    scope = tf.compat.v1.get_variable_scope()
    device = scope.caching_device
    try:
        yield
    finally:
        with tf.Graph().as_default():  # the method refuses to run eagerly
            scope.set_caching_device(device)


def _imported(
    definition: Any,
    specs: Sequence[tf.TensorSpec],
    inputs: Sequence[tf.Tensor],
    outputs: Sequence[tf.Tensor],
    constants: Sequence[Any],
) -> Any:
    """Makes a function of a graph's first inputs; its other inputs are constants."""
    operations = inlining.importer(definition, inputs, outputs)

    def imported(*arguments: tf.Tensor) -> list[tf.Tensor]:
        return operations([*arguments, *(tf.constant(c) for c in constants)])

    return tf.function(imported, autograph=False).get_concrete_function(*specs)


def one_line(error: Exception) -> str:
    """Returns the first sentence of an error, without Keras' and AutoGraph's text."""
    text = "\n".join(line.strip() for line in str(error).splitlines())
    layer = re.findall(r"when calling layer '([^']*)'", text)
    place = f"layer {layer[-1]!r}: " if layer else ""
    text = re.split(r"\n\s*Call arguments received", text)[0]
    told = re.findall(r"^\s*\w*(?:Error|Exception): (.*(?:\n.+)*)", text, re.MULTILINE)
    told = [t for t in told if not t.startswith(("Exception enc", "in user code"))]
    own = told[-1] if told else text.split("Exception encountered")[-1]
    paragraphs = [p for p in re.split(r"\n\s*\n", own) if "calling layer" not in p]
    line = " ".join((paragraphs or [type(error).__name__])[0].split())
    line = line if len(line) <= 300 else line.partition(". ")[0]
    return line if line.startswith(place.rstrip(": ")) else f"{place}{line}"


def _check_pure(definition: Any, what: str, modules: Sequence[Any]) -> None:
    for node in _tff_compat.called_nodes(definition):
        kind = node.op
        if kind in _HARMLESS or not _tff_compat.is_stateful(kind):
            continue
        layer = layer_in(node.name, list(modules))
        place = "" if layer is None else f" in layer {layer!r}"
        if kind in _RANDOM:
            raise ValueError(
                f"{what} draws random numbers with {kind}{place}, which ignore the "
                "seed of the run; expected tf.random.normal or tf.random.uniform, "
                "called when the layer is called, or a random layer of Keras"
            )
        raise ValueError(
            f"{what} has the operation {kind}{place}, which is not a pure function of "
            "weights and inputs; expected variables that are weights of its layers, "
            "and no tf.py_function, tables or iterators of its own"
        )


@contextmanager
def inlined_functions(modules: Sequence[Any]) -> Iterator[None]:
    """Makes the `tf.function`s of modules part of the functions that call them.

    A traced function would hold the variables, or the tensors of another graph.
    """
    kind = type(tf.function(lambda: None))
    changed: list[tuple[Any, str, Any]] = []
    try:
        for module in modules:
            own = {n: v for n, v in vars(module).items() if isinstance(v, kind)}
            for name, value in own.items():
                changed.append((module, name, value))
                vars(module)[name] = value.python_function
            for owner in type(module).__mro__:
                for name, value in vars(owner).items():
                    if isinstance(value, kind) and name not in vars(module):
                        changed.append((module, name, None))
                        method = types.MethodType(value.python_function, module)
                        vars(module)[name] = method
        yield
    finally:
        for module, name, value in changed:
            if value is None:
                del vars(module)[name]
            else:
                vars(module)[name] = value
