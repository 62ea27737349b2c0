"""Keeps the rows of metrics.csv in a second file, which replaces damaged rows.

`metrics_copy.jsonl` has a JSON line for each round: `row`, the cells that are not
empty, as text, and `check`, the CRC-32 of the row in hexadecimal. The checkpoint has a
digest of all rows, without their times. metrics.csv is synced before a checkpoint, and
the copy is not: the copy is for a file that is damaged later.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import pathlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from tfl_research.outputs.columns import EVALUATED
from tfl_research.storage.files import file_kinds, json_file

Row = Mapping[str, str]
COPY = "metrics_copy.jsonl"
_MOST_NAMED = 8


class Digest:
    """SHA-256 over all rows added so far, without the times of the rounds.

    Args:
      without: the column with the time, which differs between two runs of a round.
    """

    def __init__(self, without: str):
        self._without = without
        self._hash = hashlib.sha256()

    def add(self, row: Row) -> None:
        """Adds a row."""
        cells = {name: cell for name, cell in row.items() if name != self._without}
        self._hash.update(_words(dict(sorted(cells.items()))) + b"\n")

    def text(self) -> str:
        """Returns the digest of the rows so far, in hexadecimal."""
        return self._hash.hexdigest()


def copy_line(row: Row) -> bytes:
    """Makes the line of a row in the copy."""
    words = _words(row)
    return b'{"row":' + words + b',"check":"%08x"}\n' % zlib.crc32(words)


def _words(row: Row) -> bytes:
    return json.dumps(dict(row), separators=(",", ":")).encode()


def read_copy(path: pathlib.Path) -> dict[int, Row]:
    """Reads the rows of the copy by round; ignores damaged lines."""
    if file_kinds.kind(path) != file_kinds.FILE:
        return {}
    rows: dict[int, Row] = {}
    for line in path.read_bytes().split(b"\n"):
        try:
            found: dict[str, Any] = json_file.parsed(line)
            row = {str(name): str(cell) for name, cell in found["row"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        number = _round(row)
        if number is not None and copy_line(row) == line + b"\n":
            rows[number] = row
    return rows


@dataclasses.dataclass(frozen=True)
class Table:
    """The content of a metrics.csv, which may be damaged.

    Attributes:
      header: the first line.
      rows: the readable rows, by round.
      damaged: whether the file has anything else: unreadable rows, or a round twice.
    """

    header: Sequence[str]
    rows: Mapping[int, Row]
    damaged: bool


def read_table(path: pathlib.Path, numbers: Iterable[str]) -> Table:
    """Reads a metrics.csv; ignores lines that cannot be its rows.

    Args:
      path: the file.
      numbers: columns whose cells are numbers.
    """
    # Older CSV readers fail on a NUL character.
    text = (
        path.read_bytes()
        .decode(errors="replace")
        .replace("\0", "\N{REPLACEMENT CHARACTER}")
    )
    complete, _, _ = text.rpartition("\n")
    reader = csv.reader(io.StringIO(complete, newline=""))
    header: list[str] = []
    rows: dict[int, Row] = {}
    doubled: set[int] = set()
    damaged = False
    numeric = frozenset(numbers)
    try:
        header = next(reader, [])
        for cells in reader:
            row = {name: cell for name, cell in zip(header, cells) if cell != ""}
            number = _round(row)
            if len(cells) != len(header) or number is None or _unlike(row, numeric):
                damaged = True
            elif number in rows:
                damaged = True
                if rows[number] != row:
                    doubled.add(number)
            else:
                rows[number] = row
    except csv.Error:
        damaged = True
    kept = {number: row for number, row in rows.items() if number not in doubled}
    return Table(header, kept, damaged)


def _round(row: Row) -> Optional[int]:
    text = row.get("round", "")
    # "²" is a digit too.
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _unlike(row: Row, numeric: frozenset[str]) -> bool:
    """Whether a cell of a numeric column is not a number."""
    for name, cell in row.items():
        if "\N{REPLACEMENT CHARACTER}" in name + cell:
            return True
        if name in numeric or name.startswith(EVALUATED):
            try:
                float(cell)
            except ValueError:
                return True
    return False


@dataclasses.dataclass(frozen=True)
class Restored:
    """Rows up to a checkpoint, and the problems that were found.

    Attributes:
      rows: the rows in order.
      problems: messages for the user; empty if the file is unchanged.
    """

    rows: Sequence[Row]
    problems: Sequence[str]


def restored(
    path: pathlib.Path,
    table: Table,
    copy: Mapping[int, Row],
    completed: int,
    digest: Optional[str],
    time_column: str,
) -> Restored:
    """Returns the rows of completed rounds, each from an undamaged file.

    Args:
      path: path of metrics.csv, for messages.
      table: the content of the file.
      copy: the content of the copy.
      completed: number of rounds in the checkpoint.
      digest: the digest of the rows in the checkpoint; None in a checkpoint of an
        earlier version.
      time_column: the column that the digest ignores.
    """

    def digest_of(rows: Iterable[Row]) -> str:
        found = Digest(time_column)
        for row in rows:
            found.add(row)
        return found.text()

    def joined(first: Mapping[int, Row], second: Mapping[int, Row]) -> dict[int, Row]:
        both = {**second, **first}
        return {number: both[number] for number in sorted(both) if number <= completed}

    rows = joined(copy, table.rows)
    verified = digest is not None and digest_of(rows.values()) == digest
    if digest is not None and not verified:
        # Somebody may have put back an older copy.
        others = joined(table.rows, copy)
        if digest_of(others.values()) == digest:
            rows, verified = others, True
    lost = [number for number in range(1, completed + 1) if number not in rows]
    changed = [number for number in rows if rows[number] != table.rows.get(number)]
    problems = []
    if changed:
        problems.append(
            f"{path} was damaged: {_rounds(changed)} restored from the copy in {COPY}"
        )
    elif table.damaged:
        problems.append(
            f"{path} had lines that are not rows of the table; these lines are dropped"
        )
    if lost and not verified:
        problems.append(
            f"{path} lacks {len(lost)} of the {completed} rounds completed: "
            f"{_rounds(lost)} lost and cannot be made again"
        )
    elif _unproven(digest, verified, rows, copy):
        problems.append(
            f"{path} was changed in its rows up to round {completed}; nobody can tell "
            "which cell or row, because the copy is missing or damaged"
        )
    return Restored(list(rows.values()), problems)


def _unproven(
    digest: Optional[str],
    verified: bool,
    rows: Mapping[int, Row],
    copy: Mapping[int, Row],
) -> bool:
    """Whether neither the checkpoint nor the copy confirms the rows."""
    if digest is None or verified:
        return False
    # If the copy has every row, only columns that are now withheld are missing.
    return any(copy.get(number) != row for number, row in rows.items())


def _rounds(numbers: Sequence[int]) -> str:
    """ "the row of round 3 is", "the rows of rounds 1 to 3 and 7 are"."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    named = [str(a) if a == b else f"{a} to {b}" for a, b in spans[:_MOST_NAMED]]
    if len(spans) > _MOST_NAMED:
        named.append(f"{len(spans) - _MOST_NAMED} further spans")
    listed = ", ".join(named[:-1]) + " and " + named[-1] if named[1:] else named[0]
    if len(numbers) == 1:
        return f"the row of round {listed} is"
    return f"the rows of rounds {listed} are"
