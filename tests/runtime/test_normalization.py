"""Normalisations of a varying number of channels, against TensorFlow's kernels."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.runtime.tracing import normalization
from tfl_research.runtime.tracing.graph import Graph
from tfl_research.runtime.tracing.imports import Use

FORMATS = ["NCHW", "NHWC"]
EPSILON = 1e-3


def given(data_format, dtype=np.float32):
    """x, gradient, scale and offset; 7 channels of 2 * 3 * 4 numbers."""
    generator = np.random.default_rng(0)
    shape = (2, 7, 3, 4) if data_format == "NCHW" else (2, 3, 4, 7)
    x, gradient = generator.normal(2, 3, (2, *shape)).astype(dtype)
    scale, offset = generator.uniform(0.5, 2, (2, 7)).astype(np.float32)
    return x, gradient, scale, offset


def by_hand(x, gradient, scale, offset, data_format):
    """y, mean, corrected variance, and the gradients of x, scale and offset."""
    channel = 1 if data_format == "NCHW" else 3
    axes = tuple(axis for axis in range(4) if axis != channel)
    shape = [1] * 4
    shape[channel] = -1
    x, gradient = x.astype(np.float64), gradient.astype(np.float64)
    mean, variance = x.mean(axes), x.var(axes)
    root = np.reshape(1 / np.sqrt(variance + EPSILON), shape)
    normal = (x - mean.reshape(shape)) * root
    y = normal * scale.reshape(shape) + offset.reshape(shape)
    wide = gradient * scale.reshape(shape)
    of_x = root * (
        wide
        - wide.mean(axes, keepdims=True)
        - normal * (wide * normal).mean(axes, keepdims=True)
    )
    of_scale, of_offset = (gradient * normal).sum(axes), gradient.sum(axes)
    return y, mean, variance * 24 / 23, of_x, of_scale, of_offset


def computation(data_format, sizes_known, dtype=np.float32):
    shape = given(data_format)[0].shape
    shape = shape if sizes_known else (None,) * 4

    @tff.tensorflow.computation(
        tff.TensorType(dtype, shape),
        tff.TensorType(dtype, shape),
        tff.TensorType(np.float32, [None]),
        tff.TensorType(np.float32, [None]),
    )
    def both(x, gradient, scale, offset):
        forward = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=scale,
            offset=offset,
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=EPSILON,
            data_format=data_format,
        )
        backward = tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=gradient,
            x=x,
            scale=scale,
            reserve_space_1=forward.reserve_space_1,
            reserve_space_2=forward.reserve_space_2,
            reserve_space_3=forward.reserve_space_3,
            epsilon=EPSILON,
            data_format=data_format,
        )
        return [
            forward.y,
            forward.batch_mean,
            forward.batch_variance,
            backward.x_backprop,
            backward.scale_backprop,
            backward.offset_backprop,
        ]

    return both


def traced(comp, guarded, *values, sizes_known=False):
    program = tf.function(
        lambda *tensors: Graph(comp).trace(*tensors, use=Use(guarded=guarded))
    ).get_concrete_function(
        *(
            tf.TensorSpec(
                np.shape(value) if sizes_known else [None] * np.ndim(value),
                np.asarray(value).dtype,
            )
            for value in values
        )
    )
    operations = {op.type for op in program.graph.get_operations()}
    return program(*map(tf.constant, values)), operations


@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("data_format", FORMATS)
def test_values_and_gradients(data_format, guarded):
    values = given(data_format)
    found, operations = traced(computation(data_format, False), guarded, *values)
    assert not any("FusedBatchNorm" in name for name in operations)
    for one, expected in zip(found, by_hand(*values, data_format)):
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-4)


def test_halves_are_computed_as_floats():
    values = given("NHWC", np.float16)
    found, _ = traced(computation("NHWC", False, np.float16), False, *values)
    assert found[0].dtype == found[3].dtype == tf.float16
    assert found[1].dtype == tf.float32
    for one, expected in zip(found, by_hand(*values, "NHWC")):
        np.testing.assert_allclose(one, expected, rtol=2e-2, atol=2e-2)


def test_a_single_number_in_a_channel():
    x = np.full((1, 5, 1, 1), 3, np.float32)
    ones = np.ones(5, np.float32)
    found, _ = traced(computation("NCHW", False), False, x, x, ones, ones)
    np.testing.assert_array_equal(found[0], np.ones_like(x))
    np.testing.assert_array_equal(found[2], np.zeros(5))
    np.testing.assert_array_equal(found[3], np.zeros_like(x))


@pytest.mark.parametrize("operation", ["FusedBatchNorm", "FusedBatchNormV2"])
def test_older_operations_have_five_outputs(operation):
    node = tf.compat.v1.NodeDef(op=operation)
    node.attr["is_training"].b = True
    node.attr["exponential_avg_factor"].f = 1.0
    node.attr["epsilon"].f = EPSILON
    node.attr["data_format"].s = b"NHWC"
    x, _, scale, offset = given("NHWC")
    outputs = []

    @tf.function(input_signature=[tf.TensorSpec([None] * 4)])
    def run(value):
        outputs.extend(normalization.plain(node, [value, scale, offset, [], []]))
        return outputs[0]

    y = run(x)
    assert len(outputs) == 5
    np.testing.assert_allclose(
        y, by_hand(x, x, scale, offset, "NHWC")[0], rtol=1e-4, atol=1e-4
    )


def test_others_are_left():
    """Known numbers of channels, moving averages, and statistics from outside."""
    values = given("NHWC")
    known = computation("NHWC", True)
    _, operations = traced(known, False, *values, sizes_known=True)
    assert "FusedBatchNormV3" in operations
    node = tf.compat.v1.NodeDef(op="FusedBatchNormV3")
    node.attr["exponential_avg_factor"].f = 1.0
    assert not normalization.may_vary(node)
    node.attr["is_training"].b = True
    assert normalization.may_vary(node)
    for factor in (0.9, 0.0):
        node.attr["exponential_avg_factor"].f = factor
        assert not normalization.may_vary(node)


def test_batches_of_different_lengths_in_a_loop():
    """TensorFlow's kernel ends the process here, when it computes several steps."""
    layer = tf.keras.layers.LayerNormalization()
    layer.build([None, 6, 8])

    @tff.tensorflow.computation(
        tff.TensorType(np.float32, [3, 4, 6, 8]), tff.TensorType(np.int32, [3])
    )
    def sums(batches, rows):
        def step(index, total):
            x = batches[index][: rows[index]]
            # As the layer does it.
            flat = tf.reshape(x, [1, -1, 8, 1])
            ones = tf.ones([tf.shape(flat)[1]])
            y = tf.raw_ops.FusedBatchNormV3(
                x=flat,
                scale=ones,
                offset=0 * ones,
                mean=tf.zeros([0]),
                variance=tf.zeros([0]),
                epsilon=EPSILON,
                data_format="NCHW",
            ).y
            return index + 1, total + tf.reduce_sum(tf.abs(y))

        return tf.while_loop(lambda index, _: index < 3, step, (0, 0.0))[1]

    program = tf.function(Graph(sums).trace)
    generator = np.random.default_rng(0)
    for _ in range(100):
        batches = generator.normal(size=(3, 4, 6, 8)).astype(np.float32)
        found = program(tf.constant(batches), tf.constant([4, 3, 1]))
    expected = sum(
        float(tf.reduce_sum(tf.abs(layer(batches[i, :rows]))))
        for i, rows in enumerate([4, 3, 1])
    )
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
