"""A folder's files as they are written, and which of their columns are read."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Optional

import pandas as pd

from tfl_research.data.tables import files, label as label_kinds, schema_file
from tfl_research.data.tables.cells import plain
from tfl_research.data.tables.columns import Categorical
from tfl_research.data.tables.comparison import spellings
from tfl_research.data.tables.files import Silo
from tfl_research.data.tables.schema import Schema


@dataclasses.dataclass(frozen=True)
class Table:
    """The files of a folder, and which of their columns are read.

    Attributes:
      silos: the files.
      names: the feature columns.
      label_columns: the label's column, or the columns of several labels.
      label_kind: "classes", "number" or "multi_label".
      declared: the schema of schema.json, or None.
    """

    silos: Sequence[Silo]
    names: Sequence[str]
    label_columns: tuple[str, ...]
    label_kind: str
    declared: Optional[Schema]

    @property
    def label_is_declared(self) -> bool:
        """Whether schema.json says how the label is read."""
        return self.declared is not None and (
            self.declared.classes is not None or self.declared.label is not None
        )


def label_columns(label_column: str, label_kind: str) -> tuple[str, ...]:
    """The label's columns; ValueError for an unknown kind, or names that repeat."""
    if label_kind not in label_kinds.KINDS:
        raise ValueError(
            f"label_type must be {', '.join(label_kinds.KINDS)}, got {label_kind!r}"
        )
    if label_kind != label_kinds.MULTI_LABEL:
        return (label_column,)
    names = tuple(name.strip() for name in label_column.split(",") if name.strip())
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"label_column={label_column}: expected distinct columns, separated by "
            "commas"
        )
    return names


def declared_schema(
    folder: pathlib.Path, label_columns: Sequence[str], label_kind: str
) -> Optional[Schema]:
    """The folder's schema.json, of this kind of label; None without schema.json.

    Raises:
      ValueError: see `schema_file.read`; another kind of label, or other columns of it.
    """
    found = [schema_file.read(folder, name) for name in label_columns]
    schema = found[0]
    if schema is None:
        return None
    path = folder / schema_file.SCHEMA_FILE
    label = schema.label
    kind = label_kinds.CLASSES if label is None else label.kind
    has_label = schema.classes is not None or label is not None
    if has_label and kind != label_kind:
        raise ValueError(
            f"{path}: declares a label of the kind {kind!r}, but label_type is "
            f"{label_kind!r}; give label_type={kind}, or change the file"
        )
    if label is not None and label.columns and set(label.columns) != set(label_columns):
        raise ValueError(
            f"{path}: declares the labels {', '.join(label.columns)}, but label_column "
            f"is {','.join(label_columns)}"
        )
    return schema


def readable(silo: Silo, schema: Schema) -> pd.DataFrame:
    """The file's rows as `Schema.encode` takes them.

    Cells of columns with a declared notation are as they are written. Of the others
    the words for "no value" are None, but for those that are on a list of categories.
    """
    frame = {}
    for column in schema.columns:
        cells = silo.frame[column.column]
        if column.notation is None:
            listed = column.categories if isinstance(column, Categorical) else ()
            cells = plain(cells, listed)
        frame[column.column] = cells
    return pd.DataFrame(frame, index=silo.frame.index, dtype=object)


def read(
    folder: pathlib.Path,
    label_column: str,
    drop_columns: Sequence[str] = (),
    delimiter: str = ",",
    label_kind: str = label_kinds.CLASSES,
) -> Table:
    """Reads a folder's files and schema.json, and checks that all have the columns.

    Args: see `silos.load`.

    Raises:
      ValueError: a file or a column does not fit; the message names the file.
    """
    names = label_columns(label_column, label_kind)
    declared = declared_schema(folder, names, label_kind)
    silos = files.read_folder(folder, delimiter, drop_columns)
    features = _feature_columns(silos, names, drop_columns, declared)
    return Table(silos, features, names, label_kind, declared)


def _check_columns(
    silos: Sequence[Silo], expected: Sequence[str], origin: str, dropped: Sequence[str]
) -> None:
    """Raises ValueError unless every file has the expected columns, in any order.

    Args:
      silos: the files.
      expected: names of the columns that each file must have.
      origin: the file that the names come from, for the error.
      dropped: names of further columns that a file may have.
    """
    for silo in silos:
        present = list(silo.frame.columns)
        for name in expected:
            if name not in present:
                raise ValueError(
                    f"{silo.path}: column {name!r} of {origin} is missing; the file "
                    f"has {', '.join(present)}{_alike(name, present)}"
                )
        for name in present:
            if name not in expected and name not in dropped:
                raise ValueError(
                    f"{silo.path}: extra column {name!r} that {origin} does not have; "
                    "remove it or name it in drop_columns"
                )


def _feature_columns(
    silos: Sequence[Silo],
    labels: Sequence[str],
    drop_columns: Sequence[str],
    declared: Optional[Schema],
) -> list[str]:
    """Names of the feature columns; ValueError unless all files have them."""
    file_columns = list(silos[0].frame.columns)
    for label in labels:
        if label not in file_columns:
            raise ValueError(
                f"{silos[0].path}: label column {label!r} is missing; the file has "
                f"{', '.join(file_columns)}{_alike(label, file_columns)}"
            )
    for name in drop_columns:
        if name in labels or all(name not in s.frame.columns for s in silos):
            raise ValueError(
                f"drop_columns: {name!r} is not a feature column of any file"
            )
    if declared is None:
        present, origin = file_columns, silos[0].path.name
    else:
        present, origin = list(declared.column_names), schema_file.SCHEMA_FILE
    names = [n for n in present if n not in labels and n not in drop_columns]
    if not names:
        raise ValueError(f"{silos[0].path}: no feature column besides the label")
    _check_columns(silos, [*names, *labels], origin, drop_columns)
    return names


def _alike(name: str, present: Sequence[str]) -> str:
    """A hint at a column whose name is written differently."""
    for other in present:
        if spellings.plain(other) == spellings.plain(name):
            return f" ({other!r} is written differently)"
    return ""
