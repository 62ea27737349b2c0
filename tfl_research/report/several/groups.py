"""Groups runs that differ only in their seed; a group has a mean and an interval."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Union

import numpy as np

from tfl_research.report import run_results, words
from tfl_research.report.convergence import LEAST_OF_AN_INTERVAL, interval
from tfl_research.report.run_page import headline
from tfl_research.report.run_results import RunResults
from tfl_research.storage import run_record
from tfl_research.storage.files import user_paths

SEED = "seed"
# Settings that follow from other settings, or that change no result.
_FOLLOWS = frozenset(
    {
        "batching",
        "cohorts_sha256",
        "data_sha256",
        "expected_cohort_size",
        "malicious_clients",
        "num_train_clients",
        "plugins",
        "run_seed",
        "task_seed",
    }
)
_LONGEST_LABEL = 3


@dataclasses.dataclass(frozen=True)
class Run:
    """A run: its folder, its files, and its labels in a sweep."""

    folder: pathlib.Path
    results: RunResults
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that can make results differ, and the experiment."""
        kept = {
            name: value
            for name, value in self.results.hparams.items()
            if name not in _FOLLOWS
            and (name == "rounds" or name not in run_record.MAY_CHANGE)
        }
        return {"experiment": self.results.record.get("experiment"), **kept}

    @property
    def seconds(self) -> float:
        """Time of all rounds in seconds; NaN if a private run withholds the time."""
        found = self.results.values("round_seconds")
        return sum(found) if found else math.nan

    @property
    def traffic(self) -> float:
        """Bytes to and from the clients; NaN if a private run withholds them."""
        found = [*self.results.values("bytes_down"), *self.results.values("bytes_up")]
        return sum(found) if found else math.nan

    def final(self, column: str) -> float:
        """Returns a column's value of the final model, or the last round's value."""
        cells = self.results.summary.get("final") or {}
        try:
            value = float(cells.get(column, math.nan))
        except (TypeError, ValueError):
            value = math.nan
        rows = self.results.values(column)
        return rows[-1] if math.isnan(value) and rows else value


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs with the same settings except for the seed, and a short label."""

    label: str
    runs: tuple[Run, ...]

    def values(self, column: str) -> list[float]:
        """Returns the finite values of a column of the runs' final models."""
        found = [run.final(column) for run in self.runs]
        return [value for value in found if math.isfinite(value)]

    def text(self, column: str) -> str:
        """Formats the final values: up to two values, or mean and interval."""
        found = self.values(column)
        if len(found) < LEAST_OF_AN_INTERVAL:
            return ", ".join(map(words.number, found)) or words.NONE
        mean, half = interval(np.asarray(found))
        return f"{words.number(mean)} ± {words.number(half)}"

    def mean(self, column: str) -> float:
        """Returns the mean of `values`; NaN without values."""
        found = self.values(column)
        return sum(found) / len(found) if found else math.nan


def read_runs(folders: Sequence[Union[str, os.PathLike[str]]]) -> list[Run]:
    """Reads run folders.

    Raises:
      ValueError: a folder has no run or a damaged file, or is given twice.
    """
    paths = [user_paths.expanded(folder) for folder in folders]
    places = [path.resolve() for path in paths]
    for path, place in zip(paths, places):
        if places.count(place) > 1:
            raise ValueError(f"{path} is given twice; give each run once")
    return [Run(path, run_results.read(path)) for path in paths]


