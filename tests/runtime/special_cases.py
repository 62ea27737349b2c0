"""Operations and ordinary arguments, in which a test puts special values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

ops = tf.raw_ops
_UNARY = """
Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Digamma Elu Erf Erfc Erfinv
Exp Expm1 Floor Inv Invert IsFinite IsInf IsNan LeakyRelu Lgamma Log Log1p Neg OnesLike
Reciprocal Relu Relu6 Rint Round Rsqrt Selu Sigmoid Sign Sin Sinh Softplus Softsign Sqrt
Square Tan Tanh ZerosLike
"""
_BINARY = """
Add AddV2 ApproximateEqual Atan2 BitwiseAnd BitwiseOr BitwiseXor Div DivNoNan
EluGrad Equal FloorDiv FloorMod Greater GreaterEqual LeakyReluGrad LeftShift Less
LessEqual Maximum Minimum Mod Mul MulNoNan NotEqual Pow RealDiv ReciprocalGrad Relu6Grad
ReluGrad RightShift RsqrtGrad SigmoidGrad SoftplusGrad SoftsignGrad SqrtGrad
SquaredDifference Sub TanhGrad TruncateDiv TruncateMod Xdivy Xlog1py Xlogy
"""
UNARY, BINARY = _UNARY.split(), _BINARY.split()
ELEMENTWISE = {
    **dict.fromkeys(UNARY, 1),
    **dict.fromkeys(BINARY, 2),
    "ClipByValue": 3,
}

_rng = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return _rng.normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


_IMAGE, _CUBE = floats(1, 5, 5, 2), floats(1, 4, 4, 4, 1)
_KERNEL, _CUBE_KERNEL = floats(3, 3, 2, 3), floats(2, 2, 2, 1, 2)
_POOL = {"ksize": [1, 2, 2, 1], "strides": [1, 2, 2, 1], "padding": "SAME"}
_POOL_3D = {"ksize": [1, 2, 2, 2, 1], "strides": [1, 2, 2, 2, 1], "padding": "SAME"}
_STEP = {"strides": [1, 1, 1, 1], "padding": "SAME"}
_STEP_3D = {"strides": [1, 1, 1, 1, 1], "padding": "SAME"}


def _normalised(x: Any, scale: Any, offset: Any) -> Any:
    none = tf.zeros([0])
    return ops.FusedBatchNormV3(
        x=x, scale=scale, offset=offset, mean=none, variance=none, is_training=True
    )[:3]


def _inference(*arguments: Any) -> Any:
    names = ("x", "scale", "offset", "mean", "variance")
    given = dict(zip(names, arguments))
    return ops.FusedBatchNormV3(**given, is_training=False)[0]


def _normalised_gradient(gradient: Any, x: Any, scale: Any, mean: Any, v: Any) -> Any:
    return ops.FusedBatchNormGradV3(
        y_backprop=gradient,
        x=x,
        scale=scale,
        reserve_space_1=mean,
        reserve_space_2=v,
        reserve_space_3=tf.zeros([0]),
        is_training=True,
    )[:3]


def _scatter(name: str) -> Callable[..., Any]:
    scatter = getattr(ops, f"TensorScatter{name}")
    return lambda t, i, u: scatter(tensor=t, indices=i[:, None], updates=u)


def _segments(name: str) -> Callable[..., Any]:
    segments = getattr(ops, f"UnsortedSegment{name}")
    return lambda x, i: segments(data=x, segment_ids=i, num_segments=3)


def _reduce(name: str, axis: int) -> Callable[..., Any]:
    return lambda x: getattr(ops, name)(input=x, axis=[axis])


_Case = tuple[Callable[..., Any], list[np.ndarray]]
CASES: dict[str, _Case] = {
    **{
        f"{name}_{axis}": (_reduce(name, axis), [floats(5, 6)])
        for name in ("Sum", "Mean", "Prod", "Max", "Min")
        for axis in (0, 1)
    },
    "all": (lambda x: tf.reduce_all(x > 0), [floats(4)]),
    "any": (lambda x: tf.reduce_any(x > 0), [floats(4)]),
    "mean_of_integers": (_reduce("Mean", 0), [ints(1, 2, 3, 6)]),
    "argmax": (lambda x: tf.argmax(x, 1), [floats(3, 5)]),
    "argmax_0": (lambda x: tf.argmax(x, 0), [floats(9, 3)]),
    "argmin": (lambda x: tf.argmin(x, 1), [floats(3, 5)]),
    "argmax_of_integers": (lambda x: tf.argmax(x), [ints(3, 7, 7, 1)]),
    "add_n": (lambda x, y: tf.add_n([x, y]), [floats(4), floats(4)]),
    "cumsum": (lambda x: tf.cumsum(x, exclusive=True, reverse=True), [floats(6)]),
    "cumprod": (lambda x: tf.math.cumprod(x), [floats(6)]),
    "top_k": (lambda x: tf.math.top_k(x, 3), [floats(2, 7)]),
    "sort": (tf.sort, [floats(9)]),
    "argsort": (
        lambda x: tf.argsort(x, direction="DESCENDING", stable=True),
        [floats(9)],
    ),
    "softmax": (tf.nn.softmax, [floats(3, 5)]),
    "log_softmax": (tf.nn.log_softmax, [floats(3, 5)]),
    "cross_entropy": (
        lambda x, y: ops.SoftmaxCrossEntropyWithLogits(features=x, labels=y),
        [floats(3, 5), np.abs(floats(3, 5))],
    ),
    "sparse_cross_entropy": (
        lambda x, y: ops.SparseSoftmaxCrossEntropyWithLogits(features=x, labels=y),
        [floats(3, 6), ints(0, 4, 2)],
    ),
    "max_pool": (lambda x: ops.MaxPool(input=x, **_POOL), [_IMAGE]),
    "max_pool_v2": (lambda x: ops.MaxPoolV2(input=x, **_POOL), [_IMAGE]),
    "max_pool_3d": (lambda x: ops.MaxPool3D(input=x, **_POOL_3D), [_CUBE]),
    "max_pool_gradient": (
        lambda x, g: ops.MaxPoolGrad(
            orig_input=x, orig_output=ops.MaxPool(input=x, **_POOL), grad=g, **_POOL
        ),
        [_IMAGE, floats(1, 3, 3, 2)],
    ),
    "max_pool_gradient_v2": (
        lambda x, g: ops.MaxPoolGradV2(
            orig_input=x, orig_output=ops.MaxPool(input=x, **_POOL), grad=g, **_POOL
        ),
        [_IMAGE, floats(1, 3, 3, 2)],
    ),
    "max_pool_3d_gradient": (
        lambda x, g: ops.MaxPool3DGrad(
            orig_input=x,
            orig_output=ops.MaxPool3D(input=x, **_POOL_3D),
            grad=g,
            **_POOL_3D,
        ),
        [_CUBE, floats(1, 2, 2, 2, 1)],
    ),
    "average_pool": (lambda x: ops.AvgPool(value=x, **_POOL), [_IMAGE]),
    "average_pool_3d": (lambda x: ops.AvgPool3D(input=x, **_POOL_3D), [_CUBE]),
    "average_pool_gradient": (
        lambda g: ops.AvgPoolGrad(orig_input_shape=[1, 5, 5, 2], grad=g, **_POOL),
        [floats(1, 3, 3, 2)],
    ),
    "average_pool_3d_gradient": (
        lambda g: ops.AvgPool3DGrad(
            orig_input_shape=[1, 4, 4, 4, 1], grad=g, **_POOL_3D
        ),
        [floats(1, 2, 2, 2, 1)],
    ),
    "convolution": (
        lambda x, k: ops.Conv2D(input=x, filter=k, **_STEP),
        [_IMAGE, _KERNEL],
    ),
    "convolution_filter": (
        lambda x, g: ops.Conv2DBackpropFilter(
            input=x, filter_sizes=[3, 3, 2, 3], out_backprop=g, **_STEP
        ),
        [_IMAGE, floats(1, 5, 5, 3)],
    ),
    "convolution_input": (
        lambda k, g: ops.Conv2DBackpropInput(
            input_sizes=[1, 5, 5, 2], filter=k, out_backprop=g, **_STEP
        ),
        [_KERNEL, floats(1, 5, 5, 3)],
    ),
    "depthwise": (
        lambda x, k: ops.DepthwiseConv2dNative(input=x, filter=k, **_STEP),
        [_IMAGE, _KERNEL],
    ),
    "depthwise_filter": (
        lambda x, g: ops.DepthwiseConv2dNativeBackpropFilter(
            input=x, filter_sizes=[3, 3, 2, 3], out_backprop=g, **_STEP
        ),
        [_IMAGE, floats(1, 5, 5, 6)],
    ),
    "depthwise_input": (
        lambda k, g: ops.DepthwiseConv2dNativeBackpropInput(
            input_sizes=[1, 5, 5, 2], filter=k, out_backprop=g, **_STEP
        ),
        [_KERNEL, floats(1, 5, 5, 6)],
    ),
    "convolution_3d": (
        lambda x, k: ops.Conv3D(input=x, filter=k, **_STEP_3D),
        [_CUBE, _CUBE_KERNEL],
    ),
    "convolution_3d_filter": (
        lambda x, g: ops.Conv3DBackpropFilterV2(
            input=x, filter_sizes=[2, 2, 2, 1, 2], out_backprop=g, **_STEP_3D
        ),
        [_CUBE, floats(1, 4, 4, 4, 2)],
    ),
    "convolution_3d_input": (
        lambda k, g: ops.Conv3DBackpropInputV2(
            input_sizes=[1, 4, 4, 4, 1], filter=k, out_backprop=g, **_STEP_3D
        ),
        [_CUBE_KERNEL, floats(1, 4, 4, 4, 2)],
    ),
    "normalisation": (_normalised, [_IMAGE, floats(2), floats(2)]),
    "normalisation_of_one": (_normalised, [floats(1, 1, 1, 2), floats(2), floats(2)]),
    "normalisation_inference": (
        _inference,
        [_IMAGE, floats(2), floats(2), floats(2), np.abs(floats(2))],
    ),
    "normalisation_gradient": (
        _normalised_gradient,
        [_IMAGE, _IMAGE, floats(2), floats(2), np.abs(floats(2))],
    ),
    "matmul": (tf.matmul, [floats(4, 4), floats(4, 3)]),
    "matmul_transposed": (
        lambda a, b: tf.matmul(a, b, transpose_a=True),
        [floats(4, 4), floats(4, 3)],
    ),
    "batch_matmul": (
        lambda a, b: ops.BatchMatMulV2(x=a, y=b),
        [floats(2, 3, 4), floats(2, 4, 3)],
    ),
    "einsum": (lambda a, b: tf.einsum("ij,jk->ik", a, b), [floats(3, 4), floats(4, 3)]),
    "bias": (lambda a, b: tf.nn.bias_add(a, b), [floats(3, 4), floats(4)]),
    "bias_gradient": (lambda g: ops.BiasAddGrad(out_backprop=g), [floats(3, 4)]),
    "cross": (tf.linalg.cross, [floats(2, 3), floats(2, 3)]),
    "l2_loss": (tf.nn.l2_loss, [floats(6)]),
    "cholesky": (tf.linalg.cholesky, [2 * np.eye(3, dtype=np.float32)]),
    "where": (lambda a, b: tf.where(a > 0, a, b), [floats(3), floats(3)]),
    "one_hot": (lambda i: tf.one_hot(i, 3), [ints(0, 1, 2)]),
    "linspace": (
        lambda a, b: ops.LinSpace(start=a, stop=b, num=5),
        [np.array(1, np.float32), np.array(2, np.float32)],
    ),
    "pad": (lambda x: tf.pad(x, [[1, 1]]), [floats(4)]),
    "pad_with": (
        lambda x, v: ops.PadV2(input=x, paddings=[[1, 1]], constant_values=v),
        [floats(4), np.array(1, np.float32)],
    ),
    "mirror": (lambda x: tf.pad(x, [[1, 1]], "REFLECT"), [floats(4)]),
    "mirror_gradient": (
        lambda g: ops.MirrorPadGrad(input=g, paddings=[[1, 1]], mode="REFLECT"),
        [floats(6)],
    ),
    **{
        f"segments_{n}": (_segments(n), [floats(4), ints(0, 2, 2, 0)])
        for n in ("Sum", "Max", "Min", "Prod")
    },
    **{
        f"scatter_{n}": (_scatter(n), [floats(4), ints(0, 3), floats(2)])
        for n in ("Add", "Sub", "Update", "Max", "Min")
    },
    "gather": (lambda x, i: tf.gather(x, i), [floats(4), ints(0, 3)]),
    "gather_nd": (lambda x, i: tf.gather_nd(x, i[:, None]), [floats(4), ints(0, 3)]),
    "scatter_nd": (
        lambda i, x: tf.scatter_nd(i[:, None], x, [4]),
        [ints(0, 3), floats(2)],
    ),
    "slice": (lambda x: tf.slice(x, [1], [2]), [floats(5)]),
    "inverse_permutation": (tf.math.invert_permutation, [ints(2, 0, 1)]),
    "roll": (lambda x, i: tf.roll(x, i, [0]), [floats(5), ints(2)]),
    "reverse": (lambda x: tf.reverse(x, [0]), [floats(4)]),
    "reverse_sequence": (
        lambda x, i: tf.reverse_sequence(x, i, seq_axis=1, batch_axis=0),
        [floats(2, 4), ints(2, 4)],
    ),
    "band": (
        lambda x, i: ops.MatrixBandPart(input=x, num_lower=i[0], num_upper=i[1]),
        [floats(4, 4), ints(1, 1)],
    ),
    "diagonal": (tf.linalg.diag, [floats(3)]),
    "diagonal_part": (tf.linalg.diag_part, [floats(3, 3)]),
    "set_diagonal": (tf.linalg.set_diag, [floats(3, 3), floats(3)]),
    "clip_by_norm": (lambda x: tf.clip_by_norm(x, 1.0), [floats(4)]),
    "depth_to_space": (lambda x: tf.nn.depth_to_space(x, 2), [floats(1, 2, 2, 4)]),
    "nearest": (
        lambda x: ops.ResizeNearestNeighbor(images=x, size=[7, 7]),
        [_IMAGE],
    ),
    "bits": (lambda x: tf.bitcast(x, tf.int32), [floats(4)]),
    "to_int": (lambda x: tf.cast(x, tf.int32), [floats(4)]),
    "to_byte": (lambda x: tf.cast(x, tf.uint8), [np.abs(floats(4))]),
    "to_half": (lambda x: tf.cast(x, tf.float16), [floats(4)]),
    "to_bool": (lambda x: tf.cast(x, tf.bool), [floats(4)]),
    "int_to_byte": (lambda i: tf.cast(i, tf.uint8), [ints(0, 255)]),
}
_SPECIAL = (np.nan, np.inf, -np.inf, 1e30, -0.0, 1e-40)


def with_special_values(arguments: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """The arguments with a special value at some place, or at all places, of one."""
    for position, argument in enumerate(arguments):
        values = _SPECIAL if argument.dtype == np.float32 else (-7, -1, 3, 7, 2**30)
        for value in values:
            places: list[Any] = [0, argument.size // 2, argument.size - 1, slice(None)]
            for place in places if argument.size > 1 else [0]:
                changed = argument.copy()
                changed.reshape(-1)[place] = value
                yield [*arguments[:position], changed, *arguments[position + 1 :]]
