"""The `csv` task: your own silos, a folder with a CSV or Parquet file per client."""

from __future__ import annotations

import pathlib
from typing import Any

from tfl_research.data import hold_out
from tfl_research.data.tables import schema_file, silos
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
) -> Task:
    """Classification of rows; every file is a client, and its name is the client's id.

    Scales, categories and classes are those of schema.json, or else computed from the
    rows of all files. A private run refuses the latter, see `Task.pooled`.

    Args:
      seed: decides the held-out clients and the splits.
      data_dir: folder of .csv or .parquet files of the same columns, optionally
        with a schema.json (see `data.tables.schema_file.read`).
      label_column: the class, integers or text; two classes make a binary task.
      drop_columns: columns to leave out, separated by commas.
      delimiter: one character between the cells of CSV files.
      held_out_clients: how many clients are never trained on.
      test_fraction: probability of each training client's row to be in its test split.
      model: "mlp" (one hidden layer) or "linear".
      hidden_units: of "mlp".

    Raises:
      ValueError: a file, column or cell that does not fit, naming file, line and
        column; or an option out of its range.
    """
    _check_model(model, hidden_units)
    folder = pathlib.Path(data_dir).expanduser()
    data = silos.load(
        folder,
        label_column=label_column,
        drop_columns=_names(drop_columns),
        delimiter=delimiter,
        held_out_clients=held_out_clients,
        test_fraction=test_fraction,
        seed=seed,
    )
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
) -> Task:
    """The task without a row, from the schema.json of a folder without silos.

    Args:
      seed, data_dir, label_column, drop_columns, delimiter, held_out_clients,
        test_fraction, model, hidden_units: see `build`.

    Raises:
      ValueError: no schema.json, or one that leaves something to the rows; or an option
        out of its range.
    """
    del seed, delimiter
    _check_model(model, hidden_units)
    hold_out.check_fraction("test_fraction", test_fraction)
    if held_out_clients:
        raise ValueError(
            f"held_out_clients={held_out_clients}: held-out clients are drawn from "
            "all clients' files, which no site has; leave it out"
        )
    folder = pathlib.Path(data_dir).expanduser()
    data = silos.without_rows(folder, label_column, _names(drop_columns))
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
    num_classes = len(data.classes)
    binary = num_classes == 2

    def build_model() -> Any:
        # Only a model needs TensorFlow, whose import takes seconds.
        import tensorflow as tf

        layers = [tf.keras.layers.Input(data.train.specs["x"].shape)]
        if model == "mlp":
            layers.append(tf.keras.layers.Dense(hidden_units, activation="relu"))
        layers.append(tf.keras.layers.Dense(1 if binary else num_classes))
        return tf.keras.Sequential(layers)

    def build_objective() -> Any:
        from tfl_research.tasks import objectives

        return objectives.binary() if binary else objectives.multiclass()

    scaling = (
        f"numeric ranges and categories are {_SCHEMA}'s"
        if data.declared
        else "numeric scaling and categories are computed from the pooled training "
        "rows, outside of any differential-privacy guarantee; a schema.json in the "
        "folder gives them as public constants"
    )
    named = num_classes <= _MOST_NAMED_CLASSES
    card = Card(
        title=f"silos in {folder.name}, {len(data.feature_names)} features",
        client_unit="silo (one file)",
        target=f"column {label_column!r}, {num_classes} classes",
        source=f"{folder}; {scaling}",
        licence="that of the files",
        label_names=data.classes if named else (),
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
        selection_metric="auc" if binary else "accuracy",
        pooled=_pooled(data),
        agreed=data.schema_digest,
    )


def _public_knowledge(data: silos.SiloData) -> tuple[str, ...]:
    """What schema.json declares, which nobody may have read off the files."""
    if not data.declared:
        return ()
    classes = " and the classes of the label" if data.declared_classes else ""
    return (f"the columns, ranges and categories{classes} in {_SCHEMA}",)


def _pooled(data: silos.SiloData) -> tuple[Pooled, ...]:
    """What schema.json does not declare, computed from the files."""
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
