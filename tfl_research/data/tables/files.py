"""CSV and Parquet files of silos, read with the position of every row."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import pathlib
import re
import unicodedata
from collections.abc import Collection
from typing import Any

import pandas as pd

from tfl_research.data.tables.schema_file import SCHEMA_FILE, declares_words

_IGNORED = re.compile(r"\..*|readme.*|licen[cs]e.*", re.IGNORECASE)
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


@dataclasses.dataclass(frozen=True)
class Silo:
    """One client's file.

    Attributes:
      client_id: the file's name without its suffix.
      path: the file.
      frame: the rows; cells are texts exactly as they are written, numbers, truth
        values, dates or None. `cells.plain` or a `notation.Notation` says what they
        mean. The index is a row's line in a CSV file (the header is line 1), or its
        number from 1 in a Parquet file.
      unit: the unit of the index, "line" or "row".
    """

    client_id: str
    path: pathlib.Path
    frame: pd.DataFrame
    unit: str

    def at(self, row: int, column: str) -> str:
        """Names a cell in an error: file, line or row of the file, and column.

        Args:
          row: number of the row in `frame`, from 0.
          column: name of the column.
        """
        return f"{self.path}: {self.unit} {self.frame.index[row]}, column {column!r}"


def list_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Lists the folder's CSV and Parquet files, by name.

    Hidden files, `schema.json`, and readme and licence files are ignored.

    Raises:
      ValueError: the folder does not exist or has no data files, an entry is of another
        kind, a name is not UTF-8 or cannot be printed, or two files would be the same
        client.
    """
    _check_name(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; expected one file per client")
    by_client: dict[str, pathlib.Path] = {}
    for path in sorted(folder.iterdir()):
        _check_name(path)
        if path.name == SCHEMA_FILE or _IGNORED.fullmatch(path.name):
            continue
        if not path.is_file() or path.suffix not in (".csv", ".parquet"):
            raise ValueError(
                f"{path}: neither a .csv nor a .parquet file; each file of the "
                "folder is one client, so convert it or move it away"
            )
        # Unicode has two ways to write é, which look alike.
        client_id = unicodedata.normalize("NFC", path.stem)
        if client_id in by_client:
            raise ValueError(
                f"{path}: the client {path.stem!r} already has the file "
                f"{by_client[client_id].name}; rename or remove one"
            )
        by_client[client_id] = path
    if not by_client:
        raise ValueError(f"{folder}: no .csv or .parquet file; expected one per client")
    return list(by_client.values())


def _check_name(path: pathlib.Path) -> None:
    """Raises ValueError for a name that reports and tables cannot show."""
    name = str(path)
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            f"{name!a}: the file's name is not UTF-8 text, but it is the client's id; "
            "rename the file"
        ) from None
    if not name.isprintable():
        raise ValueError(
            f"{name!a}: the file's name has a character that cannot be printed; "
            "rename the file"
        )


def content_hash(folder: pathlib.Path) -> str:
    """Computes SHA-256 of the names and contents of `list_files` and schema.json, hex.

    Raises:
      ValueError: see `list_files`.
    """
    total = hashlib.sha256()
    schema = folder / SCHEMA_FILE
    for path in [*list_files(folder), *([schema] if schema.is_file() else [])]:
        content = hashlib.sha256()
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                content.update(piece)
        total.update(json.dumps([path.name, content.hexdigest()]).encode())
    if schema.is_file() and declares_words(schema):
        # Earlier versions read such cells as "no value"; their runs are other runs.
        total.update(b"words for no value are categories where schema.json lists them")
    return total.hexdigest()


def _check_header(path: pathlib.Path, header: list[str]) -> None:
    for number, name in enumerate(header, start=1):
        if not name:
            raise ValueError(f"{path}: line 1: column {number} has no name")
        if not name.isprintable():
            raise ValueError(
                f"{path}: line 1: the name of column {number}, {name!r}, has a "
                "character that cannot be printed; rename it"
            )
        if name in header[: number - 1]:
            raise ValueError(f"{path}: line 1: column {name!r} occurs twice")


