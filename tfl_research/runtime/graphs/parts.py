"""Computations of TensorFlow as graphs with flat arguments and results."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.runtime.graphs.structures import tensor_names


@dataclasses.dataclass(frozen=True)
class Part:
    """One computation of TensorFlow.

    Attributes:
      graph_def: a GraphDef with its function library.
      inputs: tensor names of the parameter's leaves, in order.
      outputs: tensor names of the result's leaves, in order.
      initialize_op: name of the operation that is executed first; empty for none.
      parameter_type: its TFF type; None without a parameter.
      result_type: its TFF type.
    """

    graph_def: Any
    inputs: Sequence[str]
    outputs: Sequence[str]
    initialize_op: str
    parameter_type: Optional[tff.Type]
    result_type: tff.Type

    @classmethod
    def of(cls, computation: tff.Computation) -> Part:
        """The graph of a computation of TensorFlow."""
        message = tff.framework.serialize_computation(computation)
        return cls.of_message(message, computation.type_signature)

    @classmethod
    def of_message(cls, message: Any, signature: tff.FunctionType) -> Part:
        """The graph of a serialised computation.

        Args:
          message: a `Computation` of TFF's protocol, by TensorFlow.
          signature: its type.
        """
        content = message.tensorflow
        graph_def = tf.compat.v1.GraphDef()
        content.graph_def.Unpack(graph_def)
        return cls(
            graph_def,
            tensor_names(content.parameter),
            tensor_names(content.result),
            content.initialize_op,
            signature.parameter,
            signature.result,
        )


def is_number(tensor_type: tff.TensorType) -> bool:
    """Whether `constant`, `zero` and `plus` know a type."""
    dtype = tf.as_dtype(tensor_type.dtype)
    known = dtype.is_floating or dtype.is_integer
    return known and tf.TensorShape(tensor_type.shape).is_fully_defined()


def zero(tensor_type: tff.TensorType) -> Part:
    """A tensor of zeros, as in TFF's body of `federated_sum`."""
    return constant(0, tensor_type)


def constant(value: Any, tensor_type: tff.TensorType) -> Part:
    """A tensor of numbers, or of one number in all places."""
    graph_def = empty()
    dtype = tf.as_dtype(tensor_type.dtype)
    node = graph_def.node.add(name="value", op="Const")
    node.attr["dtype"].type = dtype.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(
        tf.make_tensor_proto(value, dtype, list(tensor_type.shape))
    )
    return Part(graph_def, [], ["value:0"], "", None, tensor_type)


def plus(tensor_type: tff.TensorType) -> Part:
    """The sum of two tensors, as in TFF's body of `federated_sum`."""
    graph_def = empty()
    for name in ("first", "second"):
        add_placeholder(graph_def, name, tensor_type)
    node = graph_def.node.add(name="sum", op="AddV2", input=["first", "second"])
    node.attr["T"].type = tf.as_dtype(tensor_type.dtype).as_datatype_enum
    parameter = tff.StructType([tensor_type, tensor_type])
    inputs = ["first:0", "second:0"]
    return Part(graph_def, inputs, ["sum:0"], "", parameter, tensor_type)


def empty() -> Any:
    """A GraphDef without operations."""
    graph_def = tf.compat.v1.GraphDef()
    graph_def.versions.producer = tf.version.GRAPH_DEF_VERSION
    return graph_def


def add_placeholder(graph_def: Any, name: str, tensor_type: tff.TensorType) -> None:
    """Adds an argument to a GraphDef."""
    node = graph_def.node.add(name=name, op="Placeholder")
    node.attr["dtype"].type = tf.as_dtype(tensor_type.dtype).as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(tensor_type.shape).as_proto())
