"""Parquet files and saved Hugging Face data sets, as Arrow tables."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import numpy as np
import pandas as pd

from tfl_research.data.tables.files import list_files
from tfl_research.data.tables.schema_file import SCHEMA_FILE

_INSTALL = "needs pyarrow; install it with: pip install 'tfl_research[data]'"
_INDEX = "__index_level_"
# Kinds of Hugging Face features with columns of files instead of values.
_FILES = ("Image", "Audio", "Video", "Pdf")


def _pyarrow(path: pathlib.Path) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise ValueError(f"{path}: reading it {_INSTALL}") from None
    return pa


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def parquet_files(path: pathlib.Path) -> list[pathlib.Path]:
    """The Parquet file, or a folder's Parquet files in the order of their names.

    Raises:
      ValueError: there is no file, an entry is of another kind, or there is a
        schema.json, which belongs to the task `csv`.
    """
    if path.is_file():
        return [path]
    files = list_files(path)
    for file in files:
        if file.suffix != ".parquet":
            raise ValueError(
                f"{file}: no .parquet file; the task csv reads folders of CSV files"
            )
    if (path / SCHEMA_FILE).exists():
        raise ValueError(
            f"{path / SCHEMA_FILE} is read by the task csv only; declare columns with "
            "features=tables.Schema(...), or use the task csv"
        )
    return files


def parquet_columns(path: pathlib.Path) -> dict[str, str]:
    """The columns of a Parquet file with their types, without reading the rows.

    Raises:
      ValueError: not a readable Parquet file.
    """
    pa = _pyarrow(path)
    try:
        schema = pa.parquet.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{path}: not a readable Parquet file: {_reason(error)}"
        ) from None
    check_names(path, schema.names)
    return {f.name: str(f.type) for f in schema if not f.name.startswith(_INDEX)}


def index_columns(path: pathlib.Path) -> tuple[str, ...]:
    """The columns that were the index of the DataFrame that pandas wrote."""
    pa = _pyarrow(path)
    written = (pa.parquet.read_schema(path).pandas_metadata or {}).get("index_columns")
    return tuple(name for name in written or () if isinstance(name, str))


def check_names(path: pathlib.Path, names: Sequence[str]) -> None:
    """Raises ValueError for a name that two columns have."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"{path}: {names.count(name)} columns are called {name!r}; rename them"
            )


def read_parquet(path: pathlib.Path, columns: Optional[Sequence[str]] = None) -> Any:
    """A Parquet file's rows, or those columns of them, as an Arrow table.

    Raises:
      ValueError: not a readable Parquet file.
    """
    pa = _pyarrow(path)
    try:
        return pa.parquet.ParquetFile(path).read(columns)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{path}: not a readable Parquet file: {_reason(error)}"
        ) from None


def joined(paths: Sequence[pathlib.Path], columns: Sequence[str]) -> Any:
    """The rows of several Parquet files, one file after another.

    Raises:
      ValueError: files that disagree in the types of these columns.
    """
    pa = _pyarrow(paths[0])
    check_alike(paths, columns)
    return pa.concat_tables([read_parquet(path, columns) for path in paths])


def check_same_columns(paths: Sequence[pathlib.Path]) -> None:
    """Raises ValueError for a file with columns that the first does not have."""
    first = parquet_columns(paths[0])
    for path in paths:
        for name in parquet_columns(path):
            if name not in first:
                raise ValueError(
                    f"{path}: column {name!r}, which {paths[0].name} does not have; "
                    "name the columns to read in features"
                )


def check_alike(paths: Sequence[pathlib.Path], columns: Sequence[str]) -> None:
    """Raises ValueError unless the files have these columns, of the same types."""
    first = parquet_columns(paths[0])
    for path in paths:
        types = parquet_columns(path)
        for name in columns:
            if name not in types:
                raise ValueError(
                    f"{path}: no column {name!r}; it has {', '.join(types)}"
                )
            if types[name] != first.get(name):
                raise ValueError(
                    f"{path}: column {name!r} is of {types[name]}, but of "
                    f"{first.get(name)} in {paths[0].name}"
                )


