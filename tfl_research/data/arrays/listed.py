"""Checks that a user's list has an order, where columns or classes are numbered."""

from __future__ import annotations

from collections.abc import Iterable, KeysView, Mapping, Set
from typing import Any


def listed(what: str, values: Any) -> tuple[Any, ...]:
    """Returns the values in their order.

    The order of a set differs between programs. So a run that resumes would number the
    columns or classes in another order.

    Args:
      what: names the values in an error.
      values: a list, a tuple, an array or a pandas object.

    Raises:
      ValueError: the values are a set, a dict, a text, or have no order.

    Example:
      >>> from tfl_research.data.arrays.listed import listed
      >>> listed("classes", ["no", "yes"])
      ('no', 'yes')
    """
    # The keys of a dict are a Set, but have the dict's order.
    if isinstance(values, (Set, Mapping)) and not isinstance(values, KeysView):
        raise ValueError(
            f"{what} must be a list, since the order counts, got a "
            f"{type(values).__name__}; give sorted(...) of it, or a list in your order"
        )
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ValueError(f"{what} must be a list, got {values!r}; give [{values!r}]")
    return tuple(values)
