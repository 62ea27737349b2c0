"""Other forms of operations under XLA have the values of TensorFlow's kernels."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from xla_programs import formed, normal

from tfl_research.runtime.compiler import xla
from tfl_research.runtime.tracing import xla_forms
from tfl_research.runtime.tracing.graph import Graph

LONG = 300


@pytest.fixture(autouse=True, scope="module")
def flags():
    xla.set_flags()


def _bias_gradient(data_format, gradient):
    return tf.raw_ops.BiasAddGrad(out_backprop=gradient, data_format=data_format)


def _argmax(axis, value):
    return tf.argmax(value, axis)


class TestSums:
    @pytest.mark.parametrize("shape", [(5, 7, 9), (3, 4, 5, 11), (2, 0, 9), (1, 1, 8)])
    @pytest.mark.parametrize("is_known", [True, False])
    @pytest.mark.parametrize("keepdims", [False, True])
    def test_over_the_first_axes(self, shape, is_known, keepdims):
        axes = list(range(len(shape) - 1))
        known = [*shape] if is_known else [None] * len(axes) + [shape[-1]]
        program, operations = formed(
            lambda x: tf.reduce_sum(x, axes, keepdims), tf.TensorSpec(known)
        )
        assert "Sum" not in operations
        assert "MatMul" in operations
        x = normal(*shape)
        found, violated = program(x)
        expected = x.astype(np.float64).sum(axis=tuple(axes), keepdims=keepdims)
        assert found.shape == expected.shape
        assert not violated
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize(
        ("shape", "axes", "dtype"),
        [
            ((5, 7, 9), [0], tf.float32),
            ((5, 7, 9), [1, 2], tf.float32),
            ((5, 7, 9), [0, 1, 2], tf.float32),
            ((5, 7, 3), [0, 1], tf.float32),
            ((5, 7, 9), [0, 1], tf.float64),
            ((5, 7, 9), [0, 1], tf.int32),
        ],
    )
    def test_others_are_left_to_xla(self, shape, axes, dtype):
        program, operations = formed(
            lambda x: tf.reduce_sum(x, axes), tf.TensorSpec(shape, dtype)
        )
        assert "Sum" in operations
        x = (10 * normal(*shape)).astype(dtype.as_numpy_dtype)
        expected = x.sum(axis=tuple(axes))
        np.testing.assert_allclose(program(x)[0], expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_numbers_that_are_not_finite(self, value):
        program, _ = formed(
            lambda x: tf.reduce_sum(x, [0, 1]), tf.TensorSpec([None, None, 9])
        )
        x = normal(5, 7, 9)
        x[2, 3, 4] = value
        np.testing.assert_array_equal(
            np.asarray(program(x)[0])[4], np.full([], value, np.float32)
        )
        assert np.isfinite(np.delete(program(x)[0], 4)).all()

    @pytest.mark.parametrize("exchanged", [False, True])
    def test_the_gradient_of_what_was_repeated(self, exchanged):
        """The axes are known from the rank, before the sizes are."""

        def gradient(x, bias):
            with tf.GradientTape() as tape:
                tape.watch(bias)
                total = bias * x if exchanged else x * bias
            return tape.gradient(total, bias, output_gradients=x)

        program, operations = formed(
            gradient, tf.TensorSpec([None, None, 9]), tf.TensorSpec([9])
        )
        assert "Sum" not in operations
        x = normal(6, 7, 9)
        expected = (x.astype(np.float64) ** 2).sum(axis=(0, 1))
        np.testing.assert_allclose(program(x, np.ones(9))[0], expected, rtol=1e-5)

    def test_unknown_sizes_that_may_be_repeated_are_left(self):
        def gradient(x, y):
            with tf.GradientTape() as tape:
                tape.watch(y)
                product = x * y
            return tape.gradient(product, y)

        program, operations = formed(
            gradient, tf.TensorSpec([4, 5, 9]), tf.TensorSpec([None, None, 9])
        )
        assert "Sum" in operations
        x = normal(4, 5, 9)
        for shape in [(1, 1, 9), (4, 1, 9), (1, 5, 9), (4, 5, 9)]:
            axes = tuple(axis for axis in range(2) if shape[axis] == 1)
            found, _ = program(x, np.ones(shape))
            expected = x.sum(axis=axes, keepdims=True)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

    def test_the_gradient_of_a_bias(self):
        program, operations = formed(
            lambda g: tf.raw_ops.BiasAddGrad(out_backprop=g),
            tf.TensorSpec([None, None, 9]),
        )
        assert "BiasAddGrad" not in operations
        x = normal(6, 7, 9)
        np.testing.assert_allclose(
            program(x)[0], x.astype(np.float64).sum(axis=(0, 1)), rtol=1e-5, atol=1e-5
        )

    def test_the_gradient_of_a_bias_of_rows_is_left(self):
        for shape, kind in (((None, 9), "NHWC"), ((2, 3, 4, 9), "NCHW")):
            _, operations = formed(
                functools.partial(_bias_gradient, kind),
                tf.TensorSpec(shape),
            )
            assert "BiasAddGrad" in operations


class TestArgmax:
    @pytest.fixture(scope="class")
    def program(self):
        program, operations = formed(
            lambda x: tf.argmax(x, -1), tf.TensorSpec([None, LONG])
        )
        assert "ArgMax" not in operations
        return program

    def test_places(self, program):
        x = normal(50, LONG)
        found, violated = program(x)
        np.testing.assert_array_equal(found, x.argmax(axis=1))
        assert found.dtype == tf.int64
        assert not violated

    def test_the_first_of_equal_numbers(self, program):
        rows = np.round(normal(50, LONG))
        np.testing.assert_array_equal(program(rows)[0], rows.argmax(axis=1))
        zeros = np.where(np.arange(LONG) % 2, 0.0, -0.0).astype(np.float32)
        rows = np.stack([zeros, -zeros, np.full(LONG, 7, np.float32)])
        np.testing.assert_array_equal(program(rows)[0], tf.argmax(rows, -1))

    def test_infinity(self, program):
        rows = np.full((4, LONG), -np.inf, np.float32)
        rows[1, 9], rows[2, 17], rows[3, [30, 20]] = -1e38, np.inf, np.inf
        found, violated = program(rows)
        np.testing.assert_array_equal(found, tf.argmax(rows, -1))
        np.testing.assert_array_equal(found, [0, 9, 17, 20])
        assert not violated

    @pytest.mark.parametrize("place", [0, 16, 150, LONG - 1])
    def test_nan_is_left_to_tensorflow(self, program, place):
        x = normal(50, LONG)
        x[49, place] = np.nan
        assert program(x)[1]

    @pytest.mark.parametrize("count", [256, 257, 271, 512, 1000, 5001])
    def test_rows_of_any_length(self, count):
        program, _ = formed(
            lambda x: tf.argmax(x, 2, tf.int32), tf.TensorSpec([None, None, count])
        )
        x = normal(3, 4, count)
        found, _ = program(x)
        assert found.dtype == tf.int32
        np.testing.assert_array_equal(found, x.argmax(axis=2))
        last = np.zeros((1, 1, count), np.float32)
        last[..., -1] = 1
        assert program(last)[0] == [[count - 1]]

    def test_no_rows(self, program):
        assert program(np.zeros([0, LONG], np.float32))[0].shape == [0]

    def test_short_rows_and_other_axes_are_left(self):
        for shape, axis in (((None, 255), -1), ((LONG, LONG), 0), ((None, None), -1)):
            _, operations = formed(
                functools.partial(_argmax, axis), tf.TensorSpec(shape)
            )
            assert "ArgMax" in operations


class TestCrossEntropy:
    @pytest.fixture(scope="class", params=[tf.int32, tf.int64])
    def program(self, request):
        def both(labels, logits):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            return losses, tape.gradient(losses, logits)

        specs = tf.TensorSpec([None], request.param), tf.TensorSpec([None, LONG])
        program, operations = formed(both, *specs)
        assert "SparseSoftmaxCrossEntropyWithLogits" not in operations
        return program

    def test_losses_and_gradients(self, program):
        logits, labels = 5 * normal(40, LONG), np.arange(40)
        losses, gradient, violated = program(labels, logits)
        wide = logits.astype(np.float64)
        powers = np.exp(wide - wide.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
        of_labels = np.take_along_axis(shares, labels[:, np.newaxis], 1)[:, 0]
        np.testing.assert_allclose(losses, -np.log(of_labels), rtol=1e-5)
        np.testing.assert_allclose(gradient, shares - np.eye(40, LONG), atol=1e-6)
        assert not violated

    @pytest.mark.parametrize("label", [-1, LONG, 2**31 - 1])
    def test_a_label_out_of_range_is_left_to_tensorflow(self, program, label):
        labels = np.zeros(40, np.int64)
        labels[39] = label
        assert program(labels, normal(40, LONG))[2]

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
    @pytest.mark.parametrize("place", [3, 200])
    def test_special_logits(self, program, value, place):
        logits, labels = normal(5, LONG), np.full(5, 3)
        logits[1, place] = value
        losses, gradient, violated = program(labels, logits)
        expected = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
            features=logits, labels=labels
        )
        assert not violated
        np.testing.assert_allclose(losses, expected.loss, rtol=1e-5)
        np.testing.assert_allclose(gradient, expected.backprop, atol=1e-6)

    def test_few_classes_are_left(self):
        _, operations = formed(
            lambda y, x: tf.nn.sparse_softmax_cross_entropy_with_logits(y, x),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None, 62]),
        )
        assert "SparseSoftmaxCrossEntropyWithLogits" in operations


def test_programs_without_xla_are_left():
    computation = tff.tensorflow.computation(
        lambda x: tf.reduce_sum(x, [0, 1]), tff.TensorType(np.float32, [5, 7, 9])
    )
    traced = tf.function(Graph(computation).trace).get_concrete_function(
        tf.TensorSpec([5, 7, 9])
    )
    assert "Sum" in {op.type for op in traced.graph.get_operations()}


def test_a_process_that_sees_gpus_leaves_the_operations(monkeypatch):
    node = tf.compat.v1.NodeDef(op="Sum")
    node.attr["T"].type = tf.float32.as_datatype_enum
    assert xla_forms.has_form(node)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [kind])
    assert not xla_forms.has_form(node)