def frame(table: Any, rows: Optional[np.ndarray] = None) -> pd.DataFrame:
    """Rows of an Arrow table as a DataFrame, whose index is the rows' numbers from 0.

    Columns that were categories in pandas are categories again. In a Parquet file, a
    category that is a number looks like any other number. Only the schema's metadata
    tell that the column has categories.

    Args:
      table: the table.
      rows: int64 `[n]`; all rows when not given.
    """
    import pyarrow as pa

    if rows is not None:
        table = table.take(pa.array(rows, pa.int64()))
    found: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    for column in (table.schema.pandas_metadata or {}).get("columns", ()):
        name = column.get("field_name") or column.get("name")
        if column.get("pandas_type") == "categorical" and name in found:
            found[name] = found[name].astype("category")
    found.index = pd.RangeIndex(len(found)) if rows is None else pd.Index(rows)
    return found


def saved_dataset(
    path: pathlib.Path, split: Optional[str]
) -> tuple[Any, dict[str, Any]]:
    """A data set that `datasets.Dataset.save_to_disk` left, and its features.

    The files are mapped into memory, so that rows are read when they are needed.

    Args:
      path: the folder of a `Dataset`, or of a `DatasetDict`.
      split: which data set of a `DatasetDict`; None for a `Dataset`.

    Returns:
      An Arrow table, and the entry `features` of dataset_info.json by column.

    Raises:
      ValueError: the folder does not exist, the split is not given or not in the data,
        or a file cannot be read.
    """
    pa = _pyarrow(path)
    if not path.is_dir():
        raise ValueError(f"{path}: no such folder; expected a saved data set")
    splits = path / "dataset_dict.json"
    if splits.exists():
        names = _json(splits).get("splits")
        if not isinstance(names, list):
            raise ValueError(f"{splits}: expected a list of 'splits', got {names!r}")
        if split not in names:
            listed = ", ".join(map(str, names))
            raise ValueError(f"{path}: split must be one of {listed}, got {split!r}")
        path = path / str(split)
    elif split is not None:
        raise ValueError(f"{path} has no splits; leave split={split!r} out")
    state = _json(path / "state.json")
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise ValueError(
            f"{path}: the rows are chosen by an index; save the data set again after "
            "flatten_indices()"
        )
    entries = state.get("_data_files") or []
    if not isinstance(entries, list) or not all(
        isinstance(e, dict) and isinstance(e.get("filename"), str) for e in entries
    ):
        raise ValueError(
            f"{path / 'state.json'}: _data_files must be a list of file names; save "
            "the data set again"
        )
    tables = [_shard(pa, path / entry["filename"]) for entry in entries]
    if not tables:
        raise ValueError(
            f"{path}: state.json names no data files; save the data set again"
        )
    for entry, table in zip(entries, tables):
        if not table.schema.equals(tables[0].schema):
            raise ValueError(
                f"{path / entry['filename']} has the columns {_columns(table)}, but "
                f"{entries[0]['filename']} has {_columns(tables[0])}"
            )
    check_names(path, tables[0].schema.names)
    features = _json(path / "dataset_info.json").get("features") or {}
    if not isinstance(features, dict):
        raise ValueError(
            f"{path / 'dataset_info.json'}: features must be an object; save the data "
            "set again"
        )
    return pa.concat_tables(tables), features


def _shard(pa: Any, file: pathlib.Path) -> Any:
    try:
        return pa.ipc.open_stream(pa.memory_map(str(file))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{file}: not a readable Arrow file: {_reason(error)}"
        ) from None


def _columns(table: Any) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in table.schema)


def _json(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{path.parent} has no {path.name}; expected a folder that "
            "Dataset.save_to_disk wrote"
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read: {_reason(error)}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected an object")
    return content


def check_features(features: dict[str, Any], columns: Sequence[str]) -> None:
    """Raises ValueError for a column whose cells are files, such as images."""
    for column in columns:
        kind = next((k for k in _kinds(features.get(column)) if k in _FILES), None)
        if kind is not None:
            raise ValueError(
                f"column {column!r} is of {kind}, whose cells are files; decode them "
                "into a column of arrays first"
            )


def _kinds(feature: Any) -> Iterator[str]:
    """The kinds of a Hugging Face feature, and of those within it."""
    if isinstance(feature, dict):
        if isinstance(feature.get("_type"), str):
            yield feature["_type"]
        feature = list(feature.values())
    for part in feature if isinstance(feature, list) else ():
        yield from _kinds(part)


def class_names(features: dict[str, Any], column: Any) -> tuple[str, ...]:
    """The names of a ClassLabel column; none for another column."""
    kind = features.get(column) if isinstance(column, str) else None
    if isinstance(kind, dict) and kind.get("_type") == "ClassLabel":
        return tuple(map(str, kind.get("names") or ()))
    return ()
