"""Graphs on their own: inlined calls, fingerprints, structures."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.runtime.compiler import chunks
from tfl_research.runtime.graphs.fingerprint import fingerprint
from tfl_research.runtime.graphs.structures import flatten, leaf_types, pack
from tfl_research.runtime.tracing.graph import Graph


def nested_computation(scale, layer_name="inner"):
    """A loop whose body calls a function that calls a function."""

    def inner(x):
        return scale * x + 1.0

    inner.__name__ = layer_name
    inner = tf.function(inner)

    @tf.function
    def outer(x):
        low, high = inner(x), inner(x + 1.0)
        return high, low

    @tff.tensorflow.computation(
        tff.TensorType(np.float32, [3]), tff.TensorType(np.int32)
    )
    def computation(x, count):
        def body(i, value):
            high, low = outer(value)
            return i + 1, tf.where(low > 10.0, low, high)

        _, result = tf.while_loop(lambda i, _: i < count, body, (0, x))
        return collections.OrderedDict(result=result, unchanged=x)

    return computation


def by_hand(x, count, scale):
    for _ in range(count):
        low, high = scale * x + 1, scale * (x + 1) + 1
        x = np.where(low > 10, low, high)
    return x


class TestInlining:
    @pytest.mark.parametrize("compiled", [False, True])
    def test_nested_calls_compute_the_same(self, compiled):
        graph = Graph(nested_computation(1.5))
        x = np.array([0.0, 3.0, -2.0], np.float32)
        program = tf.function(graph.trace, jit_compile=compiled)
        result, unchanged = program(tf.constant(x), tf.constant(4))
        np.testing.assert_allclose(result, by_hand(x, 4, 1.5), rtol=1e-6)
        np.testing.assert_array_equal(unchanged, x)

    def test_no_calls_are_left(self):
        graph = Graph(nested_computation(1.5))
        traced = tf.function(graph.trace).get_concrete_function(
            tf.TensorSpec([3]), tf.TensorSpec([], tf.int32)
        )
        definition = traced.graph.as_graph_def()
        operations = {n.op for n in definition.node}
        for function in definition.library.function:
            operations |= {n.op for n in function.node_def}
        assert "PartitionedCall" not in operations
        assert operations & {"While", "StatelessWhile"}

    def test_it_vectorises(self):
        graph = Graph(nested_computation(1.5))
        x = np.arange(12, dtype=np.float32).reshape(4, 3)
        stacked = tf.function(
            lambda rows: tf.vectorized_map(
                lambda row: graph.trace(row, tf.constant(3))[0], rows
            )
        )(tf.constant(x))
        np.testing.assert_allclose(stacked, by_hand(x, 3, 1.5), rtol=1e-6)


def test_operations_are_counted_by_the_loops_around_them():
    @tff.tensorflow.computation(tff.TensorType(np.float32), tff.TensorType(np.int32))
    def looping(x, count):
        def inner(value):
            return tf.while_loop(lambda v: v < 9.0, lambda v: [tf.exp(v)], [value])[0]

        def body(i, value):
            return i + 1, inner(inner(tf.sin(tf.sin(value))))

        return tf.while_loop(lambda i, _: i < count, body, (0, tf.cos(x)))[1]

    sizes = Graph(looping).sizes
    assert len(sizes) == 3
    simple = Graph(nested_computation(1.5)).sizes
    # The inner function is called twice, and counts twice.
    assert len(simple) == 2
    assert simple[1] > 2 * 2
    assert sizes[2] > 2 * 2


class TestFingerprint:
    def test_neither_names_nor_scalar_constants_count(self):
        first = Graph(nested_computation(1.5, "inner"))
        renamed = Graph(nested_computation(1.5, "other_name"))
        other = Graph(nested_computation(1.25, "inner"))
        assert first.fingerprint == renamed.fingerprint == other.fingerprint
        assert first.constants == renamed.constants
        differing = [
            pair for pair in zip(first.constants, other.constants) if pair[0] != pair[1]
        ]
        assert differing == [(1.5, 1.25)]

    def test_other_constants_do_count(self):
        def build(values, dtype):
            @tff.tensorflow.computation(tff.TensorType(dtype, [2]))
            def computation(a):
                return a + tf.constant(values, a.dtype)

            return Graph(computation)

        assert (
            build([1, 2], np.float32).fingerprint
            != build([1, 3], np.float32).fingerprint
        )
        assert build(1, np.int32).fingerprint != build(2, np.int32).fingerprint

    def test_the_number_of_gpus_does_not_count(self):
        graph = Graph(nested_computation(1.5))
        before = graph.fingerprint
        changed = 0
        for function in graph._graph_def.library.function:
            for node in function.node_def:
                if "config_proto" in node.attr:
                    gpus = tf.compat.v1.ConfigProto(device_count={"GPU": 3})
                    node.attr["config_proto"].s = gpus.SerializeToString()
                    changed += 1
        assert changed
        assert before == fingerprint(
            graph._graph_def, graph._inputs, graph._outputs, graph._scalars.functions
        )

    def test_swapped_results_are_another_graph(self):
        def build(swapped):
            @tff.tensorflow.computation(np.float32, np.float32)
            def computation(a, b):
                return (b, a) if swapped else (a, b)

            return Graph(computation)

        assert build(False).fingerprint != build(True).fingerprint


def branching_computation(scale, shift):
    """Constants in a branch, in a loop's condition and body, and on the way out."""

    @tff.tensorflow.computation(np.float32)
    def computation(x):
        def body(value):
            return tf.cond(value > 0.25, lambda: value * scale, lambda: value + shift)

        looped = tf.while_loop(lambda v: v < 10.0 * scale, body, [x])[0]
        return looped, tf.constant(shift)

    return computation


