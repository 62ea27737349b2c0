"""The few imports from inside TensorFlow (Federated), each with its reason."""

from __future__ import annotations

import functools
import gc
import inspect
import itertools
import linecache
import os
import pathlib
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

# Only TensorFlow's registry knows how many tensors an operation yields; serialised
# functions leave the number out. ConcreteFunctions are rebuilt from such functions by
# hand. The public way, loading a SavedModel, leaves out the output signatures of nested
# functions, and `tf.vectorized_map` cannot convert a function without its signature.
from tensorflow.core.function.polymorphism import function_type as _function_type

# TensorFlow's public switch against AutoGraph would also stop the conversion of users'
# Keras layers.
from tensorflow.python.autograph.core import ag_ctx as _autograph_status

# AutoGraph's loader leaves files behind in a process that is killed, and each function
# is looked for in all imported modules; no option prevents that.
from tensorflow.python.autograph.pyct import (
    inspect_utils as _autograph_sources,
    loader as _autograph_loader,
)

# Only this module can change the options with which functions are called.
from tensorflow.python.eager import context as _eager_context
from tensorflow.python.eager.polymorphic_function import (
    concrete_function as _concrete_function,
)

# Which operations have a gradient is in a registry that `tf.RegisterGradient` fills.
from tensorflow.python.framework import (
    func_graph as _func_graph,
    op_def_registry as _op_def_registry,
    ops as _ops,
)

# A user's layer may call any function of tf.random, and may hold the function itself.
# All these functions call operations of these two modules by name when the layer is
# traced.
from tensorflow.python.ops import (
    control_flow_v2_func_graphs as _control_flow_graphs,
    gen_random_ops as _gen_random_ops,
    stateless_random_ops as _stateless_random_ops,
)

# `tf.vectorized_map` makes a dozen operations for each argument of an operation that
# broadcasts, even if all ranks are known. It has no option against that.
from tensorflow.python.ops.parallel_for.pfor import (
    _PforInput as _VectorizedArguments,
)

# `tf.saved_model.save` ends by writing fingerprint.pb with a digest of the weights.
# Weights that are put into an exported model's files need another fingerprint.
from tensorflow.python.saved_model import fingerprinting_utils as _fingerprinting_utils

# `tff.framework.AsyncExecutionContext` needs these two to accept and return what
# `tff.tensorflow.computation` does (tensors and datasets, structures of NumPy
# arrays); TFF passes them in the contexts it builds itself, but exports neither.
from tensorflow_federated.python.core.environments.tensorflow_frontend import (
    tensorflow_computation as _tensorflow_computation,
)

write_fingerprint = _fingerprinting_utils.write_fingerprint
transform_arguments = _tensorflow_computation.transform_args
transform_result = _tensorflow_computation.transform_result


def _load_source(source: str, delete_on_exit: bool) -> tuple[types.ModuleType, str]:
    """Loads a module from source as AutoGraph's `load_source` does, without a file.

    AutoGraph writes each function that it generates to a temporary file, and removes
    the files when the process exits. A process that is killed leaves hundreds of files.
    Error messages and `inspect` find the source of a module loaded here, too.

    Args:
      source: the source of a module.
      delete_on_exit: not used.
    """
    name = f"__autograph_generated_file_{next(_generated)}"
    path = f"<{name}>"
    module = types.ModuleType(name)
    module.__file__ = path
    linecache.cache[path] = len(source), None, source.splitlines(keepends=True), path
    sys.modules[name] = module
    exec(compile(source, path, "exec"), vars(module))
    return module, path


_generated = itertools.count()
_autograph_loader.load_source = _load_source


def _refresh_source(function: Any) -> None:
    """Lets `inspect` find a function's source as it is now.

    AutoGraph's own form asks all imported modules, some 5,000, for their files. That
    takes 7 ms for each function that it converts. It is needed only where the source is
    in no file of its own, as in an archive.

    Args:
      function: a Python function, method, class or module.
    """
    path = inspect.getfile(function)
    if os.path.isfile(path):
        linecache.checkcache(path)
    else:
        _search_source(function)


_search_source = _autograph_sources._fix_linecache_record
_autograph_sources._fix_linecache_record = _refresh_source


