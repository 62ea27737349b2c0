"""The files of a run folder, read for a report."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Union

from tfl_research.storage import json_file


@dataclasses.dataclass(frozen=True)
class RunResults:
    """The content of a run's files.

    Attributes:
      name: name of the folder.
      record: hparams.json.
      metrics: metrics.csv by column; NaN for an empty cell.
      clients: rows of clients.csv; empty without the file.
      summary: summary.json; empty without the file.
      privacy: lines of the privacy statement; empty without a statement.
      columns: by column of metrics.csv its class, meaning and whose data it depends on;
        empty without columns.json.
    """

    name: str
    record: Mapping[str, Any]
    metrics: Mapping[str, Sequence[float]]
    clients: Sequence[Mapping[str, str]]
    summary: Mapping[str, Any]
    privacy: Sequence[str]
    columns: Mapping[str, Mapping[str, str]]


def _rows(path: pathlib.Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({error})") from error


def _json(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json_file.read(path)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object")
    return content


def read(folder: Union[str, os.PathLike[str]]) -> RunResults:
    """Reads a run's folder; the run need not have ended.

    Raises:
      ValueError: the folder holds no run, or one of its files is damaged.
    """
    path = pathlib.Path(folder)
    if not (path / "hparams.json").exists():
        raise ValueError(f"{path} holds no run: it has no hparams.json")
    metrics: dict[str, list[float]] = {}
    for number, row in enumerate(_rows(path / "metrics.csv"), start=2):
        for name, cell in row.items():
            if name is None or cell is None:
                # A running experiment is writing this row.
                continue
            try:
                value = float(cell) if cell else math.nan
            except ValueError as error:
                raise ValueError(
                    f"{path / 'metrics.csv'}, line {number}: {name} is {cell!r}, "
                    "expected a number"
                ) from error
            metrics.setdefault(name, []).append(value)
    lengths = [len(column) for column in metrics.values()]
    complete = {name: column[: min(lengths)] for name, column in metrics.items()}
    summary = path / "summary.json"
    privacy = path / "privacy.txt"
    described = path / "columns.json"
    return RunResults(
        path.resolve().name,
        _json(path / "hparams.json"),
        complete,
        _rows(path / "clients.csv"),
        _json(summary) if summary.exists() else {},
        privacy.read_text(encoding="utf-8").splitlines() if privacy.exists() else [],
        _json(described).get("columns", {}) if described.exists() else {},
    )
