"""Lists that a user gives, in whose order something is numbered."""

from __future__ import annotations

from collections.abc import Iterable, KeysView, Mapping, Set
from typing import Any


def listed(what: str, values: Any) -> tuple[Any, ...]:
    """The values in their order.

    A set has another order in each program, so that a run that resumes would number
    columns or classes anew.

    Args:
      what: names the values in an error.
      values: a list, a tuple, an array or a pandas object.

    Raises:
      ValueError: a set, a dict, a text, or anything else that has no order.

    Example:
      >>> from tfl_research.data.listed import listed
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
