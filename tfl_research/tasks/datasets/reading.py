"""Reads all examples of a client's dataset."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from tfl_research.data.arrays import structures
from tfl_research.tasks.datasets.elements import Names

# Number of examples that are read at once.
_BLOCK = 512
# Elements after which a dataset of unknown length counts as endless.
_MOST_OF_UNKNOWN = 1_000_000


def _elements(where: str, dataset: tf.data.Dataset, size: int) -> Iterator[Any]:
    """Yields the elements; reports an error within the dataset in one line.

    Args:
      where: names the client in an error.
      dataset: the elements.
      size: the number of the user's elements in each element.

    Raises:
      ValueError: the dataset fails; or it seems endless: TensorFlow does not know its
        number of elements, and it yields more than `_MOST_OF_UNKNOWN`.
    """
    unknown = dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY
    number = 0
    try:
        for element in dataset:
            number += size
            if unknown and number > _MOST_OF_UNKNOWN:
                raise ValueError(
                    f"{where}: the dataset has given {number} elements and does not "
                    "tell how many it has; if it has an end, declare their number by "
                    ".apply(tf.data.experimental.assert_cardinality(n))"
                )
            yield element
    except tf.errors.OpError as error:
        raise ValueError(
            f"{where}: the dataset failed after element {number}: {line(error)}"
        ) from error


def line(error: Exception) -> str:
    """Returns the line of an error that says what is wrong.

    It is the first line without TensorFlow's name of the place. AutoGraph puts the
    lines of the user's code before an error.
    """
    text = re.sub(r"^\{\{function_node .*?\}\}\s*", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1 if lines[0] == "in user code:" else 0]


def arrays(
    where: str,
    dataset: tf.data.Dataset,
    names: Names,
    specs: Mapping[str, Any],
    batched: bool,
) -> dict[str, Any]:
    """Reads all examples of a dataset, by flat name; lists of rows if shapes vary."""
    shapes = {n: s.shape[1:] if batched else s.shape for n, s in specs.items()}
    fixed = all(
        isinstance(spec, tf.TensorSpec) and shapes[name].is_fully_defined()
        for name, spec in specs.items()
    )
    size = 1
    if fixed and not batched:
        dataset, batched, size = dataset.batch(_BLOCK), True, _BLOCK
    found: dict[str, list[Any]] = {name: [] for name in specs}
    padding = _OwnPadding(where, specs) if batched and not fixed else None
    for element in _elements(where, dataset, size):
        parts = names.flat(where, element)
        if padding is not None:
            padding.check(parts)
        for name, value in parts.items():
            found[name].extend(value if batched and not fixed else [value])
    rows = {name: [_row(value) for value in values] for name, values in found.items()}
    if not fixed:
        return rows
    return {
        name: np.concatenate(
            [structures.blank((0, *shapes[name]), spec.dtype.as_numpy_dtype)]
            + rows[name]
        )
        for name, spec in specs.items()
    }


class _OwnPadding:
    """Refuses batches that a dataset has padded to different lengths.

    Padding cannot be distinguished from the elements of such a batch.
    """

    def __init__(self, where: str, specs: Mapping[str, Any]):
        self._where = where
        self._lengths: dict[str, Optional[tuple[int, ...]]] = {
            name: None
            for name, spec in specs.items()
            if isinstance(spec, tf.TensorSpec) and not spec.shape[1:].is_fully_defined()
        }
        self._has_rows = dict.fromkeys(self._lengths, False)

    def check(self, parts: Mapping[str, Any]) -> None:
        """Raises ValueError if a batch has another length than the batches before."""
        for name, before in self._lengths.items():
            shape = tuple(parts[name].shape)
            self._has_rows[name] |= shape[0] > 1
            if before not in (None, shape[1:]) and self._has_rows[name]:
                raise ValueError(
                    f"{self._where}: {name} has batches of rows of shape {before} and "
                    f"{shape[1:]}, as padded_batch() makes them, so it is not known "
                    "which values are padding; leave padded_batch() out and give "
                    "sequences=tasks.Sequences(...), or pad every batch to one length "
                    "by padded_shapes="
                )
            self._lengths[name] = shape[1:]


def _row(value: Any) -> Any:
    """Converts a row to NumPy."""
    return value.numpy() if isinstance(value, (tf.Tensor, tf.RaggedTensor)) else value