def _read_csv(path: pathlib.Path, delimiter: str) -> Silo:
    rows: list[list[str]] = []
    lines: list[int] = []
    line = 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(reader, [])]
            if not header:
                raise ValueError(
                    f"{path}: line 1: expected column names, got an empty line"
                )
            _check_header(path, header)
            line = reader.line_num + 1
            for record in reader:
                if len(record) not in (0, len(header)):
                    raise ValueError(
                        f"{path}: line {line}: expected {len(header)} cells as in the "
                        f"header, got {len(record)}"
                    )
                if any("\0" in cell for cell in record):
                    raise ValueError(
                        f"{path}: line {line}: a NUL character; the file is damaged"
                    )
                if record:
                    rows.append(record)
                    lines.append(line)
                # A quoted cell may span lines: an error names the row's first line.
                line = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8 text near line {line} ({error.reason}); save it as "
            "UTF-8"
        ) from None
    except csv.Error as error:
        raise ValueError(f"{path}: line {line}: malformed CSV: {error}") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    frame = pd.DataFrame(rows, index=lines, columns=header, dtype=object)
    return Silo(path.stem, path, frame, "line")


def _parquet_cells(path: pathlib.Path, name: str, column: Any) -> list[Any]:
    """A Parquet column's cells as text, numbers, truth values, dates or None."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    kinds = pa.types
    if kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_boolean(kind):
        return list(column.to_pylist())
    if kinds.is_date(kind) or kinds.is_timestamp(kind):
        return _dates(path, name, column)
    if pa.types.is_null(kind):
        return [None] * len(column)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return [None if v is None or v != v else v for v in column.to_pylist()]
    if pa.types.is_decimal(kind):
        # Whole decimals stay exact.
        return [
            None if v is None else int(v) if v == v.to_integral_value() else float(v)
            for v in column.to_pylist()
        ]
    raise ValueError(
        f"{path}: column {name!r} is of type {kind}; expected numbers, text or "
        "booleans; convert it, or name it in drop_columns"
    )


def _dates(path: pathlib.Path, name: str, column: Any) -> list[Any]:
    """Dates and times, to the microsecond."""
    import pyarrow as pa

    try:
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us", tz=column.type.tz))
        return list(column.to_pylist())
    except (pa.ArrowException, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: column {name!r}: {reason}; convert it") from None


def _read_parquet(path: pathlib.Path, dropped: Collection[str]) -> Silo:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError:
        raise ValueError(
            f"{path}: reading Parquet needs pyarrow; install it with: "
            "pip install 'tfl_research[data]'"
        ) from None
    try:
        table = pyarrow.parquet.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: not a readable Parquet file: {reason}") from None
    names = [n for n in table.column_names if not _PANDAS_INDEX.fullmatch(n)]
    _check_header(path, names)
    cells = {
        name: [None] * table.num_rows
        if name in dropped
        else _parquet_cells(path, name, table.column(name))
        for name in names
    }
    positions = range(1, table.num_rows + 1)
    frame = pd.DataFrame(cells, index=positions, columns=names, dtype=object)
    return Silo(path.stem, path, frame, "row")


def read_folder(
    folder: pathlib.Path, delimiter: str = ",", dropped: Collection[str] = ()
) -> list[Silo]:
    """Reads every client's file.

    Args:
      folder: the folder of the files.
      delimiter: the delimiter of CSV files.
      dropped: columns that are not needed; their cells may have any form.

    Raises:
      ValueError: see `list_files`; or a file cannot be read, is empty, is not UTF-8, or
        has rows that do not fit its header. The message names file and line.
    """
    if len(delimiter) != 1:
        raise ValueError(f"delimiter must be one character, got {delimiter!r}")
    silos = []
    for path in list_files(folder):
        if path.stat().st_size == 0:
            raise ValueError(f"{path}: the file is empty; expected a header and rows")
        silo = (
            _read_csv(path, delimiter)
            if path.suffix == ".csv"
            else _read_parquet(path, dropped)
        )
        if silo.frame.empty:
            raise ValueError(f"{path}: no rows below the header")
        silos.append(silo)
    return silos
