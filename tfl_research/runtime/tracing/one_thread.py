"""Computes a part of a program on one thread: chunks of clients use the cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def on_one_thread(
    part: Callable[..., Sequence[tf.Tensor]],
) -> Callable[..., list[tf.Tensor]]:
    """Makes one thread compute a part of a program.

    XLA has two kinds of matrix products on the CPU. The products for a pool of threads
    use AVX-512. The products without a pool have 40% of their rate (72 against 175
    GFLOP/s). But the pool would divide small products over cores that compute other
    chunks. TensorFlow has one pool for the whole process. Only in the functions of
    `MapDefun` it limits how many of the pool's threads an operation takes. So the part
    becomes such a function, which is mapped over one element.

    The results do not depend on the number of cores. A process that sees GPUs computes
    the part unchanged: `MapDefun` is for the CPU.

    Args:
      part: a function of structures of tensors that returns tensors. Its arguments may
        have resources, but its results may not.
    """

    def limited(*arguments: Any) -> list[tf.Tensor]:
        if tf.config.get_visible_devices("GPU"):
            return list(part(*arguments))

        def function(element: tf.Tensor, *given: tf.Tensor) -> list[tf.Tensor]:
            del element
            return list(part(*tf.nest.pack_sequence_as(arguments, given)))

        flat = tf.nest.flatten(arguments)
        specs = [tf.TensorSpec(a.shape, a.dtype) for a in flat]
        traced: Any = tf.function(function, autograph=False).get_concrete_function(
            tf.TensorSpec([], tf.int32), *specs
        )
        results = tf.raw_ops.MapDefun(
            arguments=[tf.zeros([1], tf.int32)],
            captured_inputs=[*flat, *traced.captured_inputs],
            output_types=[result.dtype for result in traced.outputs],
            output_shapes=[result.shape for result in traced.outputs],
            f=traced,
            max_intra_op_parallelism=1,
        )
        return [tf.squeeze(result, [0]) for result in results]

    return limited
