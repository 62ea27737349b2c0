"""Decides which TensorFlow operations may be imported, inlined and compiled.

TensorFlow's registry says whether an operation has a state or a side effect. If the
registry does not say that an operation has neither, the operation is used only if it is
in a list here. So an unknown operation is never treated as pure.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from tfl_research import _tff_compat

CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
LOOPS = frozenset({"While", "StatelessWhile"})
BRANCHES = frozenset({"If", "StatelessIf", "Case", "StatelessCase"})
CONTROL_FLOW = CALLS | LOOPS | BRANCHES

# Operations on variables that become values of the traced graph.
VARIABLES = frozenset(
    {
        "VarHandleOp",
        "ReadVariableOp",
        "AssignVariableOp",
        "AssignAddVariableOp",
        "AssignSubVariableOp",
        "VarIsInitializedOp",
        "VariableShape",
        "ResourceGather",
        "ResourceScatterAdd",
        "ResourceScatterSub",
        "ResourceScatterUpdate",
        "DestroyResourceOp",
    }
)
# Operations on a client's dataset that become a loop over its elements.
REDUCE = "ReduceDataset"
SAME_DATASET = frozenset({"OptionsDataset", "PrefetchDataset"})
SEQUENCES = SAME_DATASET | {REDUCE}

# The registry calls these stateful since their results depend on the device. On one
# kind of device they are functions of their arguments.
_DEVICE_DEPENDENT = frozenset(
    {"StatelessRandomGetAlg", "StatelessRandomGetKeyCounterAlg"}
)

# The registry does not call these stateful, although they depend on more than their
# arguments.
_OUTSIDE = frozenset({"ReadFile", "MatchingFiles", "PyFuncStateless"})

# Operations that fail or print. They are kept in graphs that run; under XLA an `Assert`
# and a `CheckNumerics` become guards, and a graph that prints is not compiled.
ASSERTIONS = frozenset({"Assert", "CheckNumerics", "CheckNumericsV2"})
_PRINTS = frozenset({"Print", "PrintV2"})
# Random generators with their own state.
_GENERATORS = frozenset(
    {
        "RandomUniform",
        "RandomUniformInt",
        "RandomStandardNormal",
        "TruncatedNormal",
        "ParameterizedTruncatedNormal",
        "RandomShuffle",
        "RandomGamma",
        "RandomPoissonV2",
        "Multinomial",
        "StatelessMultinomial",
        "Timestamp",
    }
)
EFFECTS = ASSERTIONS | _PRINTS | _GENERATORS

# Operations for which XLA's results equal TensorFlow's, if the guards of
# `limits_of_xla` hold. Not included, because XLA's results differ: random numbers,
# except for Philox' integers; some transforms, normalised responses and resized images
# of NaN; and SELU's derivative at 0. Inverses and solutions of singular systems fail in
# TensorFlow, but are numbers in XLA. TensorFlow executes lists of tensors that grow or
# shrink (`graphs.lists`).
_PURE_AND_COMPILED = """
Abs Acos Acosh Add AddN AddV2 All Any ApproximateEqual ArgMax ArgMin Asin Asinh Atan
Atan2 Atanh AvgPool AvgPool3D AvgPool3DGrad AvgPoolGrad BatchMatMul BatchMatMulV2
BatchMatMulV3 BatchToSpaceND BiasAdd BiasAddGrad Bitcast BitwiseAnd BitwiseOr BitwiseXor
BroadcastArgs BroadcastGradientArgs BroadcastTo Cast Ceil Cholesky ClipByValue Concat
ConcatOffset ConcatV2 Const Conv2D Conv2DBackpropFilter Conv2DBackpropInput Conv3D
Conv3DBackpropFilterV2 Conv3DBackpropInputV2 Cos Cosh Cross Cumprod Cumsum DepthToSpace
DepthwiseConv2dNative DepthwiseConv2dNativeBackpropFilter
DepthwiseConv2dNativeBackpropInput Diag DiagPart Digamma Div DivNoNan DynamicStitch
Einsum Elu EluGrad Empty EmptyTensorList EnsureShape Equal Erf Erfc Erfinv Exp
ExpandDims Expm1 Fill Floor FloorDiv FloorMod FusedBatchNorm FusedBatchNormGrad
FusedBatchNormGradV2 FusedBatchNormGradV3 FusedBatchNormV2 FusedBatchNormV3 Gather
GatherNd GatherV2 Greater GreaterEqual Identity IdentityN Inv Invert InvertPermutation
IsFinite IsInf IsNan L2Loss LeakyRelu LeakyReluGrad LeftShift Less LessEqual Lgamma
LinSpace Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul MatrixBandPart
MatrixDiag MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3
MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 Max MaxPool MaxPool3D MaxPool3DGrad
MaxPoolGrad MaxPoolGradV2 MaxPoolV2 Maximum Mean Min Minimum MirrorPad MirrorPadGrad Mod
Mul MulNoNan Neg NoOp NotEqual OneHot OnesLike Pack Pad PadV2 ParallelDynamicStitch
Placeholder PlaceholderWithDefault Pow PreventGradient Prod Range Rank RealDiv
Reciprocal ReciprocalGrad Relu Relu6 Relu6Grad ReluGrad Reshape ResizeNearestNeighbor
Reverse ReverseSequence ReverseV2 RightShift Rint Roll Round Rsqrt RsqrtGrad ScatterNd
Select SelectV2 Selu Shape ShapeN Sigmoid SigmoidGrad Sign Sin Sinh Size Slice Snapshot
Softmax SoftmaxCrossEntropyWithLogits Softplus SoftplusGrad Softsign SoftsignGrad
SpaceToBatchND SpaceToDepth SparseSoftmaxCrossEntropyWithLogits Split SplitV Sqrt
SqrtGrad Square SquaredDifference Squeeze StatelessRandomGetKeyCounter
StatelessRandomUniformFullIntV2 StopGradient StridedSlice StridedSliceGrad Sub Sum Tan
Tanh TanhGrad TensorListConcatV2 TensorListElementShape TensorListFromTensor
TensorListGather TensorListGetItem TensorListLength TensorListPopBack TensorListPushBack
TensorListReserve TensorListSetItem TensorListSplit TensorListStack TensorScatterAdd
TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate Tile TopKV2
Transpose TruncateDiv TruncateMod Unpack UnsortedSegmentMax UnsortedSegmentMin
UnsortedSegmentProd UnsortedSegmentSum Xdivy Xlog1py Xlogy ZerosLike
"""
COMPILED = (
    CONTROL_FLOW
    | VARIABLES
    | frozenset({"Assert", "CheckNumerics", "CheckNumericsV2"})
    | frozenset(_PURE_AND_COMPILED.split())
)

_FUNCTIONS_OF_HANDLES = (tf.resource.as_datatype_enum,)


@functools.cache
def is_pure(operation: str) -> bool:
    """Whether results depend only on arguments, without side effects.

    Args:
      operation: the name of an operation, `NodeDef.op`. Functions that the operation
        calls are not considered.
    """
    if operation in CONTROL_FLOW or operation in _DEVICE_DEPENDENT:
        return True
    definition = _tff_compat.operation_definition(operation)
    if definition is None or definition.is_stateful:
        return False
    if "Dataset" in operation or "Iterator" in operation or operation in _OUTSIDE:
        return False
    arguments = [*definition.input_arg, *definition.output_arg]
    return not any(
        argument.is_ref or argument.type in _FUNCTIONS_OF_HANDLES
        for argument in arguments
    )


def is_traceable(operation: str) -> bool:
    """Whether a graph with this operation can be added to the toolkit's programs."""
    return (
        is_pure(operation)
        or operation in VARIABLES
        or operation in SEQUENCES
        or operation in EFFECTS
    )


def has_seed(node: Any) -> bool:
    """Whether a NodeDef is a generator with its own state and a seed.

    Its numbers are functions of the seed and of the number of earlier draws, which
    differs between runtimes.
    """
    if node.op not in _GENERATORS:
        return False
    return any(name in node.attr and node.attr[name].i for name in ("seed", "seed2"))


def needs_interpretation(node: Any) -> bool:
    """Whether a NodeDef has a state or side effect that an import would lose."""
    return not is_pure(node.op)
