"""XLA's results are TensorFlow's for every value that no guard finds."""

import itertools
import os

import numpy as np
import pytest
import special_cases
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow.python.framework import op_def_registry

from tfl_research import runtime
from tfl_research.runtime import Mode
from tfl_research.runtime.compiler import xla
from tfl_research.runtime.graphs import operations
from tfl_research.runtime.graphs.limits_of_xla import guards
from tfl_research.runtime.tracing.imports import Import

FLOATS = [np.nan, np.inf, -np.inf, 0.0, -0.0, 0.5, 1.0, -1.0, 2.5, 1e-40, 1e30, -7.5]
ORDINARY = (0.5, 1.0)
ALL = os.environ.get("TFL_CONFORMANCE") == "all"


@pytest.fixture(autouse=True, scope="module")
def flags():
    xla.set_flags()


def specials(dtype):
    if dtype.is_floating:
        return np.array(FLOATS, dtype.as_numpy_dtype)
    info = np.iinfo(dtype.as_numpy_dtype)
    found = {info.min, 0, 1, 2, info.bits - 1, info.bits, info.max}
    if info.min < 0:
        found |= {info.min + 1, -1}
    return np.array(sorted(found), dtype.as_numpy_dtype)


def dtypes(name):
    """The types of values on which an operation is tried."""
    tried = [tf.float32, tf.int32]
    tried += [tf.float16, tf.int8, tf.uint8] if ALL or "Shift" in name else []
    allowed = {
        tf.as_dtype(kind)
        for attribute in op_def_registry.get(name).attr
        if attribute.name == "T"
        for kind in attribute.allowed_values.list.type
    }
    return [dtype for dtype in tried if dtype in allowed or not allowed]


def guarded(function, arguments):
    """A function for XLA: (results, whether a guard was violated)."""

    def traced(*values):
        graph = tf.compat.v1.get_default_graph()
        before = set(graph.get_operations())
        results = function(*values)
        new = [op for op in graph.get_operations() if op not in before]
        seen.update(op.type for op in new)
        found = [guards.violation(op) for op in new if guards.is_guarded(op.node_def)]
        found = [one for one in found if one is not None]
        violated = tf.reduce_any(tf.stack(found)) if found else tf.constant(False)
        return tf.nest.flatten(results), violated

    seen = set()
    specs = [tf.TensorSpec(a.shape, a.dtype) for a in arguments]
    return tf.function(traced, specs, jit_compile=True, autograph=False), seen


def assert_same(ours, theirs, name=""):
    """Equal NaN, infinities and integers; rounding, and zeros' signs, may differ."""
    for one, two in zip(ours, theirs):
        one, two = np.asarray(one), np.asarray(two)
        assert one.shape == two.shape
        if one.dtype.kind != "f":
            np.testing.assert_array_equal(one, two, name)
            continue
        tolerance = 1e-4 if one.dtype.itemsize > 2 else 1e-2
        np.testing.assert_allclose(
            one.astype(np.float64),
            two.astype(np.float64),
            tolerance,
            1e-6,
            err_msg=name,
        )


def elementwise(name, dtype):
    """The operation, and columns of all combinations of special values."""
    names = [argument.name for argument in op_def_registry.get(name).input_arg]
    rows = np.array(list(itertools.product(specials(dtype), repeat=len(names))))

    def function(*values):
        return getattr(tf.raw_ops, name)(**dict(zip(names, values)))

    return function, list(rows.T)


def has_guard(name, dtype):
    node = tf.compat.v1.NodeDef(op=name)
    node.attr["T"].type = dtype.as_datatype_enum
    return guards.is_guarded(node)


def has_kernel(function, dtype):
    """Whether both can compute it; XLA cannot round integers."""
    if function == "Round" and dtype.is_integer:
        return False
    number = special_cases.ELEMENTWISE[function]
    names = [argument.name for argument in op_def_registry.get(function).input_arg]
    ones = {n: tf.ones([1], dtype) for n in names[:number]}
    try:
        getattr(tf.raw_ops, function)(**ones)
    except tf.errors.OpError:
        return False
    return True


EACH = [(n, d) for n in special_cases.ELEMENTWISE for d in dtypes(n)]


@pytest.mark.parametrize("dtype", [tf.float32, tf.int32, tf.float16, tf.int8, tf.uint8])
def test_elements_without_a_guard(dtype):
    names = [n for n, d in EACH if d == dtype and not has_guard(n, d)]
    names = [name for name in names if has_kernel(name, dtype)]
    columns = {name: elementwise(name, dtype)[1] for name in names}

    def together(given):
        return [elementwise(name, dtype)[0](*given[name]) for name in names]

    given = tf.nest.map_structure(tf.constant, columns)
    plain = tf.function(together, autograph=False)(given)
    compiled = tf.function(together, jit_compile=True, autograph=False)(given)
    for name, one, two in zip(names, compiled, plain):
        assert_same([one], [two], name)


@pytest.mark.parametrize(
    ("name", "dtype"), [(n, d) for n, d in EACH if has_guard(n, d) and has_kernel(n, d)]
)
def test_elements_with_a_guard(name, dtype):
    """The guard finds every difference, and no ordinary value."""
    function, columns = elementwise(name, dtype)

    @tf.function(jit_compile=True, autograph=False)
    def violated(*row):
        return guards.violation(function(*row).op)

    def is_bad(*row):
        return bool(violated(*(tf.constant([value], dtype) for value in row)))

    bad = np.array([is_bad(*row) for row in zip(*columns)])
    good = [tf.constant(column[~bad]) for column in columns]
    plain = tf.function(function, autograph=False)(*good)
    compiled = tf.function(function, jit_compile=True, autograph=False)(*good)
    assert_same([compiled], [plain])
    ordinary = np.isin(np.stack(columns), ORDINARY).all(axis=0)
    if name == "ClipByValue":
        ordinary &= columns[1] <= columns[2]
    assert not bad[ordinary].any()
    assert bad.any()


