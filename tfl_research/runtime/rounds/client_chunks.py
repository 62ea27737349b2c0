"""Stacks clients' values, given as a list, in chunks of arrays."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.data import Cohort
from tfl_research.runtime.compiler import chunks
from tfl_research.runtime.compiler.map_reduce import MapReduce
from tfl_research.runtime.engine import ClientValues
from tfl_research.runtime.graphs.sequences import (
    ClientLayout,
    element_specs,
    is_ragged,
    nest_order,
)
from tfl_research.runtime.graphs.structures import flatten, leaf_types, member_names
from tfl_research.runtime.rounds import failures
from tfl_research.runtime.rounds.client_values import client_values

# A client's dataset: the tensors of each element.
Elements = list[list[np.ndarray]]

# The number of chunks for each core that are read while others are computed.
_CHUNKS_AHEAD = 4

# The largest number of elements, and of numbers, that are read from a dataset at once.
_READ_ELEMENTS = 256
_READ_NUMBERS = 2**18


def _read_options() -> tf.data.Options:
    # Optimising a dataset takes longer than reading the few elements of one client.
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    return options


def chunks_of_cohort(
    cohort: ClientValues,
    programs: MapReduce,
    *,
    chunk_size: Optional[int] = None,
    parallel: int,
    shapes: chunks.Shapes,
) -> Iterator[Callable[[], chunks.Chunk]]:
    """Yields functions that make the chunks of a cohort, in a fixed order.

    Args:
      cohort: a cohort of the toolkit, or a list with one value for each client.
      programs: the programs of the process that takes the values.
      chunk_size, parallel: see `chunks.divide`.
      shapes: the engine's padded shapes.

    Raises:
      ValueError: a client's value does not have the type.
    """
    client_type = programs.client_type
    if isinstance(cohort, Cohort) and not programs.layout.has_sequences:
        names = member_names(client_type)
        division = chunks.divide(
            cohort, chunk_size=chunk_size, parallel=parallel, shapes=shapes
        )
        for group, shape in zip(division.groups, division.shapes):
            yield functools.partial(chunks.gather, cohort, group, shape, names)
        return
    values = client_values(cohort, client_type)
    for chunk in chunks_of_values(
        values, client_type, chunk_size=chunk_size, parallel=parallel
    ):
        yield functools.partial(_itself, chunk)


def _itself(chunk: chunks.Chunk) -> chunks.Chunk:
    return chunk


def chunks_of_values(
    values: Sequence[Any],
    client_type: tff.Type,
    *,
    chunk_size: Optional[int],
    parallel: int,
) -> Iterator[chunks.Chunk]:
    """Reads clients' values in their order and stacks neighbours.

    Args:
      values: one value for each client.
      client_type: the TFF type of a value.
      chunk_size: number of clients in a chunk; by default at most 50, but few enough
        for a chunk for each core.
      parallel: number of chunks that are computed at the same time.

    Raises:
      ValueError: a client's value does not have the type; the message names the
        client's position.
    """
    layout = ClientLayout(client_type)
    if layout.has_sequences:
        yield from _chunks_of_datasets(
            values, client_type, layout, chunk_size, parallel
        )
        return
    # A chunk for each core, as for the toolkit's cohorts.
    share = max(1, math.ceil(len(values) / parallel))
    size = chunk_size or min(share, chunks.CHUNK_CLIENTS)
    clients = (_arrays(i, value, client_type) for i, value in enumerate(values))
    position = 0
    for _, run in itertools.groupby(clients, lambda c: [a.shape for a in c]):
        same = list(run)
        for first in range(0, len(same), size):
            start = position + first
            part = same[first : first + size]
            pad = chunks.bucket(len(part)) - len(part)
            rows = part + [part[-1]] * pad
            stacks = [np.stack(column) for column in zip(*rows)]
            yield chunks.Chunk(stacks, len(part), _names(start, len(part)))
        position += len(same)


def _names(first: int, count: int) -> list[str]:
    return [f"client {first + i} of the cohort" for i in range(count)]


def _leaves(index: int, value: Any, client_type: tff.Type) -> list[Any]:
    try:
        return flatten(value, client_type)
    except ValueError as error:
        raise ValueError(f"client {index} of the cohort: {error}") from error


def _arrays(index: int, value: Any, client_type: tff.Type) -> list[np.ndarray]:
    return [
        _array(index, leaf, leaf_type)
        for leaf, leaf_type in zip(
            _leaves(index, value, client_type), leaf_types(client_type)
        )
    ]


def _array(index: int, value: Any, leaf_type: tff.TensorType) -> np.ndarray:
    dtype = tf.as_dtype(leaf_type.dtype)
    array = np.asarray(value, object if dtype == tf.string else dtype.as_numpy_dtype)
    if not tf.TensorShape(leaf_type.shape).is_compatible_with(array.shape):
        raise ValueError(
            f"client {index} of the cohort has a value of shape {list(array.shape)}, "
            f"expected {leaf_type}"
        )
    return array


def _chunks_of_datasets(
    values: Sequence[Any],
    client_type: tff.Type,
    layout: ClientLayout,
    chunk_size: Optional[int],
    parallel: int,
) -> Iterator[chunks.Chunk]:
    # Small chunks, so that some clients are read while others are computed.
    few = math.ceil(len(values) / (_CHUNKS_AHEAD * parallel))
    size = chunk_size or min(max(few, 1), chunks.CHUNK_CLIENTS)
    part: list[list[Any]] = []
    total = 0
    for index, value in enumerate(values):
        client = [
            _elements(index, leaf, leaf_type)
            if isinstance(leaf_type, tff.SequenceType)
            else _array(index, leaf, leaf_type)
            for leaf, leaf_type in zip(_leaves(index, value, client_type), layout.types)
        ]
        part.append(client)
        total += sum(map(_bytes, client))
        if len(part) == size or total > chunks.CHUNK_BYTES:
            yield _stacked(part, layout, index + 1)
            part, total = [], 0
    if part:
        yield _stacked(part, layout, len(values))


def _bytes(leaf: Any) -> int:
    if isinstance(leaf, np.ndarray):
        return leaf.nbytes
    return sum(array.nbytes for element in leaf for array in element)


def _elements(index: int, value: Any, sequence: tff.SequenceType) -> Elements:
    """The elements of a client's dataset, each as arrays in the order of `tf.nest`."""
    specs = element_specs(sequence)
    if isinstance(value, tf.data.Dataset):
        found = tf.nest.flatten(value.element_spec)
        fits = len(found) == len(specs) and all(
            isinstance(one, tf.TensorSpec)
            and one.dtype == spec.dtype
            and one.shape.is_compatible_with(spec.shape)
            for one, spec in zip(found, specs)
        )
        if not fits:
            raise ValueError(
                f"client {index} of the cohort has a dataset of "
                f"{value.element_spec}, expected {sequence}"
            )
        if int(value.cardinality()) == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                f"client {index} of the cohort has a dataset without an end; cut it, "
                "as by take"
            )
        with failures.reading(index):
            elements = list(_read(value, specs))
    else:
        elements = [_element(index, element, sequence.element) for element in value]
    # A string scalar's `numpy()` is bytes.
    return [
        [
            np.asarray(part, object if spec.dtype == tf.string else None)
            for part, spec in zip(element, specs)
        ]
        for element in elements
    ]


