"""A folder with a CSV or Parquet file for each client, as client data."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Optional

import numpy as np

from tfl_research.data import client_splits, hold_out
from tfl_research.data.client_data import ClientData
from tfl_research.data.cohort import ArraySpec, Examples
from tfl_research.data.tables import (
    derived_schema,
    label as label_kinds,
    labels,
    schema_file,
)
from tfl_research.data.tables.cells import plain_cell, text_of
from tfl_research.data.tables.comparison import (
    columns,
    copies,
    table as files_table,
)
from tfl_research.data.tables.comparison.finding import SAID, refuse_first
from tfl_research.data.tables.comparison.table import Table
from tfl_research.data.tables.files import Silo
from tfl_research.data.tables.label import Label
from tfl_research.data.tables.schema import Schema


@dataclasses.dataclass(frozen=True)
class SiloData:
    """Encoded silos.

    x is float32 `[features]`. y is int32, the index of the class in `classes`; float32
    of a label that is a number; or int32 `[labels]`, 1 for true, of several labels.

    Attributes:
      train: training rows of the training clients.
      test: test rows of the same clients.
      held_out: all rows of the held-out clients, or None.
      schema: the encoding of rows, with the label's classes.
      declared: whether ranges and categories are constants of schema.json; otherwise
        they are computed from the pooled rows.
      declared_classes: whether no fact about the labels was computed from all files. It
        is False if schema.json does not declare the classes.
      label_kind: "classes", "number" or "multi_label".
      said: lines about the files that a run prints; see `comparison`.
      changed: which columns earlier versions encoded in another way, see
        `Task.encoding`; empty if there are none.
    """

    train: ClientData
    test: ClientData
    held_out: Optional[ClientData]
    schema: Schema
    declared: bool
    declared_classes: bool
    label_kind: str = label_kinds.CLASSES
    said: tuple[str, ...] = ()
    changed: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the label's classes, in order."""
        return self.schema.classes or ()

    @property
    def schema_digest(self) -> str:
        """SHA-256 of what a row's encoding depends on, in hex."""
        return self.schema.digest

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the entries of x."""
        return self.schema.feature_names


def load(
    folder: pathlib.Path,
    *,
    label_column: str,
    drop_columns: Sequence[str] = (),
    delimiter: str = ",",
    held_out_clients: int = 0,
    test_fraction: float = 0.2,
    seed: int = 0,
    label_kind: str = label_kinds.CLASSES,
) -> SiloData:
    """Reads, checks and encodes a folder of silos; file names are client ids.

    Numeric columns are scaled, categorical columns are one-hot. In a column with
    missing cells, a missing cell is zero and has an indicator. Scaling and categories
    come from the folder's schema.json (`schema_file.read`), which maps a numeric
    column's declared range to [-1, 1]. Without schema.json the columns are derived from
    the pooled training rows (`derived_schema.derive`). Without "label" in schema.json
    the classes are taken from all rows. No differential-privacy guarantee of the
    training covers derived columns and classes. Then the files are compared, and cells
    that can be read in several ways are refused (`comparison`). Rows are split by the
    hash of their cells (`hold_out.examples`).

    Args:
      folder: a folder with a .csv or .parquet file for each client, all with the same
        columns.
      label_column: the column of classes (integers or text) or numbers; or names of
        several labels that are true or false, separated by commas.
      drop_columns: columns to leave out; not every file must have them.
      delimiter: the delimiter of the CSV files.
      held_out_clients: number of clients that are never trained on.
      test_fraction: probability of each training client's row to be in its test split.
      seed: decides the held-out clients and the splits.
      label_kind: "classes", "number" or "multi_label".

    Raises:
      ValueError: a file, column or cell does not fit (the message names the file, the
        line or the row of a Parquet file, and the column); or an option is out of
        range.
    """
    hold_out.check_fraction("test_fraction", test_fraction)
    table = files_table.read(folder, label_column, drop_columns, delimiter, label_kind)
    said = _refuse_ambiguous(table)
    silos, names, declared = table.silos, table.names, table.declared
    label = None if declared is None else declared.label
    classes: Optional[tuple[str, ...]] = None
    if label_kind == label_kinds.CLASSES:
        classes = labels.classes(
            silos, label_column, declared.classes if declared else None, label
        )
    training_ids, held_out_ids = hold_out.clients(
        [silo.client_id for silo in silos], count=held_out_clients, seed=seed
    )
    contents = {
        silo.client_id: _row_contents(silo, [*names, *table.label_columns])
        for silo in silos
    }
    changed = ""
    if declared is None:
        training = []
        for silo in silos:
            if silo.client_id in training_ids:
                rows, _ = hold_out.examples(
                    contents[silo.client_id],
                    test_fraction,
                    seed=seed,
                    client_id=silo.client_id,
                )
                training.append(silo.frame.iloc[rows.tolist()])
        features = derived_schema.derive(silos, names, training).columns
        said += derived_schema.said(silos, features, training)
        changed = derived_schema.changed(names, training)
    else:
        features = tuple(c for c in declared.columns if c.column in names)
    schema = Schema(features, classes, label)
    encoded = {
        silo.client_id: {
            "x": schema.encode(files_table.readable(silo, schema), silo.at),
            "y": _labels(silo, table, schema),
        }
        for silo in silos
    }
    train, test, held_out = client_splits.split_arrays(
        encoded,
        held_out=held_out_ids,
        test_fraction=test_fraction,
        seed=seed,
        contents=contents,
    )
    return SiloData(
        train,
        test,
        held_out,
        schema,
        declared=declared is not None,
        declared_classes=classes is None
        or (declared is not None and declared.classes is not None),
        label_kind=label_kind,
        said=tuple(said),
        changed=changed,
    )


def without_rows(
    folder: pathlib.Path,
    label_column: str,
    drop_columns: Sequence[str],
    label_kind: str = label_kinds.CLASSES,
) -> SiloData:
    """Makes the silo data that the folder's schema.json declares, without any client.

    Args:
      folder: a folder with a schema.json; files of silos are not read.
      label_column: the column of the label.
      drop_columns: columns to leave out.

    Raises:
      ValueError: there is no schema.json, it has no classes, or it does not have a
        column that is to be left out.
    """
    path = folder / schema_file.SCHEMA_FILE
    label_columns = files_table.label_columns(label_column, label_kind)
    declared = files_table.declared_schema(folder, label_columns, label_kind)
    is_complete = declared is not None and (
        declared.classes is not None or label_kind != label_kinds.CLASSES
    )
    if declared is None or not is_complete:
        raise ValueError(
            f"{path}: must declare the columns and the label's classes, since no site "
            "may compute them from the rows of others; scripts/federation schema "
            "drafts and merges such files"
        )
    for name in drop_columns:
        if name not in declared.column_names:
            raise ValueError(
                f"drop_columns: {name!r} is not a column of {schema_file.SCHEMA_FILE}"
            )
    kept = tuple(c for c in declared.columns if c.column not in drop_columns)
    schema = Schema(kept, declared.classes, declared.label)
    specs = {
        "x": ArraySpec((len(schema.feature_names),), np.dtype(np.float32)),
        "y": _label_spec(label_columns, label_kind),
    }
    nobody = ClientData((), _no_client, specs, in_memory=True)
    return SiloData(nobody, nobody, None, schema, True, True, label_kind)


def _label_spec(columns: Sequence[str], label_kind: str) -> ArraySpec:
    if label_kind == label_kinds.A_NUMBER:
        return ArraySpec((), np.dtype(np.float32))
    shape = (len(columns),) if label_kind == label_kinds.MULTI_LABEL else ()
    return ArraySpec(shape, np.dtype(np.int32))


def _labels(silo: Silo, table: Table, schema: Schema) -> np.ndarray:
    """Returns the labels of a file's rows, see `SiloData`."""
    names, label = table.label_columns, schema.label
    if table.label_kind == label_kinds.A_NUMBER:
        return labels.encode_numbers(silo, names[0], label or Label())
    if table.label_kind == label_kinds.MULTI_LABEL:
        return labels.encode_several(silo, names, label.columns if label else {})
    declared = table.declared is not None and table.declared.classes is not None
    return labels.encode(silo, names[0], schema.classes or (), declared, label)


def _refuse_ambiguous(table: Table) -> list[str]:
    """Hints of the comparison; ValueError for cells that can be read in several ways.

    What a schema.json declares is not compared: it says how the cells are read.
    """
    found = []
    if table.declared is None:
        found += columns.features(table.silos, table.names)
        found += copies.of_files(table.silos, [*table.names, *table.label_columns])
    if table.declared is None or not table.label_is_declared:
        found += columns.label(table.silos, table.label_columns, table.label_kind)
    refuse_first(found)
    return [finding.line() for finding in found if finding.fate == SAID]


def _no_client(client_id: str) -> Examples:
    raise KeyError(client_id)


def _row_contents(silo: Silo, names: Sequence[str]) -> list[bytes]:
    """Returns the cells of each row, which alone decide its split."""
    frame = silo.frame
    cells = [
        [None if cell is None else text_of(cell) for cell in map(plain_cell, frame[n])]
        for n in sorted(names)
    ]
    return [json.dumps(row).encode() for row in zip(*cells)]
