"""Inputs and labels with several parts, as flat arrays by name.

Client data hold flat arrays by name. A task with one input has the array `x`. A task
with several inputs has an array `x/NAME` for each of them, and labels likewise. The
array `sample_weight`, if there is one, holds the weights of the examples in the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, Union

T = TypeVar("T")

SAMPLE_WEIGHT = "sample_weight"


def packed(arrays: Mapping[str, T], name: str) -> Union[T, dict[str, T]]:
    """The array `name`, or a dict of all arrays whose name begins with `name/`.

    Raises:
      KeyError: no array has such a name.

    Example:
      >>> packed({"x": 1, "y": 2}, "x")
      1
      >>> packed({"x/age": 1, "x/image": 2, "y": 3}, "x")
      {'age': 1, 'image': 2}
    """
    if name in arrays:
        return arrays[name]
    prefix = f"{name}/"
    parts = {n[len(prefix) :]: a for n, a in arrays.items() if n.startswith(prefix)}
    if not parts:
        raise KeyError(name)
    return parts


def flattened(name: str, value: Any) -> dict[str, Any]:
    """The opposite of `packed`: flat arrays by name of an array or a dict of arrays.

    Example:
      >>> flattened("x", {"age": 1, "image": 2})
      {'x/age': 1, 'x/image': 2}
    """
    if not isinstance(value, Mapping):
        return {name: value}
    return {f"{name}/{part}": array for part, array in value.items()}


def is_example_array(name: str) -> bool:
    """Whether an array of this name has a row for each example."""
    return name in ("x", "y", SAMPLE_WEIGHT) or name.startswith(("x/", "y/"))