def read_sweep(folder: Union[str, os.PathLike[str]]) -> list[Run]:
    """Reads the points of a sweep that have begun, with their labels in the sweep.

    Raises:
      ValueError: the folder has no sweep, no point or a damaged file.
    """
    path = user_paths.expanded(folder)
    record = path / "sweep.json"
    if not record.exists():
        raise ValueError(
            f"{path} holds no sweep: it has no sweep.json; give the folder of a sweep"
        )
    try:
        names = list(json.loads(record.read_text(encoding="utf-8"))["points"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{record} is damaged: {error}; restore the file") from error
    begun = [n for n in names if (path / "points" / n / "hparams.json").exists()]
    if not begun:
        raise ValueError(
            f"{path}: no run of this sweep has begun yet; wait for the first run"
        )
    labels = _labels(path / "results.csv", names)
    return [
        Run(
            path / "points" / name,
            run_results.read(path / "points" / name),
            labels.get(name, {}),
        )
        for name in begun
    ]


def _labels(path: pathlib.Path, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Reads the labels of points in results.csv: the columns before the results.

    The rows have the order of the points; points that have not begun have no row.
    """
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or ())
        rows = list(reader)
    if "stop_reason" not in columns or len(rows) > len(names):
        return {}
    own = columns[: columns.index("stop_reason")]
    return {
        name: {column: row[column] for column in own if row[column]}
        for name, row in zip(names, rows)
    }


def differing(runs: Sequence[Run]) -> list[str]:
    """Returns the names of settings that differ between runs, without the seed."""
    everything = [run.settings for run in runs]
    names = sorted({name for settings in everything for name in settings})
    return [
        name
        for name in names
        if name != SEED
        and any(s.get(name) != everything[0].get(name) for s in everything)
    ]


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Groups runs; the groups have the order of their first runs."""
    names = differing(runs)
    labels = _differing_labels([run.labels for run in runs])
    found: dict[str, list[Run]] = {}
    for run in runs:
        key = {name: run.settings.get(name) for name in names}
        text = json.dumps(key, sort_keys=True, default=str)
        found.setdefault(text, []).append(run)
    groups: list[Group] = []
    for members in found.values():
        taken = [group.label for group in groups]
        label = _label(members, names, labels, taken)
        groups.append(Group(label, tuple(members)))
    return groups


def _label(
    members: Sequence[Run],
    names: Sequence[str],
    differing_labels: Sequence[str],
    taken: Sequence[str],
) -> str:
    own = members[0].labels
    labels = {name: own[name] for name in differing_labels if name in own}
    if labels:
        label = ", ".join(filter(None, map(_part, labels, labels.values())))
    elif len(members) == 1 or not names:
        label = members[0].results.name
    else:
        settings = members[0].settings
        shown = [n for n in names if settings.get(n) not in (None, [])]
        parts = [_part(name, settings[name]) for name in shown[:_LONGEST_LABEL]]
        label = ", ".join(parts) or members[0].results.name
    return label if label not in taken else f"{label} ({members[0].folder})"


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _part(name: str, value: Any) -> str:
    """Writes a setting for a label: names alone ("krum"), numbers with the setting."""
    text = words.number(value)
    if name in ("target_epsilon", "alpha"):
        symbol = {"target_epsilon": "ε", "alpha": "α"}[name]
        return "" if text == "∞" else f"{symbol} {text}"
    return f"{name.replace('_', ' ')} {text}" if _is_number(value) else text


def columns_shown(runs: Sequence[Run]) -> list[str]:
    """Returns the metrics' columns that are compared, the selection metric first.

    At least one run releases each of these columns. If runs select by different
    columns, the first run's column comes first.
    """
    wanted: list[str] = []
    for run in runs:
        for column in (run.results.selects, headline.headline_column(run.results)):
            if column is not None and words.beginning(column):
                wanted.append(column)
    wanted += ["eval_accuracy", "held_out_accuracy", "eval_loss"]
    return [
        column
        for column in dict.fromkeys(wanted)
        if any(run.results.values(column) for run in runs)
    ]


def _differing_labels(labels: Sequence[Mapping[str, str]]) -> list[str]:
    names = dict.fromkeys(name for one in labels for name in one if name != SEED)
    return [n for n in names if len({one.get(n) for one in labels}) > 1]


def dimensions(groups: Sequence[Group]) -> list[str]:
    """Returns the sweep's labels that differ between groups; none outside sweeps."""
    return _differing_labels([group.runs[0].labels for group in groups])


def seeds_text(groups: Sequence[Group]) -> str:
    """Makes a sentence on how many seeds a mean and an interval have."""
    counts = sorted({len(group.runs) for group in groups})
    if counts == [1]:
        return (
            "One run of each setting: these figures do not show how much the seed "
            "changes results."
        )
    text = f"Runs of each setting: {' or '.join(map(str, counts))}, which differ in "
    text += "their seed."
    if any(1 < count < LEAST_OF_AN_INTERVAL for count in counts):
        text += (
            " Of two runs, both and their mean are drawn. No interval is shown, "
            "because an interval of two runs would have only one degree of freedom."
        )
    if counts[-1] >= LEAST_OF_AN_INTERVAL:
        text += (
            " Of three or more runs, the band and ± are the 95% interval of the mean "
            "(Student's t)."
        )
    return text
