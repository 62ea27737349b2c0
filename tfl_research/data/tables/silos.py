"""A folder with a CSV or Parquet file for each client, as client data."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Optional

import numpy as np

from tfl_research.data import client_splits, hold_out
from tfl_research.data.client_data import ClientData
from tfl_research.data.cohort import ArraySpec, Examples
from tfl_research.data.tables import derived_schema, files, labels, schema_file
from tfl_research.data.tables.cells import text_of
from tfl_research.data.tables.files import Silo
from tfl_research.data.tables.schema import Schema


@dataclasses.dataclass(frozen=True)
class SiloData:
    """Encoded silos.

    x is float32 `[features]`, y int32, the index of the class in `classes`.

    Attributes:
      train: training rows of the training clients.
      test: test rows of the same clients.
      held_out: all rows of the held-out clients, or None.
      schema: the encoding of rows, with the label's classes.
      declared: whether ranges and categories are constants of schema.json; otherwise
        they are computed from the pooled rows.
      declared_classes: whether the classes are those of schema.json; otherwise they are
        the labels of all files.
    """

    train: ClientData
    test: ClientData
    held_out: Optional[ClientData]
    schema: Schema
    declared: bool
    declared_classes: bool

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the label's classes, in order."""
        return self.schema.classes or ()

    @property
    def schema_digest(self) -> str:
        """SHA-256 of what a row's encoding depends on, in hex."""
        return hashlib.sha256(repr(self.schema).encode()).hexdigest()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the entries of x."""
        return self.schema.feature_names


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
                    f"has {', '.join(present)}"
                )
        for name in present:
            if name not in expected and name not in dropped:
                raise ValueError(
                    f"{silo.path}: extra column {name!r} that {origin} does not have; "
                    "remove it or name it in drop_columns"
                )


def _feature_columns(
    silos: Sequence[Silo],
    label_column: str,
    drop_columns: Sequence[str],
    declared: Optional[Schema],
) -> list[str]:
    """Names of the feature columns; ValueError unless all files have them."""
    file_columns = list(silos[0].frame.columns)
    if label_column not in file_columns:
        raise ValueError(
            f"{silos[0].path}: label column {label_column!r} is missing; the file has "
            f"{', '.join(file_columns)}"
        )
    for name in drop_columns:
        if name == label_column or all(name not in s.frame.columns for s in silos):
            raise ValueError(
                f"drop_columns: {name!r} is not a feature column of any file"
            )
    if declared is None:
        present, origin = file_columns, silos[0].path.name
    else:
        present, origin = list(declared.column_names), schema_file.SCHEMA_FILE
    names = [n for n in present if n != label_column and n not in drop_columns]
    if not names:
        raise ValueError(f"{silos[0].path}: no feature column besides the label")
    _check_columns(silos, [*names, label_column], origin, drop_columns)
    return names


def load(
    folder: pathlib.Path,
    *,
    label_column: str,
    drop_columns: Sequence[str] = (),
    delimiter: str = ",",
    held_out_clients: int = 0,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> SiloData:
    """Reads, checks and encodes a folder of silos; file names are client ids.

    Numeric columns are scaled, categorical columns are one-hot. In a column with
    missing cells, a missing cell is zero and has an indicator. Scaling and categories
    come from the folder's schema.json (`schema_file.read`), which maps a numeric
    column's declared range to [-1, 1]. Without schema.json they are derived from the
    pooled training rows (`derived_schema.derive`), and without its "label" the classes
    are those of all rows; no differential-privacy guarantee of the training covers
    either. Rows are split by the hash of their cells (`hold_out.examples`).

    Args:
      folder: a .csv or .parquet file for each client, all with the same columns.
      label_column: the class, integers or text.
      drop_columns: columns to leave out; not every file must have them.
      delimiter: of the CSV files.
      held_out_clients: number of clients that are never trained on.
      test_fraction: probability of each training client's row to be in its test split.
      seed: decides the held-out clients and the splits.

    Raises:
      ValueError: a file, column or cell that does not fit (names file, line or row of
        a Parquet file, and column); or an option out of its range.
    """
    hold_out.check_fraction("test_fraction", test_fraction)
    declared = schema_file.read(folder, label_column)
    silos = files.read_folder(folder, delimiter)
    names = _feature_columns(silos, label_column, drop_columns, declared)
    classes = labels.classes(
        silos, label_column, declared.classes if declared else None
    )
    training_ids, held_out_ids = hold_out.clients(
        [silo.client_id for silo in silos], count=held_out_clients, seed=seed
    )
    contents = {
        silo.client_id: _row_contents(silo, [*names, label_column]) for silo in silos
    }
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
        columns = derived_schema.derive(silos, names, training).columns
    else:
        columns = tuple(c for c in declared.columns if c.column in names)
    schema = Schema(columns, classes)
    encoded = {
        silo.client_id: {
            "x": schema.encode(silo.frame, silo.at),
            "y": labels.encode(silo, label_column, classes),
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
        declared_classes=declared is not None and declared.classes is not None,
    )


def without_rows(
    folder: pathlib.Path, label_column: str, drop_columns: Sequence[str]
) -> SiloData:
    """What the folder's schema.json declares, with no client.

    Args:
      folder: with a schema.json; files of silos are not read.
      label_column: the class.
      drop_columns: columns to leave out.

    Raises:
      ValueError: no schema.json, one without classes, or a column to leave out that
        schema.json does not have.
    """
    declared = schema_file.read(folder, label_column)
    if declared is None or declared.classes is None:
        raise ValueError(
            f"{folder / schema_file.SCHEMA_FILE}: must declare the columns and the "
            "label's classes, since no site may compute them from the rows of others; "
            "scripts/federation schema drafts and merges such files"
        )
    for name in drop_columns:
        if name not in declared.column_names:
            raise ValueError(
                f"drop_columns: {name!r} is not a column of {schema_file.SCHEMA_FILE}"
            )
    columns = tuple(c for c in declared.columns if c.column not in drop_columns)
    schema = Schema(columns, declared.classes)
    specs = {
        "x": ArraySpec((len(schema.feature_names),), np.dtype(np.float32)),
        "y": ArraySpec((), np.dtype(np.int32)),
    }
    nobody = ClientData((), _no_client, specs, in_memory=True)
    return SiloData(nobody, nobody, None, schema, True, True)


def _no_client(client_id: str) -> Examples:
    raise KeyError(client_id)


def _row_contents(silo: Silo, names: Sequence[str]) -> list[bytes]:
    """The cells of each row, by which it is split: no other row plays a part."""
    columns = [
        [None if cell is None else text_of(cell) for cell in silo.frame[name]]
        for name in sorted(names)
    ]
    return [json.dumps(row).encode() for row in zip(*columns)]
