"""Which TensorFlow operations may be imported, inlined and compiled.

TensorFlow's registry says whether an operation has a state or an effect. An operation
that the registry does not call free of both is used only if a list here has it. So an
unknown operation is never taken for a pure one.
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

# The registry calls these stateful since a device decides about them. On one kind of
# device they are functions of their arguments.
_DEVICE_DEPENDENT = frozenset(
    {"StatelessRandomGetAlg", "StatelessRandomGetKeyCounterAlg"}
)

# Operations that fail or print. They are kept in graphs that run; under XLA an `Assert`
# and a `CheckNumerics` become guards, and a graph that prints is not compiled.
ASSERTIONS = frozenset({"Assert", "CheckNumerics", "CheckNumericsV2"})
_PRINTS = frozenset({"Print", "PrintV2"})
# Generators with a state of their own. XLA has other generators.
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

# Stateless operations whose results under XLA may differ from TensorFlow's, and which no
# guard covers. The same seed gives other random numbers under XLA.
_OTHER_UNDER_XLA = frozenset(
    {
        "StatelessRandomUniform",
        "StatelessRandomUniformV2",
        "StatelessRandomUniformInt",
        "StatelessRandomUniformIntV2",
        "StatelessRandomUniformFullInt",
        "StatelessRandomNormal",
        "StatelessRandomNormalV2",
        "StatelessTruncatedNormal",
        "StatelessTruncatedNormalV2",
        "StatelessParameterizedTruncatedNormal",
        "StatelessRandomBinomial",
        "StatelessRandomGammaV2",
        "StatelessRandomGammaV3",
        "StatelessRandomPoisson",
        "StatelessShuffle",
        "StatelessRandomGetAlg",
        "StatelessRandomGetKeyCounterAlg",
        "Bincount",
        "DenseBincount",
        "SegmentSum",
        "SegmentMean",
        "SegmentProd",
        "SegmentMax",
        "SegmentMin",
        "SegmentSumV2",
        "SegmentProdV2",
        "SegmentMaxV2",
        "SegmentMinV2",
        "InvertPermutation",
        "InTopK",
        "InTopKV2",
    }
)
# Not compiled: besides the above, what XLA would leave out.
GRAPH_ONLY = _OTHER_UNDER_XLA | _PRINTS | _GENERATORS

_FUNCTIONS_OF_HANDLES = (tf.resource.as_datatype_enum,)


@functools.lru_cache(maxsize=None)
def is_pure(operation: str) -> bool:
    """Whether results depend on arguments alone, and nothing else happens.

    Args:
      operation: the name of an operation, `NodeDef.op`. Functions that it calls do not
        count.
    """
    if operation in CONTROL_FLOW or operation in _DEVICE_DEPENDENT:
        return True
    definition = _tff_compat.operation_definition(operation)
    if definition is None or definition.is_stateful:
        return False
    if "Dataset" in operation or "Iterator" in operation:
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


def needs_interpretation(node: Any) -> bool:
    """Whether a NodeDef has a state or an effect that importing it would lose."""
    return not is_pure(node.op)
