"""The few imports from inside TensorFlow (Federated), each with its reason."""

from __future__ import annotations

import functools
import gc
import itertools
import linecache
import pathlib
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

# How many tensors an operation yields is known to TensorFlow's registry alone;
# serialised functions leave it out. ConcreteFunctions are rebuilt from such functions
# by hand: the public way, loading a SavedModel, leaves out nested functions' output
# signatures, without which `tf.vectorized_map` cannot convert them.
from tensorflow.core.function.polymorphism import function_type as _function_type

# TensorFlow's public switch against AutoGraph is one against the conversion of users'
# Keras layers too.
from tensorflow.python.autograph.core import ag_ctx as _autograph_status

# In a process that is killed it leaves files behind, and no option prevents that.
from tensorflow.python.autograph.pyct import loader as _autograph_loader

# The options with which functions are called can be changed here alone.
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

# A layer of a user's own may call any function of tf.random, and hold the function
# itself. All of them call these two modules, by name, when the layer is traced.
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
    """AutoGraph's `load_source` without a file.

    AutoGraph writes each function that it generates to a file in the folder for
    temporary files, and removes the files when the process exits. A process that is
    killed leaves hundreds. Error messages and `inspect` find the source here as well.

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
    """The function as it is; Keras converts users' layers inside of it."""
    unspecified = _autograph_status.Status.UNSPECIFIED

    def run(*arguments: Any, **named: Any) -> Any:
        with _autograph_status.ControlStatusCtx(status=unspecified):
            return function(*arguments, **named)

    return run


def with_conversion(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function converted by AutoGraph, with all that it calls, as `tf.function`."""
    enabled = _autograph_status.ControlStatusCtx(
        status=_autograph_status.Status.ENABLED
    )
    return tf.__internal__.autograph.tf_convert(function, enabled, user_requested=True)


def worker_binary() -> str:
    """Path of the C++ runtime that ships with TFF, which exports no path to it.

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
    """Keeps TFF's default context quiet at exit where it never started its worker.

    Its `__del__` runs when Python has cleared the modules that it uses, and prints an
    exception that has no meaning. TFF has no public way to the object.
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
    """Ends the worker processes of TFF's contexts; for the end of a program.

    TFF ends a worker when Python happens to collect the last reference to it. That
    depends on the order in which modules go: the worker can survive the program.
    """
    # Among the objects that were left out of the search for garbage, too.
    gc.unfreeze()
    for each in gc.get_objects():
        kind = type(each)
        if kind.__name__ == "ServiceManager" and kind.__module__.startswith(_TFF):
            # A worker that has crashed has no process to be ended.
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
    """Whether an operation type has side effects or depends on more than its inputs."""
    definition = _op_def_registry.get(operation)
    return definition is not None and definition.is_stateful


def function_references(node: Any) -> Iterator[Any]:
    """The functions that a NodeDef calls, as mutable NameAttrList messages."""
    for attribute in node.attr.values():
        if attribute.HasField("func"):
            yield attribute.func
        yield from attribute.list.func


def called_nodes(definition: Any) -> Iterator[Any]:
    """The nodes of a graph, and of the functions that it calls."""
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
    """Whether an operation has a gradient in TensorFlow, or is known to have none."""
    try:
        _ops.gradient_registry.lookup(operation)
    except LookupError:
        return False
    return True


def function_name(function: Any) -> str:
    """The name under which a concrete function is known to graphs."""
    name = function.name
    return name.decode() if isinstance(name, bytes) else name


def operation_definition(name: str) -> Any:
    """TensorFlow's OpDef of an operation; None if the registry does not have it."""
    return _op_def_registry.get(name)


def num_outputs(node: Any) -> Iterator[tuple[str, int]]:
    """A NodeDef's results: (name of the result, number of tensors), in order."""
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
    """A new ConcreteFunction from a GraphDef, under a unique name.

    Args:
      name: what its name begins with.
      graph_def: its body, without a library.
      inputs: tensor names of its arguments.
      outputs: tensor names of its results.
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
    """A ConcreteFunction as a function of flat tensors to flat tensors.

    Calling it the public way costs ten times as much for the binding of arguments,
    which at three calls a round is a good part of a short round. Several threads may
    call the function at the same time.
    """
    call = function._inference_function

    def run(*tensors: Any) -> Sequence[Any]:
        with calls_at_a_time():
            return call(*tensors)

    return run


def structured_call(function: Any) -> Callable[[Sequence[Any]], Any]:
    """A ConcreteFunction as a function of a list of tensors to its structured results.

    It does what calling the function does, without the binding of arguments. Several
    threads may call the function at the same time.
    """

    def run(tensors: Sequence[Any]) -> Any:
        with calls_at_a_time():
            return function._call_flat(list(tensors), function.captured_inputs)

    return run


@contextmanager
def calls_at_a_time() -> Iterator[None]:
    """Lets several threads call one function, in the calls of this thread.

    TensorFlow's memory optimizer would forbid that: it makes a sum of three or more
    tensors use a temporary variable, whose name is the same in all calls, so that the
    second of two calls fails with AlreadyExistsError. These calls are optimized without
    it.
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
    """The options of calls under a serialised ConfigProto, without that optimizer.

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
# An object that is given a dictionary has no such block any more.
_LOSES_ATTRIBUTES = sys.version_info[:2] == (3, 11)
_no_attributes: dict[str, Any] = {}


def free_attributes(tensors: Iterable[tf.Tensor]) -> None:
    """Frees a part of eager tensors that TensorFlow would never free.

    TensorFlow does not free the dictionary that a tensor has instead, so that all
    tensors have the same one. Nobody sets attributes of a computation's results; if
    somebody does, later tensors get another dictionary.
    """
    global _no_attributes
    if not _LOSES_ATTRIBUTES:
        return
    if _no_attributes:
        _no_attributes = {}
    for tensor in tensors:
        tensor.__dict__ = _no_attributes


def resource_variable(variable: Any) -> Any:
    """The variable of TensorFlow inside Keras' wrapper for mixed precision."""
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


# The replacements of each thread, the innermost last. Threads that trace models at the
# same time, or draw numbers beside a trace, must not see each other's.
_redirections = threading.local()


def _install_redirection(module: Any, name: str) -> None:
    """Lets an operation ask for the thread's replacement; stays for good."""
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
    """Losses, their weights, and metrics of a model of `from_keras_model`.

    TFF's model gives the loss of a batch, and an objective needs the losses of
    examples. None for other models, and for a TFF that keeps them elsewhere.
    """
    found = vars(model)
    names = ("_loss_fns", "_loss_weights", "_metrics")
    if not type(model).__module__.startswith("tensorflow_federated.") or not all(
        isinstance(found.get(name), list) for name in names
    ):
        return None
    # TFF's own mean of the loss and counters, which it adds to every model.
    own = [
        metric
        for metric in found["_metrics"]
        if not type(metric).__module__.startswith("tensorflow_federated.")
    ]
    return found["_loss_fns"], found["_loss_weights"], own
