"""Which operations are imported, kept and compiled."""

import pytest
import tensorflow as tf
from tensorflow.python.framework import op_def_registry
from toy_processes import OURS, dropout_builder, make_task, sgd

from tfl_research import processes
from tfl_research.runtime.compiler import forms
from tfl_research.runtime.graphs import operations
from tfl_research.runtime.graphs.limits_of_xla import guards


class TestPure:
    @pytest.mark.parametrize(
        "name",
        [
            "HashTableV2",
            "LookupTableFindV2",
            "FIFOQueueV2",
            "QueueEnqueueV2",
            "VarHandleOp",
            "ReadVariableOp",
            "Assert",
            "PrintV2",
            "RandomUniform",
            "PyFunc",
            "EagerPyFunc",
            "ReduceDataset",
            "TensorSliceDataset",
            "IteratorGetNext",
            "ReadFile",
            "NoSuchOperation",
        ],
    )
    def test_states_effects_and_unknown_operations_are_not(self, name):
        assert not operations.is_pure(name)

    def test_what_the_registry_calls_stateful_is_pure_only_if_listed(self):
        listed = operations.CONTROL_FLOW | {
            "StatelessRandomGetAlg",
            "StatelessRandomGetKeyCounterAlg",
        }
        known = [op_def_registry.get(name) for name in dir(tf.raw_ops)]
        stateful = {d.name for d in known if d is not None and d.is_stateful}
        assert len(stateful) > 100
        assert set(filter(operations.is_pure, stateful)) <= listed

    def test_tables_and_queues_are_never_added_to_programs(self):
        for name in ("HashTableV2", "FIFOQueueV2", "EagerPyFunc", "BatchDatasetV2"):
            assert not operations.is_traceable(name)

    def test_only_operations_of_tensorflow_are_listed(self):
        lists = (
            operations.COMPILED | operations.EFFECTS | operations.SEQUENCES
        ) - operations.CONTROL_FLOW
        missing = {name for name in lists if op_def_registry.get(name) is None}
        assert not missing


@pytest.mark.parametrize(
    "name", ["fed_yogi_scheduled", "robust", "secure", "adaptive_gaussian", "dropout"]
)
def test_the_toolkits_own_processes_hold_known_operations(name):
    """All may be imported as a whole, and compiled."""
    if name == "dropout":
        task, arguments = make_task(dropout_builder), {"client_optimizer": sgd()}
    else:
        task, arguments = make_task(), OURS[name]
    form = forms.peek(processes.build_fed_avg(task, **arguments))
    assert form.untraceable == []
    assert form.not_for_xla == []
    # Secure sums assert that values keep to their bounds.
    assert form.vectorises == (name != "secure")


def listed(i, operation, **arguments):
    """An operation on the list 1, 2, 3, with the places `i`."""
    handle = tf.raw_ops.TensorListFromTensor(
        tensor=[1.0, 2.0, 3.0], element_shape=tf.constant([], tf.int32)
    )
    return operation(input_handle=handle, **arguments, **i)


OF_LIST = {"element_shape": tf.constant([], tf.int32), "element_dtype": tf.float32}

CASES = {
    "list_item": (
        lambda i: listed({"index": i[0]}, tf.raw_ops.TensorListGetItem, **OF_LIST),
        [2],
        [3],
    ),
    "list_item_below": (
        lambda i: listed({"index": i[0]}, tf.raw_ops.TensorListGetItem, **OF_LIST),
        [0],
        [-1],
    ),
    "written_item": (
        lambda i: listed({"index": i[0]}, tf.raw_ops.TensorListSetItem, item=9.0),
        [2],
        [3],
    ),
    "list_items": (
        lambda i: listed({"indices": i}, tf.raw_ops.TensorListGather, **OF_LIST),
        [0, 2],
        [0, 3],
    ),
    "gather": (lambda i: tf.gather([1.0, 2.0, 3.0], i), [0, 2], [0, 3]),
    "gather_columns": (
        lambda i: tf.gather(tf.zeros([2, 3]), i, axis=1),
        [2],
        [-1],
    ),
    "gather_nd": (lambda i: tf.gather_nd(tf.zeros([2, 3]), [i]), [1, 2], [2, 0]),
    "scatter_nd": (
        lambda i: tf.scatter_nd(i[:, tf.newaxis], [1.0, 1.0], [3]),
        [0, 2],
        [0, 3],
    ),
    "update": (
        lambda i: tf.tensor_scatter_nd_add(tf.zeros([3]), i[:, tf.newaxis], [1.0, 1.0]),
        [0, 2],
        [0, -1],
    ),
    "labels": (
        lambda i: tf.nn.sparse_softmax_cross_entropy_with_logits(i, tf.zeros([2, 3])),
        [0, 2],
        [0, 3],
    ),
    "segments": (
        lambda i: tf.math.unsorted_segment_sum([1.0, 2.0], i, 3),
        [-1, 2],
        [0, 3],
    ),
    "permutation": (tf.math.invert_permutation, [1, 0], [1, 1]),
    "division": (lambda i: 7 // i, [1, 2], [1, 0]),
    "position": (lambda i: tf.zeros([2, 3])[i[0]], [-2], [2]),
    "last_position": (lambda i: tf.zeros([2, 3])[..., i[0]], [2], [3]),
    "slice": (lambda i: tf.slice(tf.zeros([5]), i, [2]), [3], [4]),
}


class TestGuards:
    """A guard is violated where TensorFlow's own kernel fails."""

    @pytest.mark.parametrize("name", CASES)
    def test_it_is_violated_where_the_kernel_fails(self, name):
        function, good, bad = CASES[name]

        @tf.function(autograph=False)
        def violated(indices):
            before = set(tf.compat.v1.get_default_graph().get_operations())
            function(indices)
            graph = tf.compat.v1.get_default_graph()
            new = [op for op in graph.get_operations() if op not in before]
            found = [guards.violation(op) for op in new if op.type in guards._GUARDS]
            return tf.reduce_any([v for v in found if v is not None])

        assert not violated(tf.constant(good))
        assert violated(tf.constant(bad))
        run = tf.function(function, autograph=False)
        run(tf.constant(good))
        with pytest.raises(tf.errors.InvalidArgumentError):
            run(tf.constant(bad))

    @pytest.mark.parametrize(
        ("dtype", "good", "bad"),
        [
            (tf.int32, [-(2.0**31), 2.0**31 - 128], [2.0**31]),
            (tf.int64, [-(2.0**63), 1e18], [float("nan")]),
            (tf.uint8, [-0.5, 255.5], [-1.0]),
        ],
    )
    def test_floats_that_an_integer_cannot_hold(self, dtype, good, bad):
        """Their integers are other ones under XLA."""

        @tf.function(autograph=False)
        def violated(values):
            return guards.violation(tf.cast(values, dtype).op)

        assert not violated(tf.constant(good))
        assert violated(tf.constant(bad))


def test_singular_systems_are_left_to_tensorflow():
    """XLA finds numbers where TensorFlow's kernels fail."""
    for name in ("MatrixInverse", "MatrixSolve", "MatrixTriangularSolve"):
        assert operations.is_pure(name)
        assert name not in operations.COMPILED
