"""Finds the roles of a table's columns in the arguments of `from_dataframe`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from tfl_research.data.arrays.listed import listed
from tfl_research.data.tables.cells import text_of
from tfl_research.data.tables.dataframes.frames import (
    FrameColumns,
    Part,
    Parts,
    columns_of,
    in_order,
)

# Names of the columns that pandas and Arrow make of an index without a name.
_INDEX = re.compile(r"Unnamed: \d+(_level_\d+)?|__index_level_\d+__")


def checked_roles(
    client: Any, weight: Any, features: Any, label: Any
) -> tuple[Any, Any]:
    """Returns features and label in their order; see `frames.in_order`.

    Raises:
      ValueError: a set, or something else than the name of a column.
    """
    for kind, name in (("client", client), ("weight", weight)):
        if name is not None and not isinstance(name, str):
            raise ValueError(
                f"{kind} must be the name of a column, as text, got "
                f"{type(name).__name__}"
            )
    return in_order("features", features), in_order("label", label)


def column_roles(
    present: list[Any],
    client: Optional[str],
    label: Parts,
    features: Parts,
    classes: Optional[Sequence[str]],
    weight: Optional[str],
) -> FrameColumns:
    """Finds each column's role; without `features`, all other columns are features."""
    if client is not None and present.count(client) != 1:
        count = "no column" if client not in present else "the name of several columns"
        raise ValueError(
            f"client={client!r} is {count}; the columns are "
            f"{', '.join(map(str, present))}"
        )
    if isinstance(features, str):
        raise ValueError(
            f"features={features!r} must be a list of columns, a Schema or a dict of "
            f"inputs; give [{features!r}]"
        )
    chosen: Union[Part, Mapping[str, Part], None] = features
    if chosen is None:
        used = {client, weight, *columns_of(label)}
        chosen = [name for name in present if name not in used]
        for name in chosen:
            if _INDEX.fullmatch(str(name)):
                raise ValueError(
                    f"column {name!r} has the numbers of the rows, which were written "
                    "with the table; leave it out, or name the columns in features"
                )
    elif client in columns_of(chosen):
        raise ValueError(
            f"the client column {client!r} cannot also be a feature; leave it out of "
            "features"
        )
    if classes is not None:
        classes = tuple(map(text_of, listed("classes", classes)))
    return FrameColumns(chosen, label, weight, classes)
