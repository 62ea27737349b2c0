"""`tf.vectorized_map` aligns ranks without operations where it knows them."""

import numpy as np
import pytest
import tensorflow as tf

from tfl_research import _tff_compat

pytestmark = pytest.mark.slow

ROWS = 3
SHAPES = [(), (2,), (4, 2), (1, 1), (5, 4, 2), (4, 1)]


def values(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shared", SHAPES, ids=str)
@pytest.mark.parametrize("stacked", SHAPES, ids=str)
def test_values_broadcast_as_numpys(stacked, shared):
    """One argument has a value for each row; the other has one for all rows."""
    rows, value = values((ROWS, *stacked), 0), values(shared, 1)
    expected = [row - value for row in rows]
    assert_same(tf.vectorized_map(lambda row: row - value, rows), expected)
    backwards = tf.vectorized_map(lambda row: value - row, rows)
    assert_same(backwards, [-each for each in expected])


@pytest.mark.parametrize("second", SHAPES, ids=str)
@pytest.mark.parametrize("first", SHAPES, ids=str)
def test_two_values_of_each_row(first, second):
    """Both arguments have a value for each row, of other ranks."""
    a, b = values((ROWS, *first), 0), values((ROWS, *second), 1)
    expected = [x * y for x, y in zip(a, b)]
    found = tf.vectorized_map(lambda pair: pair[0] * pair[1], (a, b))
    assert_same(found, expected)


def test_three_arguments():
    """An operation with three arguments, one of them without an axis."""
    chosen = np.array([True, False, True])
    a, b = values((ROWS, 4, 2), 0), values((ROWS, 2), 1)
    found = tf.vectorized_map(
        lambda each: tf.where(each[0], each[1], each[2]), (chosen, a, b)
    )
    expected = [np.where(c, x, y) for c, x, y in zip(chosen, a, b)]
    assert_same(found, expected)


def test_ranks_that_are_not_known():
    """TensorFlow's own form aligns them."""
    function = tf.function(
        lambda rows, value: tf.vectorized_map(lambda row: row + value, rows),
        input_signature=[tf.TensorSpec(None), tf.TensorSpec(None)],
    )
    rows, value = values((ROWS, 2), 0), values((4, 2), 1)
    assert_same(function(rows, value), [row + value for row in rows])


def test_known_ranks_take_no_operations(monkeypatch):
    """Only a reshaped argument needs operations, and TensorFlow's form needs more."""

    def operations(other):
        function = tf.function(
            lambda rows: tf.vectorized_map(lambda row: row + other, rows)
        ).get_concrete_function(tf.TensorSpec([ROWS, 2]))
        nodes = _tff_compat.called_nodes(function.graph.as_graph_def())
        return [node.op for node in nodes]

    equal = operations(values((2,), 0))
    assert "Rank" not in equal
    assert "Tile" not in equal
    assert "Reshape" not in equal
    assert operations(values((4, 2), 0)).count("Reshape") == 1
    monkeypatch.setattr(
        _tff_compat._VectorizedArguments,
        "expanddim_inputs_for_broadcast",
        _tff_compat._align_unknown_ranks,
    )
    assert len(operations(values((2,), 0))) > len(equal)


def assert_same(found, expected):
    np.testing.assert_array_equal(found, np.stack(expected))
