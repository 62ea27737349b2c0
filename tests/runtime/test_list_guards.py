"""Lists of tensors: what TFF's runtime does on places out of range."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import runtime
from tfl_research.runtime import Mode
from tfl_research.runtime.compiler import forms

XLA = Mode("folded", "xla")
# What TensorFlow's kernels say.
FAILS = re.compile("in a list|list only has|expected a list with|from an empty list")
SCALAR = tf.TensorShape([])


def array(x, size=3):
    found = tf.TensorArray(tf.float32, size, element_shape=SCALAR)
    return found.unstack(tf.stack([x, x + 1, x + 2]))


def read(x):
    return array(x).read(tf.cast(x, tf.int32))


def written(x):
    return tf.reduce_sum(array(x).write(tf.cast(x, tf.int32), 100.0).stack())


def gathered(x):
    return tf.reduce_sum(array(x).gather([0, tf.cast(x, tf.int32)]))


def in_loop(x):
    values, last = array(x), tf.cast(x, tf.int32)
    return tf.while_loop(
        lambda i, _: i <= last,
        lambda i, total: (i + 1, total + values.read(i)),
        (0, 0.0),
    )[1]


def stacked(x):
    return tf.reduce_sum(
        tf.raw_ops.TensorListStack(
            input_handle=tf.raw_ops.TensorListFromTensor(
                tensor=tf.stack([x, x]), element_shape=tf.constant([], tf.int32)
            ),
            element_shape=tf.constant([], tf.int32),
            element_dtype=tf.float32,
            num_elements=3,
        )
    )


def pushed(x):
    """The length of a list with room for three, to which one is added."""
    handle = tf.raw_ops.EmptyTensorList(
        element_shape=tf.constant([], tf.int32),
        max_num_elements=3,
        element_dtype=tf.float32,
    )
    handle = tf.raw_ops.TensorListPushBack(input_handle=handle, tensor=x)
    return tf.cast(tf.raw_ops.TensorListLength(input_handle=handle), tf.float32)


def popped(x):
    """Pops two items from a list of one."""
    shape = tf.constant([], tf.int32)
    handle = tf.raw_ops.TensorListFromTensor(tensor=x[None], element_shape=shape)
    for _ in range(2):
        handle, value = tf.raw_ops.TensorListPopBack(
            input_handle=handle, element_shape=shape, element_dtype=tf.float32
        )
    return value


def gradient(x):
    """Of a recurrent network with lists; the loop's gradient pushes and pops."""
    with tf.GradientTape() as tape:
        kernel = tf.fill([2, 2], 0.1 * x)
        tape.watch(kernel)
        inputs = tf.TensorArray(tf.float32, 3).unstack(tf.fill([3, 1, 2], x))

        def step(i, state, outputs):
            state = tf.tanh(tf.matmul(inputs.read(i) + state, kernel))
            return i + 1, state, outputs.write(i, state)

        outputs = tf.TensorArray(tf.float32, 3)
        start = 0, tf.zeros([1, 2]), outputs
        found = tf.while_loop(lambda i, *_: i < 3, step, start, maximum_iterations=3)
        result = tf.reduce_sum(found[2].stack())
    return tf.reduce_sum(tape.gradient(result, kernel))


def process_of(work):
    client = tff.tensorflow.computation(work, np.float32)

    @tff.federated_computation
    def initialize():
        return tff.federated_value(0.0, tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(np.float32, tff.SERVER),
        tff.FederatedType(np.float32, tff.CLIENTS),
    )
    def next_round(state, values):
        return state, tff.federated_sum(tff.federated_map(client, values))

    return tff.templates.IterativeProcess(initialize, next_round)


def results(process, values, **settings):
    """The sums of TFF's runtime and of ours; None if a list's kernel fails."""
    found = []
    for engine in (runtime.tff_local(process), runtime.in_process(process, **settings)):
        with engine:
            try:
                _, total = engine.next(engine.initialize(), values)
                found.append(float(total))
            except Exception as error:  # TFF's executors have errors of their own.
                if not FAILS.search(str(error)):
                    raise
                found.append(None)
    return found


@pytest.mark.parametrize("work", [read, written, gathered, in_loop])
def test_places_out_of_range_fail_under_xla_as_on_tffs_runtime(work):
    process = process_of(work)
    assert forms.peek(process).not_for_xla == []
    theirs, ours = results(process, [1.0, 2.0], mode=XLA, parallel=1)
    assert ours == pytest.approx(theirs)
    assert results(process, [1.0, 7.0], mode=XLA, parallel=1) == [None, None]


@pytest.mark.parametrize("work", [read, written])
def test_no_mode_is_needed(work):
    """`tf.vectorized_map` cannot vectorise these, which says an AssertionError."""
    process = process_of(work)
    theirs, ours = results(process, [1.0, 2.0])
    assert ours == pytest.approx(theirs)
    assert results(process, [1.0, 2.0, 7.0]) == [None, None]


def test_a_list_of_another_length_than_is_said():
    assert results(process_of(stacked), [1.0], mode=XLA, parallel=1) == [None, None]


def test_a_list_that_grows_is_left_to_tensorflow():
    process = process_of(pushed)
    assert "TensorListPushBack" in " ".join(forms.peek(process).not_for_xla)
    with pytest.raises(runtime.UnsupportedProcess, match="EmptyTensorList"):
        runtime.in_process(process, mode=XLA)
    assert results(process, [1.0, 1.0]) == [2.0, 2.0]
    assert results(process_of(popped), [1.0]) == [None, None]


def test_the_gradient_of_a_loop_is_compiled():
    process = process_of(gradient)
    assert forms.peek(process).not_for_xla == []
    theirs, ours = results(process, [1.0, 2.0], mode=XLA, parallel=1)
    assert theirs == pytest.approx(
        sum(float(gradient(tf.constant(x))) for x in (1.0, 2.0))
    )
    assert ours == pytest.approx(theirs)