def _align_ranks(arguments: Any) -> None:
    """Gives the stacked arguments of an operation that broadcasts the rank they need.

    TensorFlow's own form computes the ranks and the new shapes in the graph. Half of
    the operations of a vectorised client came from it. Where all ranks are known, an
    argument that has the rank already stays as it is.

    Args:
      arguments: the `_PforInput` of an operation that `tf.vectorized_map` converts.
    """
    inputs = arguments._inputs
    ranks = [each.t.shape.rank for each in inputs]
    if None in ranks:
        _align_unknown_ranks(arguments)
        return
    # A stacked argument has an axis more, the first one.
    needed = max(
        (rank if each.is_stacked else rank + 1 for each, rank in zip(inputs, ranks)),
        default=0,
    )
    for place, (each, rank) in enumerate(zip(inputs, ranks)):
        if each.is_stacked and rank < needed:
            shape = tf.shape(each.t)
            aligned = tf.concat([shape[:1], [1] * (needed - rank), shape[1:]], axis=0)
            inputs[place] = each._replace(t=tf.reshape(each.t, aligned))


_align_unknown_ranks = _VectorizedArguments.expanddim_inputs_for_broadcast
_VectorizedArguments.expanddim_inputs_for_broadcast = _align_ranks


def with_unspecified_conversion(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a function without converting it; Keras still converts users' layers."""
    unspecified = _autograph_status.Status.UNSPECIFIED

    def run(*arguments: Any, **named: Any) -> Any:
        with _autograph_status.ControlStatusCtx(status=unspecified):
            return function(*arguments, **named)

    return run


def with_conversion(function: Callable[..., Any]) -> Callable[..., Any]:
    """Converts a function and all that it calls by AutoGraph, as `tf.function` does."""
    enabled = _autograph_status.ControlStatusCtx(
        status=_autograph_status.Status.ENABLED
    )
    return tf.__internal__.autograph.tf_convert(function, enabled, user_requested=True)


def worker_binary() -> str:
    """Returns the path of the C++ runtime that ships with TFF; TFF exports no path.

    Raises:
      FileNotFoundError: this TFF has no worker (TFF ships the worker for Linux on
        x86-64 only).
    """
    path = pathlib.Path(tff.__file__).parent / "data" / "worker_binary"
    if not path.is_file():
        raise FileNotFoundError(
            f"TensorFlow Federated has no C++ runtime at {path}; install "
            "tensorflow-federated again"
        )
    return str(path)


def silence_idle_worker() -> None:
    """Keeps TFF's default context quiet at exit if the context never started a worker.

    The context's `__del__` runs after Python has cleared the modules that `__del__`
    uses, and prints an exception that has no meaning. TFF has no public way to the
    context.
    """
    factory = getattr(
        tff.framework.get_context_stack().current, "_executor_factory", None
    )
    stack = getattr(factory, "_executor_stack_fn", None)
    for cell in getattr(stack, "__closure__", None) or ():
        kind = type(cell.cell_contents)
        if kind.__name__ == "ServiceManager" and hasattr(kind, "__del__"):
            kind.__del__ = _ends_what_started(kind.__del__)


_TFF = f"{tff.__name__}."


def end_workers() -> None:
    """Ends the worker processes of TFF's contexts; call it at the end of a program.

    TFF ends a worker when Python happens to collect the last reference to the worker.
    At exit this depends on the order in which Python clears modules, so a worker can
    survive the program.
    """
    # Contexts may be among the objects that garbage collection was told to ignore.
    gc.unfreeze()
    for each in gc.get_objects():
        kind = type(each)
        if kind.__name__ == "ServiceManager" and kind.__module__.startswith(_TFF):
            # A worker that has crashed has no process left to end.
            if each._process is not None and each._process.poll() is None:
                each.__del__()
            each._process = None
            kind.__del__ = _ends_what_started(kind.__del__)
    gc.freeze()


def _ends_what_started(end: Callable[[Any], None]) -> Callable[[Any], None]:
    def ends(manager: Any) -> None:
        if manager._process is not None:
            end(manager)

    return ends


def is_stateful(operation: str) -> bool:
    """Whether an operation type has side effects or reads more than its inputs."""
    definition = _op_def_registry.get(operation)
    return definition is not None and definition.is_stateful


def function_references(node: Any) -> Iterator[Any]:
    """Yields the functions that a NodeDef calls, as mutable NameAttrList messages."""
    for attribute in node.attr.values():
        if attribute.HasField("func"):
            yield attribute.func
        yield from attribute.list.func


def called_nodes(definition: Any) -> Iterator[Any]:
    """Yields the nodes of a graph and of the functions that the graph calls."""
    library = {f.signature.name: f.node_def for f in definition.library.function}
    pending, seen = [definition.node], set()
    while pending:
        for node in pending.pop():
            yield node
            for function in function_references(node):
                if function.name in library and function.name not in seen:
                    seen.add(function.name)
                    pending.append(library[function.name])


def knows_gradient(operation: str) -> bool:
    """Whether TensorFlow's registry has an operation's gradient or says it has none."""
    try:
        _ops.gradient_registry.lookup(operation)
    except LookupError:
        return False
    return True


def function_name(function: Any) -> str:
    """Returns the name by which graphs call a concrete function."""
    name = function.name
    return name.decode() if isinstance(name, bytes) else name


def operation_definition(name: str) -> Any:
    """Returns TensorFlow's OpDef of an operation, or None if it is not registered."""
    return _op_def_registry.get(name)


def num_outputs(node: Any) -> Iterator[tuple[str, int]]:
    """Yields a NodeDef's results in order: (name of the result, number of tensors)."""
    for argument in _op_def_registry.get(node.op).output_arg:
        if argument.number_attr:
            yield argument.name, node.attr[argument.number_attr].i
        elif argument.type_list_attr:
            yield argument.name, len(node.attr[argument.type_list_attr].list.type)
        else:
            yield argument.name, 1


def concrete_function(
    name: str,
    graph_def: Any,
    inputs: Sequence[str],
    outputs: Sequence[str],
    called: Iterable[Any],
) -> Any:
    """Makes a new ConcreteFunction from a GraphDef, under a unique name.

    Args:
      name: the beginning of the function's name.
      graph_def: the function's body, without a library.
      inputs: tensor names of the arguments.
      outputs: tensor names of the results.
      called: ConcreteFunctions that the body refers to.
    """
    graph = _func_graph.FuncGraph(name)
    with graph.as_default():
        for function in called:
            function.add_to_graph(graph)
        tf.graph_util.import_graph_def(graph_def, name="")
        graph.inputs = [graph.get_tensor_by_name(n) for n in inputs]
        graph.outputs = [graph.get_tensor_by_name(n) for n in outputs]
    specs = tuple(tf.TensorSpec(i.shape, i.dtype) for i in graph.inputs)
    graph.structured_input_signature = (specs, {})
    graph.structured_outputs = tuple(graph.outputs)
    signature = _function_type.from_structured_signature(
        graph.structured_input_signature,
        graph.structured_outputs,
        graph.function_captures.capture_types,
    )
    return _concrete_function.ConcreteFunction.from_func_graph(
        graph, signature, attrs={}
    )


def flat_call(function: Any) -> Callable[..., Sequence[Any]]:
    """Makes a function from flat tensors to flat tensors out of a ConcreteFunction.

    The public call takes ten times as long, since it binds arguments. At three calls a
    round, this is a good part of a short round. Several threads may call the function
    at the same time.
    """
    call = function._inference_function

    def run(*tensors: Any) -> Sequence[Any]:
        with calls_at_a_time():
            return call(*tensors)

    return run


def structured_call(function: Any) -> Callable[[Sequence[Any]], Any]:
    """Makes a function from a list of tensors to structured results.

    The function gives the results of the public call, which also binds arguments.
    Several threads may call the function at the same time.
    """

    def run(tensors: Sequence[Any]) -> Any:
        with calls_at_a_time():
            return function._call_flat(list(tensors), function.captured_inputs)

    return run


@contextmanager
def calls_at_a_time() -> Iterator[None]:
    """Calls functions inside the block so that several threads may call the same one.

    TensorFlow's memory optimizer forbids concurrent calls. It makes a sum of three or
    more tensors use a temporary variable with one name in all calls, and the second of
    two calls fails with AlreadyExistsError. This thread's calls in the block are
    optimized without the memory optimizer.
    """
    context = _eager_context.context()
    usual = context.function_call_options
    context.function_call_options = _without_memory_optimizer(
        usual.config_proto_serialized, usual.executor_type
    )
    try:
        yield
    finally:
        context.function_call_options = usual


@functools.lru_cache(maxsize=8)
def _without_memory_optimizer(config: bytes, executor: Optional[str]) -> Any:
    """Returns call options of a ConfigProto with the memory optimizer switched off.

    Args:
      config: the serialised ConfigProto.
      executor: the name of the executor that the caller chose; None for TensorFlow's.
    """
    changed = tf.compat.v1.ConfigProto.FromString(config)
    rewriting = changed.graph_options.rewrite_options
    rewriting.memory_optimization = rewriting.NO_MEM_OPT
    return _eager_context.FunctionCallOptions(executor, changed)


# CPython 3.11 gives each object a block for its attributes. TensorFlow 2.14, whose
# tensors free themselves, does not free the block: 48 bytes for each tensor are lost.
# An object that is given an attribute dictionary no longer has such a block.
_LOSES_ATTRIBUTES = sys.version_info[:2] == (3, 11)
_no_attributes: dict[str, Any] = {}


def free_attributes(tensors: Iterable[tf.Tensor]) -> None:
    """Frees the attribute block of eager tensors, which TensorFlow would never free.

    All tensors get the same attribute dictionary in place of the block, since
    TensorFlow does not free dictionaries either. Nobody sets attributes of a
    computation's results. If somebody does, later tensors get another dictionary.
    """
    global _no_attributes
    if not _LOSES_ATTRIBUTES:
        return
    if _no_attributes:
        _no_attributes = {}
    for tensor in tensors:
        tensor.__dict__ = _no_attributes


def resource_variable(variable: Any) -> Any:
    """Returns the TensorFlow variable inside Keras' wrapper for mixed precision."""
    return vars(variable).get("_variable", variable)


def is_inside_loop(outer: Any) -> bool:
    """Whether the current graph is the body of a loop that was built inside `outer`."""
    graph = tf.compat.v1.get_default_graph()
    while graph is not outer and isinstance(graph, _func_graph.FuncGraph):
        loops = (
            _control_flow_graphs.WhileBodyFuncGraph,
            _control_flow_graphs.WhileCondFuncGraph,
        )
        if isinstance(graph, loops) or "loop_body" in graph.name:
            return True
        graph = graph.outer_graph
    return False


@contextmanager
def redirected_random_operations(replacement: Any) -> Iterator[None]:
    """Replaces TensorFlow's random operations while a model is traced.

    Args:
      replacement: an object with methods of the operations' names and arguments. A
        method that returns NotImplemented leaves the operation as it is.
    """
    for module in (_gen_random_ops, _stateless_random_ops):
        for name in dir(type(replacement)):
            if not name.startswith("_") and name in vars(module):
                _install_redirection(module, name)
    stack = _redirections.__dict__.setdefault("stack", [])
    stack.append(replacement)
    try:
        yield
    finally:
        stack.pop()


# The replacements of each thread, the innermost last. A thread must not see another
# thread's replacements while that thread traces a model.
_redirections = threading.local()


def _install_redirection(module: Any, name: str) -> None:
    """Makes an operation ask for the thread's replacement; the change is permanent."""
    original = vars(module)[name]
    if hasattr(original, "is_redirectable"):
        return

    @functools.wraps(original)
    def redirectable(*arguments: Any, **named: Any) -> Any:
        stack = _redirections.__dict__.get("stack")
        replaced = getattr(stack[-1], name, None) if stack else None
        result = NotImplemented
        if replaced is not None:
            result = replaced(*arguments, **named)
        return original(*arguments, **named) if result is NotImplemented else result

    vars(redirectable)["is_redirectable"] = True
    setattr(module, name, redirectable)


def keras_losses_of(
    model: tff.learning.models.VariableModel,
) -> Optional[tuple[list[Any], list[float], list[Any]]]:
    """Returns the losses, loss weights and metrics of a model of `from_keras_model`.

    TFF's model gives the loss of a batch, and an objective needs the losses of
    examples. The result is None for other models, and for a version of TFF that keeps
    the losses elsewhere.
    """
    found = vars(model)
    names = ("_loss_fns", "_loss_weights", "_metrics")
    if not type(model).__module__.startswith("tensorflow_federated.") or not all(
        isinstance(found.get(name), list) for name in names
    ):
        return None
    # TFF adds its own mean of the loss and its own counters to every model.
    own = [
        metric
        for metric in found["_metrics"]
        if not type(metric).__module__.startswith("tensorflow_federated.")
    ]
    return found["_loss_fns"], found["_loss_weights"], own