def _read(
    dataset: tf.data.Dataset, specs: Sequence[tf.TensorSpec]
) -> Iterator[list[Any]]:
    """The elements of a dataset, in its order.

    Small elements of one shape are read many at a time: each step of an iterator in
    Python takes longer than reading a small element.
    """
    size = 1
    if not any(is_ragged(spec) for spec in specs):
        numbers = sum(spec.shape.num_elements() for spec in specs)
        size = int(np.clip(_READ_NUMBERS // max(1, numbers), 1, _READ_ELEMENTS))
    if size == 1:
        for element in dataset.with_options(_read_options()):
            yield [part.numpy() for part in tf.nest.flatten(element)]
        return
    for group in dataset.batch(size).with_options(_read_options()):
        columns = [part.numpy() for part in tf.nest.flatten(group)]
        yield from ([column[i] for column in columns] for i in range(len(columns[0])))


def _element(index: int, value: Any, element_type: tff.Type) -> list[np.ndarray]:
    """An element that a user's list has, in the order of `tf.nest`."""
    arrays = _arrays(index, value, element_type)
    return [arrays[position] for position in nest_order(element_type)]


def _stacked(
    clients: Sequence[Sequence[Any]], layout: ClientLayout, end: int
) -> chunks.Chunk:
    """Stacks the leaves of the clients before position `end`, in the layout's order."""
    arrays: list[np.ndarray] = []
    for position, leaf_type in enumerate(layout.types):
        column = [client[position] for client in clients]
        if isinstance(leaf_type, tff.SequenceType):
            arrays += _stacked_datasets(column, element_specs(leaf_type))
        else:
            arrays.append(np.stack(column))
    number = len(clients)
    return chunks.Chunk(arrays, number, _names(end - number, number))


def _stacked_datasets(
    column: Sequence[Elements], specs: Sequence[tf.TensorSpec]
) -> list[np.ndarray]:
    """The tensors of a `ClientSequence`, for each client."""
    steps = chunks.bucket(max(1, *map(len, column)))
    stacks, all_sizes = [], []
    full = np.array([len(elements) for elements in column], np.int32)
    count = full.copy()
    for place, spec in enumerate(specs):
        shapes = [element[place].shape for elements in column for element in elements]
        largest = tuple(
            max((shape[axis] for shape in shapes), default=0) if size is None else size
            for axis, size in enumerate(spec.shape.as_list())
        )
        filler: Any = b"" if spec.dtype == tf.string else 0
        dtype = object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype
        stack = np.full((len(column), steps, *largest), filler, dtype)
        sizes = np.zeros((len(column), steps, len(largest)), np.int32)
        for client, elements in enumerate(column):
            for step, element in enumerate(elements):
                array = element[place]
                place_in = (client, step, *(slice(size) for size in array.shape))
                # A scalar string is an object, not an array with one.
                stack[place_in] = array[()]
                sizes[client, step] = array.shape
                if array.shape != largest:
                    full[client] = min(full[client], step)
        stacks.append(stack)
        if is_ragged(spec):
            all_sizes.append(sizes)
    # Compiling for a single batch would take longer than it saves.
    full[full < 2] = 0
    return [*stacks, *all_sizes, full, count]