@pytest.mark.parametrize("name", special_cases.CASES)
def test_cases(name):
    function, arguments = special_cases.CASES[name]
    plain = tf.function(function, autograph=False)
    compiled, _ = guarded(function, arguments)
    results, violated = compiled(*map(tf.constant, arguments))
    assert not violated
    assert_same(results, tf.nest.flatten(plain(*map(tf.constant, arguments))))
    for changed in special_cases.with_special_values(arguments):
        values = list(map(tf.constant, changed))
        results, violated = compiled(*values)
        if not violated:
            assert_same(results, tf.nest.flatten(plain(*values)))


# Operations that only move values, or do not depend on them.
_MOVES = """
BatchToSpaceND Bitcast BroadcastArgs BroadcastGradientArgs BroadcastTo Concat
ConcatOffset ConcatV2 Const DepthToSpace Diag DiagPart DynamicStitch Empty
EmptyTensorList EnsureShape ExpandDims Fill Identity IdentityN MatrixDiag
MatrixDiagPart MatrixDiagPartV2 MatrixDiagV2 MatrixSetDiag MatrixSetDiagV2 NoOp Pack
ParallelDynamicStitch Placeholder PlaceholderWithDefault PreventGradient Range Rank
Reshape Reverse Select SelectV2 Shape ShapeN Size Snapshot SpaceToBatchND SpaceToDepth
Split SplitV Squeeze StopGradient StridedSliceGrad Tile Transpose Unpack
"""
# Kept for graphs of older versions, or logical.
_OLDER = """
BatchMatMul BatchMatMulV3 FusedBatchNorm FusedBatchNormGrad FusedBatchNormGradV2
FusedBatchNormV2 Gather LogicalAnd LogicalNot LogicalOr StatelessRandomGetKeyCounter
StatelessRandomUniformFullIntV2
"""


def test_every_compiled_operation_is_tried():
    """A further operation on XLA's list needs a row here."""
    seen = set(special_cases.ELEMENTWISE)
    for function, arguments in special_cases.CASES.values():
        compiled, found = guarded(function, arguments)
        compiled.get_concrete_function()
        seen |= found
    known = (
        seen
        | {*_MOVES.split(), *_OLDER.split()}
        | operations.CONTROL_FLOW
        | operations.VARIABLES
    )
    missing = {
        name
        for name in operations.COMPILED - known - operations.ASSERTIONS
        if not name.startswith("TensorList")
    }
    assert missing == set()


def test_a_process_gives_the_same_on_both_compilers():
    """NaN is no largest score in TensorFlow, and the largest one under XLA."""
    scores = tff.TensorType(np.float32, [4])

    @tff.tensorflow.computation(scores)
    def best(values):
        return tf.one_hot(tf.argmax(values), 4)

    @tff.federated_computation(tff.FederatedType(scores, tff.CLIENTS))
    def votes(clients):
        return tff.federated_sum(tff.federated_map(best, clients))

    clients = [[0.0, 3.0, np.nan, 1.0], [5.0, 1.0, 1.0, 1.0]]
    process = runtime.as_process(votes)
    for compiler in ("xla", "graph"):
        with runtime.in_process(process, mode=Mode("folded", compiler)) as engine:
            _, found = engine.next(engine.initialize(), clients)
        np.testing.assert_array_equal(found, [1, 1, 0, 0])


def test_a_mode_that_cannot_be_built_is_refused_by_name():
    """The accumulator grows, which a loop of a fixed shape cannot hold."""
    many = tff.TensorType(np.float32, [None])
    put = tff.tensorflow.computation(
        lambda all_, one: tf.concat([all_, [one]], 0), (many, np.float32)
    )
    join = tff.tensorflow.computation(
        lambda one, two: tf.concat([one, two], 0), (many, many)
    )
    keep = tff.tensorflow.computation(lambda values: values, many)

    @tff.tensorflow.computation
    def start():
        return tf.reshape(tf.zeros([0]), [-1])

    @tff.federated_computation(tff.FederatedType(np.float32, tff.CLIENTS))
    def collect(clients):
        return tff.federated_aggregate(clients, start(), put, join, keep)

    engine = runtime.in_process(
        runtime.as_process(collect), mode=Mode("folded", "graph")
    )
    with engine, pytest.raises(runtime.UnsupportedProcess, match="leave the mode out"):
        engine.next(engine.initialize(), [1.0, 2.0])


def test_placeholders_that_nothing_needs_are_not_imported():
    """XLA rejects them; other nodes may be placed with them."""
    with tf.Graph().as_default() as graph:
        argument = tf.compat.v1.placeholder(tf.float32, [], "argument")
        other = tf.compat.v1.placeholder(tf.float32, [], "other")
        with tf.compat.v1.colocate_with(other):
            tf.identity(argument, "result")
    imported = Import(
        graph.as_graph_def(), ["argument:0"], ["result:0"], in_place=False
    )
    assert [node.name for node in imported.graph_def.node] == ["result"]
