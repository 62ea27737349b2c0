"""Makes tasks of a DataFrame, of Parquet files, or of a saved Hugging Face data set.

Needs pandas, and pyarrow for Parquet files and saved data sets:
`pip install 'tfl_research[data]'`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np
import pandas as pd

from tfl_research.data import Examples, conversion
from tfl_research.data.arrays.sequences import LONGEST, Sequences
from tfl_research.data.tables.dataframes import arrow
from tfl_research.data.tables.dataframes.clients import rows_by_client
from tfl_research.data.tables.dataframes.frames import (
    FrameColumns,
    Parts,
    columns_of,
)
from tfl_research.storage.files import user_paths
from tfl_research.tasks import own_data, padding
from tfl_research.tasks.column_roles import checked_roles, column_roles
from tfl_research.tasks.task import Task


def from_dataframe(
    df: pd.DataFrame,
    *,
    client: str,
    label: Parts,
    model: Callable[[], Any],
    features: Parts = None,
    classes: Optional[Sequence[str]] = None,
    weight: Optional[str] = None,
    **options: Any,
) -> Task:
    """Makes a task of a pandas DataFrame that has a row for each example.

    Nothing is computed from the rows: no scale, no category and no class. Numbers
    become float32 and are not scaled. A column of text needs declared categories, or
    its own input. Name scales and vocabularies that you computed before in `pooled`.

    Args:
      df: the rows; its index names rows in errors, and is not a feature.
      client: the column with the row's client; 3 and 3.0 are the client "3".
      label: the column of y; a list of columns for y `[n, columns]`; a dict of columns
        or lists for labels by name; None for no labels.
      model: see `from_arrays`.
      features: a list of columns, which are numbers, for x `[n, columns]`; by default
        all columns that are not named elsewhere. A `data.tables.Schema` encodes columns
        by declared ranges and categories. A dict makes inputs by name, each a column
        (`[n]`, numbers, text, or sequences with `sequences`), a list of columns, or a
        Schema.
      classes: the label's texts in the order of their class numbers. They must be
        declared, since they are not read off the rows.
      weight: the column of the examples' weights in the loss.
      options: objective, test (a share), held_out (a share), batching, seed, name,
        selection_metric, label_names, public_data, pooled, sequences and
        non_trainable, as in `from_arrays`.

    Raises:
      ValueError: a column is unknown; a cell is missing or does not fit (the message
        names client, column and row); or `from_arrays` refuses the data or an argument.

    Example:
      >>> import pandas as pd
      >>> from tfl_research import tasks
      >>> rows = pd.DataFrame(
      ...     {"ward": ["a", "a", "b"], "age": [30, 40, 50], "fell": ["N", "Y", "N"]}
      ... )
      >>> def model():
      ...     import tensorflow as tf
      ...     layers = [tf.keras.layers.Input([1]), tf.keras.layers.Dense(2)]
      ...     return tf.keras.Sequential(layers)
      >>> task = tasks.from_dataframe(
      ...     rows, client="ward", label="fell", classes=["N", "Y"], model=model, test=0
      ... )
      >>> task.train.load("a")["x"].tolist(), task.train.load("a")["y"].tolist()
      ([[30.0], [40.0]], [0, 1])
    """
    if not isinstance(df, pd.DataFrame):
        raise ValueError(
            f"df must be a pandas DataFrame, got {type(df).__name__}; convert it first"
        )
    unnamed = [name for name in df.columns if not isinstance(name, str)]
    if unnamed:
        raise ValueError(
            f"the DataFrame has the column {unnamed[0]!r}, but names must be text; "
            "give df.rename(columns=str), and the arguments as text"
        )
    features, label = checked_roles(client, weight, features, label)
    for name in (client, weight, *columns_of(label), *columns_of(features)):
        if name is not None and name in df.index.names and name not in df.columns:
            raise ValueError(
                f"{name!r} is the index of the DataFrame, not a column; give "
                "df.reset_index()"
            )
    columns = column_roles(list(df.columns), client, label, features, classes, weight)
    columns.check(list(df.columns), "the DataFrame")
    settings = _settings(columns, model, "a DataFrame", options)
    frames = {name: df.iloc[rows] for name, rows in _rows(client, df[client]).items()}
    arrays = {name: columns.arrays(name, frame) for name, frame in frames.items()}
    lengths, longest = padding.resolved(settings.sequences_by_array(), [arrays])
    examples = {}
    for name, each in arrays.items():
        places = columns.places(name, frames[name])
        found = conversion.converted(name, each, lengths, places)
        examples[name] = settings.labelled(name, found, places.get("y"))
    return own_data.of_arrays(examples, settings, longest)


def from_parquet(
    path: Union[str, os.PathLike[str]],
    *,
    client: Optional[str],
    label: Parts,
    model: Callable[[], Any],
    features: Parts = None,
    classes: Optional[Sequence[str]] = None,
    weight: Optional[str] = None,
    **options: Any,
) -> Task:
    """Makes a task of a Parquet file, or of a folder of Parquet files.

    Args:
      path: the file, or a folder.
      client: the column with the row's client; the needed columns of all rows are then
        read into memory. None for a folder with a file for each client. The file's name
        is then the client's id, and the file is read when the client is needed.
      label: see `from_dataframe`.
      model: see `from_arrays`.
      features: see `from_dataframe`; the index of a DataFrame is not a column by
        default.
      classes: see `from_dataframe`.
      weight: see `from_dataframe`.
      options: see `from_dataframe`.

    Raises:
      ValueError: pyarrow is not installed; a file cannot be read, or has other columns
        or types than the other files; or `from_dataframe` would refuse the rows. With a
        file for each client, this error comes when the file is read.

    Example:
      >>> import pandas as pd
      >>> from tfl_research import tasks
      >>> for ward in ("north", "south"):
      ...     rows = pd.DataFrame({"age": [30.0, 40.0], "fell": [0, 1]})
      ...     rows.to_parquet(f"{ward}.parquet")
      >>> def model():
      ...     import tensorflow as tf
      ...     layers = [tf.keras.layers.Input([1]), tf.keras.layers.Dense(2)]
      ...     return tf.keras.Sequential(layers)
      >>> task = tasks.from_parquet(".", client=None, label="fell", model=model, test=0)
      >>> task.train.client_ids, task.train.load("north")["x"].tolist()
      (('north', 'south'), [[30.0], [40.0]])
    """
    features, label = checked_roles(client, weight, features, label)
    place = user_paths.expanded(path)
    if client is None and place.is_file():
        raise ValueError(
            f"{place} is one file; client= must name the column that has each row's "
            "client"
        )
    files = arrow.parquet_files(place)
    if features is None:
        arrow.check_same_columns(files)
    present = list(arrow.parquet_columns(files[0]))
    if features is None:
        used = {client, weight, *columns_of(label), *arrow.index_columns(files[0])}
        features = [name for name in present if name not in used]
    columns = column_roles(present, client, label, features, classes, weight)
    columns.check(present, str(files[0]))
    settings = _settings(columns, model, str(place), options)
    if client is not None:
        table = arrow.joined(files, [*columns.names, client])
        return _of_table(table, client, columns, settings)
    arrow.check_alike(files, columns.names)
    by_id = {file.stem: file for file in files}

    def rows(client_id: str) -> pd.DataFrame:
        return arrow.frame(arrow.read_parquet(by_id[client_id], columns.names))

    return _lazy(tuple(by_id), rows, columns, settings)


def from_huggingface(
    path: Union[str, os.PathLike[str]],
    *,
    client: str,
    label: Parts,
    model: Callable[[], Any],
    features: Parts = None,
    classes: Optional[Sequence[str]] = None,
    weight: Optional[str] = None,
    split: Optional[str] = None,
    **options: Any,
) -> Task:
    """Makes a task of a data set that Hugging Face's `save_to_disk` wrote.

    The files are mapped into memory and a client's rows are read when they are needed.
    The package `datasets` is not needed. The names of a ClassLabel are the names of the
    classes in reports.

    Args:
      path: the folder of a `Dataset` or a `DatasetDict`.
      client: the column with the row's client.
      label: see `from_dataframe`.
      model: see `from_arrays`.
      features: see `from_dataframe`; a column of token ids is its own input, with
        `sequences`.
      classes: see `from_dataframe`.
      weight: see `from_dataframe`.
      split: which data set of a `DatasetDict`.
      options: see `from_dataframe`.

    Raises:
      ValueError: pyarrow is not installed; the folder has another kind; the cells of a
        column are files, such as images; or `from_dataframe` would refuse a client's
        rows (when the client is read).

    Example:
      >>> import json, pathlib
      >>> import pyarrow as pa
      >>> from tfl_research import tasks
      >>> rows = pa.table({"who": ["ann", "bob"], "age": [30.0, 40.0], "fell": [0, 1]})
      >>> with pa.ipc.new_stream("data-00000-of-00001.arrow", rows.schema) as file:
      ...     file.write_table(rows)
      >>> names = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
      >>> _ = pathlib.Path("state.json").write_text(json.dumps(names))
      >>> _ = pathlib.Path("dataset_info.json").write_text(json.dumps({"features": {}}))
      >>> def model():
      ...     import tensorflow as tf
      ...     layers = [tf.keras.layers.Input([1]), tf.keras.layers.Dense(2)]
      ...     return tf.keras.Sequential(layers)
      >>> task = tasks.from_huggingface(".", client="who", label="fell", model=model)
      >>> task.train.client_ids
      ('ann', 'bob')
    """
    features, label = checked_roles(client, weight, features, label)
    place = user_paths.expanded(path)
    table, kinds = arrow.saved_dataset(place, split)
    columns = column_roles(table.column_names, client, label, features, classes, weight)
    columns.check(table.column_names, str(place))
    arrow.check_features(kinds, columns.names)
    names = arrow.class_names(kinds, label)
    settings = _settings(columns, model, str(place), {"label_names": names, **options})
    return _of_table(table.select([*columns.names, client]), client, columns, settings)


def _settings(
    columns: FrameColumns, model: Any, source: str, options: Mapping[str, Any]
) -> own_data.TaskSettings:
    own_data.check_options(options)
    given = {"label_names": columns.classes or (), **options}
    return own_data.TaskSettings(
        model, source=source, public_knowledge=columns.declares, **given
    )


def _rows(client: str, cells: pd.Series) -> dict[str, np.ndarray]:
    rows = rows_by_client(client, cells)
    if not rows:
        raise ValueError(
            "the table has no rows, so there is no client; give a table with rows"
        )
    return rows


def _of_table(
    table: Any, client: str, columns: FrameColumns, settings: own_data.TaskSettings
) -> Task:
    cells = table.column(client).to_pandas()
    rows = _rows(client, cells)
    return _lazy(
        tuple(rows), lambda name: arrow.frame(table, rows[name]), columns, settings
    )


def _lazy(
    client_ids: Sequence[str],
    rows: Callable[[str], pd.DataFrame],
    columns: FrameColumns,
    settings: own_data.TaskSettings,
) -> Task:
    """Makes the task of clients whose rows are read only when they are needed."""
    sequences: Mapping[str, Sequences] = settings.sequences_by_array()
    for name, sequence in sequences.items():
        if sequence.length == LONGEST:
            raise ValueError(
                f"sequences: {name} has length={LONGEST!r}, but rows are read only "
                "when they are needed, so the longest row is not known; give a number"
            )

    def read(client_id: str) -> Examples:
        frame = rows(client_id)
        arrays = columns.arrays(client_id, frame)
        places = columns.places(client_id, frame)
        found = conversion.converted(client_id, arrays, sequences, places)
        return settings.labelled(client_id, found, places.get("y"))

    return own_data.of_clients(client_ids, read, settings)
