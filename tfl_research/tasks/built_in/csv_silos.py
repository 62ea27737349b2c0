"""The `csv` task: your own silos, a folder with a CSV or Parquet file per client."""

from __future__ import annotations

import pathlib
import warnings
from typing import Any

from tfl_research.data import hold_out
from tfl_research.data.tables import label, schema_file, silos
from tfl_research.storage.files import user_paths
from tfl_research.tasks.named_objectives import NAMES, named
from tfl_research.tasks.pooled import Pooled
from tfl_research.tasks.task import Card, Task

_SCHEMA = schema_file.SCHEMA_FILE
_MODELS = ("mlp", "linear")
_MOST_NAMED_CLASSES = 20


def build(
    *,
    seed: int = 0,
    data_dir: str,
    label_column: str,
    drop_columns: str = "",
    delimiter: str = ",",
    held_out_clients: int = 0,
    test_fraction: float = 0.2,
    model: str = "mlp",
    hidden_units: int = 64,
    label_type: str = label.CLASSES,
) -> Task:
    """Builds a task that predicts a column; each file is a client with its name as id.

    Scales, categories and classes come from schema.json. Without schema.json they are
    computed from the rows of all files. A private run refuses values that were computed
    from rows, see `Task.pooled`.

    Args:
      seed: decides the held-out clients and the splits.
      data_dir: folder of .csv or .parquet files with the same columns, optionally
        with a schema.json (see `data.tables.schema_file.read`).
      label_column: the column of the label. By default its cells are classes, integers
        or text, and two classes make a binary task; see `label_type`.
      drop_columns: columns to leave out, separated by commas.
      delimiter: one character between the cells of CSV files.
      held_out_clients: how many clients are never trained on.
      test_fraction: probability of each training client's row to be in its test split.
      model: "mlp" (one hidden layer) or "linear".
      hidden_units: the number of units of "mlp".
      label_type: "classes"; "number" for a regression; or "multi_label", for which
        `label_column` names several columns that are true or false.

    Without schema.json, warns of differences between the files.

    Raises:
      ValueError: a file, column or cell does not fit, or can be read in several ways
        (the message names file, line and column); or an option is out of range.
    """
    _check_model(model, hidden_units)
    folder = user_paths.expanded(data_dir)
    data = silos.load(
        folder,
        label_column=label_column,
        drop_columns=_names(drop_columns),
        delimiter=delimiter,
        held_out_clients=held_out_clients,
        test_fraction=test_fraction,
        seed=seed,
        label_kind=label_type,
    )
    for line in data.said:
        warnings.warn(line, stacklevel=2)
    return _task(data, folder, label_column, model, hidden_units)


def blueprint(
    *,
    seed: int = 0,
    data_dir: str,
    label_column: str,
    drop_columns: str = "",
    delimiter: str = ",",
    held_out_clients: int = 0,
    test_fraction: float = 0.2,
    model: str = "mlp",
    hidden_units: int = 64,
    label_type: str = label.CLASSES,
) -> Task:
    """Builds the task without rows, from the schema.json of a folder without silos.

    Args:
      seed, data_dir, label_column, drop_columns, delimiter, held_out_clients,
        test_fraction, model, hidden_units, label_type: see `build`.

    Raises:
      ValueError: there is no schema.json, or it leaves something open that the rows
        must decide; or an option is out of range.
    """
    del seed, delimiter
    _check_model(model, hidden_units)
    hold_out.check_fraction("test_fraction", test_fraction)
    if held_out_clients:
        raise ValueError(
            f"held_out_clients={held_out_clients}: held-out clients are drawn from "
            "all clients' files, but no site has all files; leave it out"
        )
    folder = user_paths.expanded(data_dir)
    data = silos.without_rows(folder, label_column, _names(drop_columns), label_type)
    return _task(data, folder, label_column, model, hidden_units)


def _check_model(model: str, hidden_units: int) -> None:
    if model not in _MODELS:
        raise ValueError(f"model must be one of {', '.join(_MODELS)}, got {model!r}")
    if hidden_units < 1:
        raise ValueError(f"hidden_units must be at least 1, got {hidden_units}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _task(
    data: silos.SiloData,
    folder: pathlib.Path,
    label_column: str,
    model: str,
    hidden_units: int,
) -> Task:
    outputs, objective, metric = _predicted(data)

    def build_model() -> Any:
        # Only a model needs TensorFlow, whose import takes seconds.
        import tensorflow as tf

        layers = [tf.keras.layers.Input(data.train.specs["x"].shape)]
        if model == "mlp":
            layers.append(tf.keras.layers.Dense(hidden_units, activation="relu"))
        layers.append(tf.keras.layers.Dense(outputs))
        return tf.keras.Sequential(layers)

    build_objective, _ = named(objective)

    scaling = (
        f"numeric ranges and categories are {_SCHEMA}'s"
        if data.declared
        else "numeric scaling and categories are computed from the pooled training "
        "rows, outside of any differential-privacy guarantee; a schema.json in the "
        "folder gives them as public constants"
    )
    card = Card(
        title=f"silos in {folder.name}, {len(data.feature_names)} features",
        client_unit="silo (one file)",
        target=_target(data, label_column),
        source=f"{folder}; {scaling}",
        licence="the licence of the files",
        label_names=data.classes if len(data.classes) <= _MOST_NAMED_CLASSES else (),
        public_knowledge=_public_knowledge(data),
    )
    return Task(
        name="csv",
        card=card,
        train=data.train,
        test=data.test,
        held_out=data.held_out,
        build_model=build_model,
        build_objective=build_objective,
        selection_metric=metric,
        pooled=_pooled(data),
        agreed=data.schema_digest,
        encoding=data.changed,
    )


def _predicted(data: silos.SiloData) -> tuple[int, str, str]:
    """Returns the number of outputs, the objective's name, and the selection metric."""
    shape = data.train.specs["y"].shape
    if data.label_kind == label.A_NUMBER:
        name, outputs = "regression", 1
    elif data.label_kind == label.MULTI_LABEL:
        name, outputs = "multi_label", shape[0]
    elif len(data.classes) == 2:
        name, outputs = "binary", 1
    else:
        name, outputs = "classification", len(data.classes)
    return outputs, name, NAMES[name][1]


def _target(data: silos.SiloData, label_column: str) -> str:
    if data.label_kind == label.A_NUMBER:
        return f"column {label_column!r}, a number"
    if data.label_kind == label.MULTI_LABEL:
        return f"columns {label_column}, each true or false"
    return f"column {label_column!r}, {len(data.classes)} classes"


def _public_knowledge(data: silos.SiloData) -> tuple[str, ...]:
    """Returns the facts that schema.json declares, which must not come from rows."""
    if not data.declared:
        return ()
    classes = " and the classes of the label" if data.declared_classes else ""
    return (f"the columns, ranges and categories{classes} in {_SCHEMA}",)


def _pooled(data: silos.SiloData) -> tuple[Pooled, ...]:
    """Returns facts that schema.json lacks and that were computed from the files."""
    remedy = (
        f'declare "columns" and "label" in a {_SCHEMA} beside the files (drafted by '
        "scripts/describe_task csv --write_schema=FILE ...)"
    )
    parts = []
    if not data.declared:
        parts.append(
            Pooled(
                "the names, kinds, scales, categories and missing-value indicators of "
                "the columns",
                "the rows of all files",
                remedy=remedy,
            )
        )
    if not data.declared_classes:
        parts.append(
            Pooled(
                "the classes of the label",
                "the labels of all files",
                remedy=f'declare "label" in {_SCHEMA}' if data.declared else remedy,
            )
        )
    return tuple(parts)
