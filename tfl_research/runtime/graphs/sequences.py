"""A client's dataset as stacked tensors."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.runtime.graphs.structures import leaf_types


def nest_order(element_type: tff.Type) -> list[int]:
    """Positions of the leaves of a dataset's element, as `tf.nest` orders them.

    `tf.nest` sorts the members of mappings by name.
    """
    counter = itertools.count()

    def visit(part: tff.Type) -> list[int]:
        if not isinstance(part, tff.StructType):
            return [next(counter)]
        members = [
            (name, visit(member)) for name, member in tff.structure.iter_elements(part)
        ]
        container = getattr(part, "python_container", dict)
        sorts = not hasattr(container, "_fields") and not hasattr(
            container, "__attrs_attrs__"
        )
        if sorts and all(name is not None for name, _ in members):
            members.sort()
        return [position for _, positions in members for position in positions]

    return visit(element_type)


def components(element_type: tff.Type) -> list[tff.TensorType]:
    """Types of the tensors of a dataset's element, as `tf.nest` orders them."""
    leaves = leaf_types(element_type)
    return [leaves[position] for position in nest_order(element_type)]


@dataclasses.dataclass(eq=False)
class ClientSequence:
    """One client's dataset in a traced graph.

    Attributes:
      specs: the specs of the tensors of an element; dimensions that differ are None.
      stacks: for each tensor of an element, `[steps, ...]`, padded.
      sizes: for each tensor of an element, the sizes of each element's tensor, int32
        `[steps, rank]`; None where all have the static shape.
      full: how many of the first elements have the sizes of the stack, int32.
      count: number of elements, int32.
    """

    specs: Sequence[tf.TensorSpec]
    stacks: Sequence[tf.Tensor]
    sizes: Sequence[Optional[tf.Tensor]]
    full: tf.Tensor
    count: tf.Tensor

    def element(self, index: tf.Tensor) -> list[tf.Tensor]:
        """The tensors of an element."""
        tensors = []
        for spec, stack, sizes in zip(self.specs, self.stacks, self.sizes):
            tensor = stack[index]
            if sizes is not None:
                tensor = tf.slice(tensor, tf.zeros_like(sizes[index]), sizes[index])
            tensor.set_shape(spec.shape)
            tensors.append(tensor)
        return tensors

    def full_element(self, index: tf.Tensor) -> list[tf.Tensor]:
        """The tensors of one of the first `full` elements."""
        return [stack[index] for stack in self.stacks]


class ClientLayout:
    """The tensors that hold the values of a chunk's clients.

    Attributes:
      types: TFF types of the leaves of a client's value.
      specs: specs of the stacked tensors, `[clients, ...]`.
      has_sequences: whether a leaf is a dataset.
    """

    def __init__(self, client_type: tff.Type):
        self.types = leaf_types(client_type)
        self.has_sequences = any(isinstance(t, tff.SequenceType) for t in self.types)
        self.specs: list[tf.TensorSpec] = []
        for leaf in self.types:
            self.specs += [
                tf.TensorSpec(tf.TensorShape([None]).concatenate(shape), dtype)
                for shape, dtype in _stacked(leaf)
            ]

    def unpack(self, tensors: Sequence[tf.Tensor]) -> list[Any]:
        """The leaves of one client's value, from its rows of the stacked tensors."""
        rest = iter(tensors)
        return [
            _sequence(leaf, rest) if isinstance(leaf, tff.SequenceType) else next(rest)
            for leaf in self.types
        ]


def element_specs(sequence: tff.SequenceType) -> list[tf.TensorSpec]:
    """Specs of the tensors of an element of a dataset."""
    return [
        tf.TensorSpec(part.shape, tf.as_dtype(part.dtype))
        for part in components(sequence.element)
    ]


def is_ragged(spec: tf.TensorSpec) -> bool:
    """Whether elements' tensors may differ in their sizes."""
    return not spec.shape.is_fully_defined()


def _stacked(leaf: tff.Type) -> list[tuple[Any, tf.DType]]:
    """Shapes and types of the tensors that hold a leaf of one client."""
    if isinstance(leaf, tff.TensorType):
        return [(tf.TensorShape(leaf.shape), tf.as_dtype(leaf.dtype))]
    shapes: list[tuple[Any, tf.DType]] = []
    specs = element_specs(leaf)
    for spec in specs:
        shapes.append((tf.TensorShape([None]).concatenate(spec.shape), spec.dtype))
    for spec in specs:
        if is_ragged(spec):
            shapes.append((tf.TensorShape([None, spec.shape.rank]), tf.int32))
    return [*shapes, (tf.TensorShape([]), tf.int32), (tf.TensorShape([]), tf.int32)]


def _sequence(leaf: tff.SequenceType, rest: Any) -> ClientSequence:
    specs = element_specs(leaf)
    stacks = [next(rest) for _ in specs]
    sizes = [next(rest) if is_ragged(spec) else None for spec in specs]
    return ClientSequence(specs, stacks, sizes, next(rest), next(rest))
