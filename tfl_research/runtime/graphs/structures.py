"""Values of TFF types as flat lists of leaves, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff


def leaf_types(value_type: tff.Type) -> list[tff.Type]:
    """The tensor and sequence types in `value_type`, depth first."""
    if isinstance(value_type, tff.FederatedType):
        return leaf_types(value_type.member)
    if isinstance(value_type, tff.StructType):
        return [
            leaf
            for _, member in tff.structure.iter_elements(value_type)
            for leaf in leaf_types(member)
        ]
    return [value_type]


def member_names(value_type: tff.Type) -> list[Any]:
    """The names of the members of a type; empty if it is no structure."""
    if not isinstance(value_type, tff.StructType):
        return []
    return [name for name, _ in tff.structure.iter_elements(value_type)]


def flatten(value: Any, value_type: tff.Type) -> list[Any]:
    """The leaves of `value` in the order of `leaf_types(value_type)`.

    Structures may be mappings, sequences, named tuples, attrs classes or
    `tff.structure.Struct`s, as TFF takes them.

    Raises:
      ValueError: the value does not have the members of the type.
    """
    if isinstance(value_type, tff.FederatedType):
        return flatten(value, value_type.member)
    if not isinstance(value_type, tff.StructType):
        return [value]
    leaves = []
    for index, (name, member) in enumerate(tff.structure.iter_elements(value_type)):
        leaves += flatten(_member(value, index, name, value_type), member)
    return leaves


def tensors(value: Any, value_type: tff.Type) -> list[tf.Tensor]:
    """The leaves of `value` in the order of `flatten`, as tensors."""
    return [
        tf.convert_to_tensor(leaf, tf.as_dtype(leaf_type.dtype))
        for leaf, leaf_type in zip(flatten(value, value_type), leaf_types(value_type))
    ]


def _attributes(value: Any) -> Sequence[str]:
    """The names of a value's members that are attributes, as of a named tuple.

    A tuple or an array has attributes of its own (`count`, `mean`), which are not
    members.
    """
    if isinstance(value, tff.structure.Struct):
        return tff.structure.name_list(value)
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    attributes = getattr(type(value), "__attrs_attrs__", None)
    if attributes is not None:
        return [attribute.name for attribute in attributes]
    if isinstance(value, (Sequence, np.ndarray)):
        return list(getattr(value, "_fields", ()))
    return dir(value)


def _member(value: Any, index: int, name: Any, value_type: tff.Type) -> Any:
    try:
        if name is not None and isinstance(value, Mapping):
            return value[name]
        if name is not None and name in _attributes(value):
            return getattr(value, name)
        if isinstance(value, Mapping):
            return list(value.values())[index]
        if isinstance(value, (Sequence, tff.structure.Struct)):
            return value[index]
        return list(value)[index]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"a value of {type(value).__name__} has no member "
            f"{name if name is not None else index}, expected {value_type}"
        ) from error


def pack(leaves: Iterator[Any], value_type: tff.Type) -> Any:
    """The inverse of `flatten`, in the Python containers that the type records."""
    if isinstance(value_type, tff.FederatedType):
        return pack(leaves, value_type.member)
    if not isinstance(value_type, tff.StructType):
        return next(leaves)
    members = [
        (name, pack(leaves, member))
        for name, member in tff.structure.iter_elements(value_type)
    ]
    named = all(name is not None for name, _ in members)
    if not isinstance(value_type, tff.StructWithPythonType):
        return tff.structure.Struct(members)
    container = value_type.python_container
    if issubclass(container, Mapping):
        return container(members)
    if hasattr(container, "_fields") or hasattr(container, "__attrs_attrs__"):
        if named:
            return container(**dict(members))
        return container(*(member for _, member in members))
    return container(member for _, member in members)


def tensor_names(binding: Any) -> list[str]:
    """Names of the tensors of a `TensorFlow.Binding` of TFF's protocol, in order."""
    kind = binding.WhichOneof("binding")
    if kind == "tensor":
        return [binding.tensor.tensor_name]
    if kind == "sequence":
        return [binding.sequence.variant_tensor_name]
    if kind == "struct":
        return [name for each in binding.struct.element for name in tensor_names(each)]
    return []