class TestLiftedConstants:
    @pytest.mark.parametrize("compiled", [False, True])
    def test_a_constant_deep_inside_is_an_argument(self, compiled):
        graph = Graph(nested_computation(1.5))
        index = graph.constants.index(1.5)
        x = np.array([0.0, 3.0, -2.0], np.float32)
        program = tf.function(
            lambda x, count, scale: graph.trace(x, count, lifted={index: scale}),
            jit_compile=compiled,
        )
        for scale in (1.5, 0.5, -3.0):
            result, unchanged = program(
                tf.constant(x), tf.constant(4), tf.constant(scale)
            )
            np.testing.assert_allclose(result, by_hand(x, 4, scale), rtol=1e-6)
            np.testing.assert_array_equal(unchanged, x)
        assert program.experimental_get_tracing_count() == 1

    @pytest.mark.parametrize("compiled", [False, True])
    def test_every_constant_of_loops_and_branches(self, compiled):
        graph = Graph(branching_computation(1.5, 0.125))
        chosen = range(len(graph.constants))
        assert set(graph.constants) >= {0.25, 1.5, 0.125}
        for scale, shift in ((1.5, 0.125), (2.0, 3.0)):
            other = Graph(branching_computation(scale, shift))
            program = tf.function(
                lambda x, values: graph.trace(x, lifted=dict(zip(chosen, values))),
                jit_compile=compiled,
            )
            values = [tf.constant(value) for value in other.constants]
            for start in (-1.0, 0.3, 99.0):
                ours = program(tf.constant(start), values)
                theirs = other.run(tf.constant(start))
                np.testing.assert_allclose(ours, theirs, rtol=1e-6)

    def test_it_vectorises(self):
        graph = Graph(nested_computation(1.5))
        index = graph.constants.index(1.5)
        x = np.arange(12, dtype=np.float32).reshape(4, 3)

        @tf.function
        def stacked(rows, scale):
            return tf.vectorized_map(
                lambda row: graph.trace(row, tf.constant(3), lifted={index: scale})[0],
                rows,
            )

        np.testing.assert_allclose(
            stacked(tf.constant(x), tf.constant(0.5)), by_hand(x, 3, 0.5), rtol=1e-6
        )


class TestStructures:
    TYPE = tff.StructWithPythonType(
        [
            ("b", tff.TensorType(np.float32)),
            (
                "a",
                tff.StructWithPythonType([(None, np.int32), (None, np.int32)], tuple),
            ),
        ],
        collections.OrderedDict,
    )

    def test_the_order_is_that_of_the_type_and_not_of_the_alphabet(self):
        value = collections.OrderedDict(b=1.0, a=(2, 3))
        assert flatten(value, self.TYPE) == [1.0, 2, 3]
        assert flatten({"a": [2, 3], "b": 1.0}, self.TYPE) == [1.0, 2, 3]
        assert len(leaf_types(self.TYPE)) == 3
        assert pack(iter([1.0, 2, 3]), self.TYPE) == value

    def test_a_missing_member_is_named(self):
        with pytest.raises(ValueError, match="no member a"):
            flatten({"b": 1.0}, self.TYPE)


class TestBuckets:
    def test_the_ladder(self):
        assert [chunks.bucket(n) for n in (0, 1, 2, 3, 4, 5, 7, 9, 13, 17, 25)] == [
            1, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32,
        ]  # fmt: skip

    def test_padding_is_at_most_half(self):
        for n in range(1, 3000):
            assert n <= chunks.bucket(n) <= 1.5 * n + 0.5


def test_members_are_not_the_attributes_of_a_tuple_or_an_array():
    of_two = tff.to_type(
        collections.OrderedDict(count=np.float32, index=np.float32, mean=np.float32)
    )
    named = collections.namedtuple("named", ["mean", "index", "count"])
    for value in (
        (1.0, 2.0, 3.0),
        [1.0, 2.0, 3.0],
        np.array([1.0, 2.0, 3.0]),
        {"mean": 3.0, "index": 2.0, "count": 1.0},
        named(mean=3.0, index=2.0, count=1.0),
    ):
        assert flatten(value, of_two) == [1.0, 2.0, 3.0]
