"""Converts a user's values to values of a TFF type; imports TensorFlow."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.errors import SettingError
from tfl_research.experiment.own_process.process_form import short_type
from tfl_research.runtime.graphs.structures import flatten, leaf_types, pack


def as_value(where: str, value: Any, value_type: tff.Type) -> Any:
    """Converts a value to a type, with members in the type's order.

    TFF takes the members of a mapping by their order, and not by their names.

    Args:
      where: the beginning of the messages.
      value: the value as the user gives it.
      value_type: the TFF type.

    Raises:
      SettingError: the value does not have the type.
    """
    if isinstance(value_type, tff.SequenceType):
        return _as_sequence(where, value, value_type)
    try:
        found = flatten(value, value_type)
    except ValueError as error:
        raise _refused(where, value, value_type, str(error)) from error
    if isinstance(value_type, tff.StructType):
        _check_members(where, value, value_type)
    leaves = [
        _as_sequence(where, leaf, each)
        if isinstance(each, tff.SequenceType)
        else _as_tensor(where, leaf, each, value_type)
        for leaf, each in zip(found, leaf_types(value_type))
    ]
    return pack(iter(leaves), value_type)


def _check_members(where: str, value: Any, value_type: tff.StructType) -> None:
    """Refuses members that the type does not have, because they would be ignored."""
    names = [name for name, _ in tff.structure.iter_elements(value_type)]
    if isinstance(value, Mapping) and None not in names:
        # The toolkit's local steps may have members that a process does not take.
        further = [name for name in value if name not in names and "mask" not in value]
        if further:
            raise _refused(
                where, value, value_type, f"has the further member {further[0]!r}"
            )
    if isinstance(value, (list, tuple)) and len(value) != len(names):
        raise _refused(where, value, value_type, f"has {len(value)} members")


def _as_tensor(where: str, value: Any, leaf: tff.TensorType, whole: tff.Type) -> Any:
    is_text = np.issubdtype(leaf.dtype, np.str_)
    try:
        array = np.asarray(value)
        if is_text:
            if array.dtype.kind not in "OSU":
                raise ValueError(f"is {array.dtype}")
            array = _as_bytes(array)
        elif array.dtype != leaf.dtype:
            if isinstance(value, (np.ndarray, np.generic, tf.Tensor)):
                raise ValueError(f"is {array.dtype}; convert it to {leaf.dtype}")
            array = _converted(array, leaf.dtype)
        if leaf.shape is not None:
            expected = tf.TensorShape(leaf.shape)
            if not expected.is_compatible_with(array.shape):
                raise ValueError(f"has shape {list(array.shape)}")
    except (ValueError, TypeError) as error:
        raise _refused(where, value, leaf, str(error), whole) from error
    return array


def _converted(array: np.ndarray, dtype: Any) -> np.ndarray:
    """Converts Python numbers to a dtype that can hold each number exactly.

    Raises:
      ValueError: the values are of another kind, or the dtype cannot hold a number.
    """
    numbers = "biuf" if np.dtype(dtype).kind not in "biu" else "biu"
    if array.dtype.kind not in numbers + np.dtype(dtype).kind and array.size:
        raise ValueError(f"is {array.dtype}; convert it to {np.dtype(dtype).name}")
    with np.errstate(over="ignore", invalid="ignore"):
        exact = array.astype(dtype)
    if array.dtype.kind in "biu" and exact.dtype.kind in "biu":
        same = exact == array
    else:
        wide = exact.astype(np.complex128)
        same = np.isfinite(wide) | ~np.isfinite(array)
        if array.dtype.kind in "iu":
            # Floats would round long whole numbers, such as identifiers and times.
            same &= wide.real.astype(np.longdouble) == array.astype(np.longdouble)
    if not np.all(same):
        wrong = array[~same][0]
        raise ValueError(f"has {wrong}, which no {exact.dtype.name} can hold")
    return exact


def _as_bytes(array: np.ndarray) -> np.ndarray:
    texts = np.empty(array.size, object)
    texts[:] = [t.encode() if isinstance(t, str) else bytes(t) for t in array.flat]
    return texts.reshape(array.shape)


def _as_sequence(where: str, value: Any, sequence: tff.SequenceType) -> Any:
    if isinstance(value, tf.data.Dataset):
        return _as_dataset(where, value, sequence)
    if isinstance(value, Iterator):
        raise _refused(
            where, value, sequence, "can be read only once; give a list of its elements"
        )
    no_order = (str, bytes, Mapping, Set)
    if isinstance(value, no_order) or not isinstance(value, Iterable):
        raise _refused(
            where, value, sequence, "give a tf.data.Dataset, or a list of its elements"
        )
    elements = [
        as_value(f"{where}, element {number}", element, sequence.element)
        for number, element in enumerate(value)
    ]
    return _dataset_of(elements, sequence.element)


def _dataset_of(elements: list[Any], element_type: tff.Type) -> tf.data.Dataset:
    """Makes a dataset of elements in order; their shapes may differ."""
    types = leaf_types(element_type)
    rows = [[np.asarray(x) for x in flatten(e, element_type)] for e in elements]
    parts = []
    for _, same in itertools.groupby(rows, lambda row: [x.shape for x in row]):
        columns = [np.stack(column) for column in zip(*same)]
        parts.append(_slices(columns, element_type))
    if not parts:
        shapes = [[1, *(size or 0 for size in each.shape or ())] for each in types]
        columns = [
            np.full(shape, b"", object)
            if np.issubdtype(each.dtype, np.str_)
            else np.zeros(shape, each.dtype)
            for shape, each in zip(shapes, types)
        ]
        return _slices(columns, element_type).take(0)
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.concatenate(part)
    return whole


def _slices(columns: list[np.ndarray], element_type: tff.Type) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(pack(iter(columns), element_type))


def _as_dataset(
    where: str, dataset: tf.data.Dataset, sequence: tff.SequenceType
) -> tf.data.Dataset:
    spec = dataset.element_spec
    expected = sequence.element
    if expected.is_assignable_from(tff.types.tensorflow_to_type(spec)):
        return dataset
    try:
        specs = flatten(spec, expected)
        if isinstance(expected, tff.StructType):
            _check_members(where, spec, expected)
    except (ValueError, SettingError) as error:
        raise _refused(where, spec, sequence, f"has elements {_specs(spec)}") from error
    for leaf, each in zip(specs, leaf_types(expected)):
        fits = isinstance(leaf, tf.TensorSpec) and each.is_assignable_from(
            tff.types.tensorflow_to_type(leaf)
        )
        if not fits:
            raise _refused(
                where, spec, sequence, f"has elements {_specs(spec)}"
            ) from None
    # The elements have the same members in another order or container.
    return dataset.map(lambda *given: _packed(given, expected))


def _packed(given: tuple[Any, ...], expected: tff.Type) -> Any:
    element = given if len(given) > 1 else given[0]
    return pack(iter(flatten(element, expected)), expected)


def _specs(spec: Any) -> str:
    try:
        return short_type(tff.types.tensorflow_to_type(spec))
    except (TypeError, ValueError):
        return " ".join(str(spec).split())[:120]


def _refused(
    where: str,
    value: Any,
    expected: tff.Type,
    why: str,
    whole: Optional[tff.Type] = None,
) -> SettingError:
    of = "" if whole is None or whole is expected else f" in {short_type(whole)}"
    return SettingError(
        f"{where}: a {type(value).__name__} {' '.join(why.split())}; the process takes "
        f"{short_type(expected)}{of}"
    )
