"""`x[i]` under XLA, for a position that the program computes."""

import numpy as np
import pytest
import tensorflow as tf
from xla_programs import formed, normal

from tfl_research.runtime.compiler import xla


@pytest.fixture(autouse=True, scope="module")
def flags():
    xla.set_flags()


POSITIONS = {
    "first": (lambda x, i: x[i[0]], [(0,), (2,), (-1,), (-3,)]),
    "later": (lambda x, i: x[:, i[0]], [(0,), (4,), (-5,)]),
    "last": (lambda x, i: x[:, :, i[0]], [(6,), (-7,)]),
    "two": (lambda x, i: x[i[0], :, i[1]], [(1, 2), (-1, -7)]),
    "all": (lambda x, i: x[i[0], i[1], i[2]], [(2, 4, 6), (0, -1, 3)]),
}


@pytest.mark.parametrize("name", POSITIONS)
@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("dtype", [tf.float32, tf.int64, tf.bool])
def test_the_same_values(name, is_known, dtype):
    take, positions = POSITIONS[name]
    shape = [3, 5, 7] if is_known else [None, 5, None]
    program, operations = formed(
        take, tf.TensorSpec(shape, dtype), tf.TensorSpec([3], tf.int32)
    )
    # Positions from the end are counted from the begin; XLA's own form has no choice.
    assert "SelectV2" in operations
    x = tf.cast(10 * normal(3, 5, 7), dtype)
    for given in positions:
        found, violated = program(x, [*given, *[0] * (3 - len(given))])
        assert not violated
        np.testing.assert_array_equal(found, x.numpy()[_index(name, given)])


def _index(name, given):
    every = slice(None)
    return {
        "first": given,
        "later": (every, *given),
        "last": (every, every, *given),
        "two": (given[0], every, *given[1:]),
        "all": given,
    }[name]


@pytest.mark.parametrize("name", POSITIONS)
@pytest.mark.parametrize("place", [7, -8, 2**31 - 1, -(2**31)])
def test_a_position_out_of_range_is_a_violation(name, place):
    take, _ = POSITIONS[name]
    program, _ = formed(take, tf.TensorSpec([3, 5, 7]), tf.TensorSpec([3], tf.int32))
    *_, violated = program(normal(3, 5, 7), [place, place, place])
    assert violated


def test_no_axis_is_doubled():
    """As XLA does for TensorFlow's own operation, of which none takes `x` here."""

    def total(x, i):
        def body(j, found):
            return j + 1, found + x[j + i[0]]

        return tf.while_loop(lambda j, _: j < 3, body, (0, 0 * x[0]))[1]

    program, _ = formed(
        total, tf.TensorSpec([None, None, None]), tf.TensorSpec([3], tf.int32)
    )
    graph = program.get_concrete_function().graph
    [loop] = [op for op in graph.get_operations() if op.type == "StatelessWhile"]
    body = graph._get_function(loop.get_attr("body").name).graph
    takes_x = {
        op.type
        for op in body.get_operations()
        if op.inputs and op.inputs[0].shape.rank == 3
    }
    assert "GatherV2" in takes_x
    assert "StridedSlice" not in takes_x
    text = program.experimental_get_compiler_ir(
        tf.constant(normal(3, 5, 7)), tf.constant([0, 0, 0])
    )
    assert "f32[3,10,14]" not in text(stage="optimized_hlo")


@pytest.mark.parametrize(
    "take",
    [
        lambda x, i: x[i[0], :2],
        lambda x, i: x[i[0], ::2],
        lambda x, i: x[i[0], ..., 1],
        lambda x, i: x[i[0], tf.newaxis],
        lambda x, i: x[-1],
    ],
    ids=["part", "step", "ellipsis", "new axis", "constant"],
)
def test_others_have_the_same_values(take):
    program, operations = formed(
        take, tf.TensorSpec([3, 5, 7]), tf.TensorSpec([3], tf.int32)
    )
    assert "SelectV2" not in operations
    x = normal(3, 5, 7)
    found, violated = program(x, [1, 0, 0])
    assert not violated
    np.testing.assert_array_equal(found, take(tf.constant(x), [1, 0, 0]))
