"""Converts all metrics of a round to cells of metrics.csv and to measurements.

A scalar number becomes a cell. Everything else (vectors, matrices, texts) becomes a
measurement, see `measurements`. Both have the same names:

- `client_work.train.loss`, where TFF's learning processes report, and `train.loss`, of
  the toolkit's processes, become `train_loss`. `train_accuracy` also has what Keras
  calls `sparse_categorical_accuracy`, `categorical_accuracy` or `binary_accuracy`, if
  there is one of them, and `examples` has `num_examples`.
- A scalar of `aggregator` becomes `aggregator_...`; a clip and the learning rates have
  columns of their own.
- Everything else has its path, with dots: `finalizer.update_non_finite`. A path that
  would be a column with another meaning, such as `epsilon`, gets `metrics.` before it.
  Of paths that look alike, the second gets `_2`.
"""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Optional, Union

import numpy as np

from tfl_research import outputs
from tfl_research.outputs.columns import EVALUATED
from tfl_research.storage import nest
from tfl_research.storage.metrics.metrics_log import COLUMNS, Cell

# Characters that MLflow's names cannot have.
_UNSAFE = re.compile(r"[^\w.\- /]")
_CLIP_NORM_NAMES = ("clip_norm", "l2_norm_clip", "clipping_norm", "clip")
_LEARNING_RATES = ("client_learning_rate", "server_learning_rate")
_ACCURACIES = (
    "sparse_categorical_accuracy",
    "categorical_accuracy",
    "binary_accuracy",
)
# In metrics of the toolkit's processes: counts of a cohort, and other parts.
_COUNTS = ("clients", "examples", "excluded")
_NO_METRICS = ("client_states", "client_noise_stddev")


def round_row(
    round_number: int,
    cohort_size: int,
    metrics: Any,
    *,
    epsilon: float = math.inf,
    delta: Optional[float] = None,
    noise_multiplier: Optional[float] = None,
) -> collections.OrderedDict[str, Cell]:
    """Makes a round's cells, without evaluation and time.

    Args:
      round_number: the round's number, from 1.
      cohort_size: number of sampled clients.
      metrics: metrics from `engine.next`, a nest of any form.
      epsilon: ε spent up to this round; infinite without privacy.
      delta: δ of `epsilon`; None without privacy.
      noise_multiplier: the noise multiplier of the mechanism, or None.
    """
    row: collections.OrderedDict[str, Cell] = collections.OrderedDict()
    row["round"] = round_number
    row["cohort_size"] = cohort_size
    parts = metrics if isinstance(metrics, Mapping) else {}
    if _is_ours(metrics):
        cohort = parts["cohort"]
        if "excluded" in cohort:
            row["excluded_clients"] = int(cohort["excluded"])
        if "examples" in cohort:
            row["examples"] = float(cohort["examples"])
    cells = {n: _number(leaf) for n, leaf in _named(metrics) if _is_number(leaf)}
    train = {n: c for n, c in cells.items() if n.startswith("train_")}
    _add_known(row, train)
    row.update(train)
    aggregator = parts.get("aggregator", ())
    for name in _CLIP_NORM_NAMES:
        clip = nest.find_scalar(aggregator, name)
        if clip is not None:
            row["clip_norm"] = clip
            cells.pop(f"aggregator_{name}", None)
            break
    row["noise_multiplier"] = noise_multiplier
    row["epsilon"] = float(epsilon)
    row["delta"] = delta
    for name in _LEARNING_RATES:
        row[name] = nest.find_scalar(aggregator, name)
    row.update((name, cell) for name, cell in cells.items() if name not in row)
    return row


def measurements(metrics: Any) -> dict[str, np.ndarray]:
    """Returns the metrics of a round that are not scalar numbers, as arrays by name.

    Texts are arrays of objects, `str` or `bytes`.
    """
    return {
        name: _array(leaf) for name, leaf in _named(metrics) if not _is_number(leaf)
    }


def column_names(metrics: Any) -> list[str]:
    """Returns the names of cells and measurements of metrics with this structure.

    Args:
      metrics: a nest with the structure of a round's metrics; leaves are not used.
    """
    return [name for name, _ in _named(metrics)]


def _is_ours(metrics: Any) -> bool:
    """Whether the metrics come from a process of the toolkit."""
    if not isinstance(metrics, Mapping):
        return False
    train, cohort = metrics.get("train"), metrics.get("cohort")
    if not isinstance(train, Mapping) or not isinstance(cohort, Mapping):
        return False
    return all(name in _COUNTS and _is_number(each) for name, each in cohort.items())


def _named(metrics: Any) -> Iterator[tuple[str, Any]]:
    """Yields the name and the leaf of each metric; names differ."""
    taken: set[str] = set()
    ours = _is_ours(metrics)
    for path, leaf in nest.named_leaves(metrics):
        if ours and path[0] in ("cohort", *_NO_METRICS):
            continue
        name = first = _name(list(map(safe_name, path)))
        number = 1
        while name in taken:
            number += 1
            name = f"{first}_{number}"
        taken.add(name)
        yield name, leaf


def safe_name(name: str) -> str:
    """Removes characters that MLflow refuses, or that begin formulas, from a name."""
    return re.sub("^-", "_", _UNSAFE.sub("_", name))


def _name(path: list[str]) -> str:
    for beginning in (["client_work", "train"], ["train"]):
        if path[: len(beginning)] == beginning and len(path) > len(beginning):
            return "train_" + ".".join(path[len(beginning) :])
    if path[:1] == ["aggregator"] and len(path) > 1:
        words = re.findall(r"\w+", " ".join(path[1:]))
        return "aggregator_" + "_".join(words)
    name = ".".join(path) or "metrics"
    return f"metrics.{name}" if _has_other_meaning(name) else name


def _has_other_meaning(name: str) -> bool:
    """Whether a name belongs to a column that a process does not fill."""
    if name[:1].isdecimal() or name.startswith(EVALUATED):
        return True
    output = outputs.column(name)
    exact_pattern = output.name.endswith("*") and output.kind == outputs.EXACT
    in_table = outputs.is_column_of_table(name) and not exact_pattern
    is_train = name.startswith("train_")
    return not is_train and (in_table or name in COLUMNS)


def _add_known(row: dict[str, Cell], train: Mapping[str, Cell]) -> None:
    """Fills the columns of every run that have another name in Keras or in TFF."""
    given = [train[f"train_{n}"] for n in _ACCURACIES if f"train_{n}" in train]
    if len(given) == 1 and "train_accuracy" not in train:
        row["train_accuracy"] = given[0]
    if "examples" not in row and "train_num_examples" in train:
        row["examples"] = train["train_num_examples"]


def _array(leaf: Any) -> np.ndarray:
    if isinstance(leaf, (bytes, str)):
        array = np.empty((), object)
        array[()] = leaf
        return array
    return nest.as_array(leaf)


def _is_number(leaf: Any) -> bool:
    array = _array(leaf)
    # The kind "V" are TensorFlow's own types, as bfloat16.
    number = array.dtype.kind in "biuf" or (
        array.dtype.kind == "V" and array.dtype.names is None
    )
    return number and array.ndim == 0


def _number(leaf: Any) -> Union[int, float]:
    array = _array(leaf)
    return int(array) if array.dtype.kind in "biu" else float(array)
