"""Expresses a round's values in terms of the state and of a client's value.

A placed value is the expression of one member: the server's, or one client's. Each
tensor says from which TensorFlow call it comes, so that a part of a round can be
written as a graph.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Union

import tensorflow_federated as tff

from tfl_research.runtime.graphs.parts import Part


class Unknown(ValueError):
    """These expressions cannot describe a computation."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor: a result of a call, or an argument of a part of a round.

    Attributes:
      owner: the object from which the tensor comes.
      index: the number of the tensor among the owner's tensors.
      type: the TFF type.
    """

    owner: Owner
    index: int
    type: tff.TensorType

    @property
    def key(self) -> tuple[int, int]:
        """Equal for equal tensors."""
        return id(self.owner), self.index


@dataclasses.dataclass(frozen=True, eq=False)
class Struct:
    """A structure; member names are ignored, as TFF's protocol selects by number."""

    members: Sequence[Value]


@dataclasses.dataclass(frozen=True, eq=False)
class Placed:
    """A value at the server, or at each client."""

    value: Value


@dataclasses.dataclass(frozen=True, eq=False)
class Leaf:
    """A computation of TensorFlow."""

    part: Part


@dataclasses.dataclass(frozen=True, eq=False)
class Lambda:
    """A function of building blocks, with the values of the names in it."""

    message: Any
    names: Mapping[str, Value]


@dataclasses.dataclass(frozen=True, eq=False)
class Intrinsic:
    """One of TFF's operations on placed values."""

    uri: str


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """An argument of a part of a round: the state, a client's value, an accumulator."""


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """A call of a computation of TensorFlow."""

    leaf: Leaf
    arguments: Sequence[Tensor]


@dataclasses.dataclass(frozen=True, eq=False)
class Broadcast:
    """A tensor of the server that is broadcast to clients."""

    tensor: Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Aggregate:
    """A `federated_aggregate` of the clients' values.

    Attributes:
      value: the value of a client.
      zero: an accumulator of no client.
      total, other, one: the arguments of the functions: two accumulators, and a value.
      accumulated: the result of accumulating `total` and `one`.
      merged: the result of merging `total` and `other`.
      reported: the report of `total`.
    """

    value: Sequence[Tensor]
    zero: Sequence[Tensor]
    total: Sequence[Tensor]
    other: Sequence[Tensor]
    one: Sequence[Tensor]
    accumulated: Sequence[Tensor]
    merged: Sequence[Tensor]
    reported: Sequence[Tensor]


@dataclasses.dataclass(frozen=True, eq=False)
class SecureSum:
    """A secure sum of a tensor; `bound` is the last argument of the operation."""

    uri: str
    value: Tensor
    bound: Tensor


Owner = Union[Source, Call, Broadcast, Aggregate, SecureSum]
Value = Union[Tensor, Struct, Placed, Leaf, Lambda, Intrinsic]


def members(value: Value) -> Sequence[Value]:
    """The members of a structure."""
    if not isinstance(value, Struct):
        raise Unknown(f"a {type(value).__name__} is no structure")
    return value.members


def tensors(value: Value) -> list[Tensor]:
    """The tensors of a value, depth first."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Struct):
        return [tensor for member in value.members for tensor in tensors(member)]
    if isinstance(value, Placed):
        return tensors(value.value)
    raise Unknown(f"a {type(value).__name__} is no tensor")


def types(value: Value) -> list[tff.TensorType]:
    """The types of a value's tensors."""
    return [tensor.type for tensor in tensors(value)]


def owned(owner: Owner, value_type: tff.Type) -> Value:
    """A value whose tensors are the owner's."""
    return _typed(owner, value_type, iter(range(2**63)))


def _typed(owner: Owner, value_type: tff.Type, numbers: Iterator[int]) -> Value:
    if isinstance(value_type, tff.FederatedType):
        return Placed(_typed(owner, value_type.member, numbers))
    if isinstance(value_type, tff.StructType):
        inner = (member for _, member in tff.structure.iter_elements(value_type))
        return Struct([_typed(owner, member, numbers) for member in inner])
    if not isinstance(value_type, tff.TensorType):
        raise Unknown(f"a value of type {value_type}")
    return Tensor(owner, next(numbers), value_type)


def alike(owner: Owner, value: Value) -> Value:
    """Makes a value of another owner, with the structure and types of a value."""
    found = types(value)
    return again(value, (Tensor(owner, i, kind) for i, kind in enumerate(found)))


def again(value: Value, given: Iterable[Value]) -> Value:
    """Makes a value with the structure of another value, from these tensors."""
    left = iter(given)

    def replaced(one: Value) -> Value:
        if isinstance(one, Struct):
            return Struct([replaced(member) for member in one.members])
        return replaced(one.value) if isinstance(one, Placed) else next(left)

    return replaced(value)


def zipped(value: Value) -> Value:
    """The value without placements."""
    return again(value, tensors(value))
