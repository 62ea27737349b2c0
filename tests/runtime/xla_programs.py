"""Programs of graphs that XLA compiles, as chunks have them."""

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.runtime.tracing.graph import Graph
from tfl_research.runtime.tracing.imports import Use


def formed(function, *specs):
    """A program of a function's graph for XLA: its results, violated, and operations.

    The program's results end with whether a guard was violated.
    """
    types = [tff.TensorType(spec.dtype.as_numpy_dtype, spec.shape) for spec in specs]
    graph = Graph(tff.tensorflow.computation(function, *types))

    def program(*values):
        violations = [tf.constant(False)]
        results = graph.trace(*values, use=Use(guarded=True), violations=violations)
        return [*results, tf.reduce_any(tf.stack(violations))]

    whole = tf.function(program, jit_compile=True, input_signature=specs)
    traced = whole.get_concrete_function().graph
    return whole, {op.type for op in traced.get_operations()}


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)
