"""Groups rows by the column of clients."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tfl_research.data.tables.cells import text_of
from tfl_research.errors import quoted


def rows_by_client(column: str, cells: pd.Series) -> dict[str, np.ndarray]:
    """Returns the positions of each client's rows by client, in the names' order.

    Args:
      column: name of the column with each row's client.
      cells: the column; 3 and 3.0 are the client "3".

    Raises:
      ValueError: a row has no client or a blank client, a client is neither text nor a
        whole number, or numbers and texts are mixed; the message names the row.
    """
    blank = [isinstance(value, str) and not value.strip() for value in cells]
    missing = cells.isna().to_numpy() | np.array(blank, bool)
    if missing.any():
        row = cells.index[int(np.argmax(missing))]
        raise ValueError(
            f"column {column!r}, row {row}: has no client; give every row the id of "
            "its client"
        )
    values = cells.astype(object)
    is_text = np.array([isinstance(value, str) for value in values], bool)
    is_number = np.array([_is_whole(value) for value in values], bool)
    is_rounded = np.array([_may_be_several(value) for value in values], bool)
    problems: list[tuple[np.ndarray, str]] = [
        (~is_text & ~is_number, "is neither text nor a whole number"),
        (is_rounded, "is a float that may stand for several integers"),
        (is_number & is_text.any(), "is a number, but other clients are text"),
    ]
    for wrong, problem in problems:
        if wrong.any():
            place = int(np.argmax(wrong))
            raise ValueError(
                f"column {column!r}, row {cells.index[place]}: the client "
                f"{quoted(values.iloc[place])} {problem}; make the column text, as by "
                ".astype(str)"
            )
    codes, distinct = pd.factorize(values)
    names = [text_of(value) for value in distinct]
    rows: dict[str, list[np.ndarray]] = {}
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(names)))
    for name, places in zip(names, np.split(order, ends[:-1]) if names else ()):
        rows.setdefault(name, []).append(places)
    return {name: np.sort(np.concatenate(rows[name])) for name in sorted(rows)}


def _is_whole(value: object) -> bool:
    """Whether a cell is a whole number, and no truth value."""
    if isinstance(value, (bool, np.bool_)):
        return False
    if isinstance(value, (float, np.floating)):
        return float(value).is_integer()
    return isinstance(value, (int, np.integer))


def _may_be_several(value: object) -> bool:
    """Whether a cell is a float so large that several integers round to it."""
    return isinstance(value, (float, np.floating)) and abs(float(value)) > 2**53
