"""Products with a recurrent kernel."""

import numpy as np
import tensorflow as tf

from tfl_research.models.layers.recurrent.products import Product


def test_the_kernel_is_transposed_outside_of_the_loop():
    kernel = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    gradient = np.array([[1.0, 2.0, 3.0]], np.float32)
    with tf.Graph().as_default() as graph:
        product = Product(tf.constant(kernel), None)
        before = set(graph.get_operations())
        result = product.back(tf.constant(gradient))
        found = [op for op in graph.get_operations() if op not in before]
        value = tf.compat.v1.Session().run(result)
    np.testing.assert_array_equal(value, gradient @ kernel.T)
    (one,) = [op for op in found if op.type == "MatMul"]
    assert not one.get_attr("transpose_b")
    assert "Transpose" not in {op.type for op in found}
