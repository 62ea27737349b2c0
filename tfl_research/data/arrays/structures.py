"""Inputs and labels with several parts, as flat arrays by name.

Client data hold flat arrays by name. A task with one input has the array `x`. A task
with several inputs has an array `x/NAME` for each of them, and labels likewise. A task
whose model needs no labels has no `y`. The array `sample_weight`, if there is one,
holds the weights of the examples in the loss.

Text is held as bytes in arrays of Python objects, as TensorFlow gives it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

SAMPLE_WEIGHT = "sample_weight"
# The characters that TensorFlow allows in the name of an argument.
_PART = re.compile(r"[A-Za-z0-9_.-]+")


def packed(arrays: Mapping[str, Any], name: str) -> Any:
    """Returns the array `name`, or a dict of all arrays whose name is `name/PART`.

    The result is None for the labels of data without labels.

    Raises:
      KeyError: no array has such a name.

    Example:
      >>> packed({"x": 1, "y": 2}, "x")
      1
      >>> packed({"x/age": 1, "x/image": 2, "y": 3}, "x")
      {'age': 1, 'image': 2}
      >>> packed({"x": 1}, "y")
    """
    if name in arrays:
        return arrays[name]
    prefix = f"{name}/"
    parts = {n[len(prefix) :]: a for n, a in arrays.items() if n.startswith(prefix)}
    if not parts and name != "y":
        raise KeyError(name)
    return parts or None


def flattened(name: str, value: Any) -> dict[str, Any]:
    """Flattens an array or a dict of arrays to arrays by flat name; inverts `packed`.

    Raises:
      ValueError: a dict is empty or in another dict, or TensorFlow does not allow the
        name of a part.

    Example:
      >>> flattened("x", {"age": 1, "image": 2})
      {'x/age': 1, 'x/image': 2}
    """
    if not isinstance(value, Mapping):
        return {name: value}
    if not value:
        raise ValueError(f"{name} is an empty dict; expected an array by name")
    for part, array in value.items():
        _check_part(name, part)
        if isinstance(array, Mapping):
            raise ValueError(
                f"{name}: {part!r} is a dict in a dict; give its arrays names of one "
                f"level, as {part}_{next(iter(array), 'name')}"
            )
    return {f"{name}/{part}": array for part, array in value.items()}


def check_part(name: str) -> None:
    """Raises ValueError if a flat name has a part that TensorFlow does not take."""
    if of(name) != name:
        _check_part(of(name), name.partition("/")[2])


def _check_part(name: str, part: object) -> None:
    if not isinstance(part, str) or not _PART.fullmatch(part):
        raise ValueError(
            f"{name}: the name {part!r} must be letters, digits, '_', '.' and '-' "
            "only; give the part another name"
        )


def is_argument(name: str) -> bool:
    """Whether TensorFlow takes a name, or its parts between "/", for an argument."""
    return all(_PART.fullmatch(part) for part in name.split("/"))


def of(name: str) -> str:
    """Returns the part of a flat array: "x", "y", "sample_weight" or another name.

    Example:
      >>> of("x/age"), of("y"), of("mask")
      ('x', 'y', 'mask')
    """
    whole, slash, _ = name.partition("/")
    return whole if slash and whole in ("x", "y") else name


def is_example_array(name: str) -> bool:
    """Whether an array of this name has a row for each example."""
    return of(name) in ("x", "y", SAMPLE_WEIGHT)


def example_arrays(arrays: Mapping[str, T]) -> dict[str, T]:
    """Returns the arrays that have a row for each example.

    Example:
      >>> example_arrays({"x": 1, "y": 2, "mask": 3})
      {'x': 1, 'y': 2}
    """
    return {name: array for name, array in arrays.items() if is_example_array(name)}


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Sorts flat names: inputs, labels, weights, each by name.

    The order discloses nothing about the data: it depends only on the names.

    Example:
      >>> ordered(["sample_weight", "y", "x/b", "x/a"])
      ('x/a', 'x/b', 'y', 'sample_weight')
    """
    ranks = {"x": 0, "y": 1, SAMPLE_WEIGHT: 2}
    return tuple(sorted(names, key=lambda name: (ranks.get(of(name), 3), name)))


def num_examples(arrays: Mapping[str, Any]) -> int:
    """Returns the number of a client's examples: the length of its arrays.

    Example:
      >>> num_examples({"x/age": [30, 40], "x/sex": [0, 1]})
      2
    """
    return len(next(array for name, array in arrays.items() if is_example_array(name)))


def single(arrays: Mapping[str, T], name: str, user: str) -> T:
    """Returns the array `name` of data with a single input, or a single label.

    Args:
      arrays: arrays, or their specs, by flat name.
      name: "x" or "y".
      user: names the code that needs a single array, for the error.

    Raises:
      ValueError: the data have no such array, or several arrays.

    Example:
      >>> single({"x/age": 1, "x/image": 2}, "x", "a backdoor")
      Traceback (most recent call last):
      ValueError: a backdoor needs one array x; the data have x/age, x/image
    """
    if name in arrays:
        return arrays[name]
    there = [n for n in ordered(arrays) if of(n) == name] or [f"no {name}"]
    raise ValueError(f"{user} needs one array {name}; the data have {', '.join(there)}")


def is_text(dtype: Any) -> bool:
    """Whether arrays of this dtype hold text."""
    return np.dtype(dtype).kind in "OSU"


def blank(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Makes an array of padding: zeros, or empty texts.

    Example:
      >>> blank((2,), np.int32).tolist(), blank((1,), object).tolist()
      ([0, 0], [b''])
    """
    if np.dtype(dtype).hasobject:
        return np.full(shape, b"", dtype)
    return np.zeros(shape, dtype)


def no_examples(specs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Makes the arrays of a client without examples.

    Args:
      specs: `ArraySpec` by name.
    """
    return {n: blank((0, *spec.shape), spec.dtype) for n, spec in specs.items()}
