"""The files of a run folder, read for a report."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from tfl_research.storage.files import json_file, safe_text, user_paths
from tfl_research.storage.metrics import kept_rows

_ENDS = {"rounds": "all rounds", "early_stopping": "early stopping"}

# Exceptions that are raised if a file has JSON or rows of another kind.
SIGNS_OF_DAMAGE = (AttributeError, IndexError, KeyError, TypeError, ValueError)

Rows = Sequence[Mapping[str, str]]


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
      personal: rows of personal_clients.csv; empty without the file.
      spent: rows of client_epsilon.csv of its last round; empty without the file.
      audit: audit.json; empty without the file.
      is_sabotaged: whether the run tests an audit, with a broken mechanism.
    """

    name: str
    record: Mapping[str, Any]
    metrics: Mapping[str, Sequence[float]]
    clients: Rows
    summary: Mapping[str, Any]
    privacy: Sequence[str]
    columns: Mapping[str, Mapping[str, str]]
    personal: Rows = ()
    spent: Rows = ()
    audit: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    is_sabotaged: bool = False

    @property
    def hparams(self) -> Mapping[str, Any]:
        """The settings by name."""
        found = self.record.get("hparams")
        return found if isinstance(found, dict) else {}

    @property
    def plan(self) -> Optional[Mapping[str, Any]]:
        """The privacy plan; None for a run without a plan, and in old records."""
        found = self.record.get("privacy_plan")
        return found if isinstance(found, dict) else None

    @property
    def title(self) -> str:
        """The experiment's name, or the folder's name."""
        return str(self.record.get("experiment") or self.name)

    @property
    def completed(self) -> int:
        """Number of completed rounds, by metrics.csv."""
        rounds = self.metrics.get("round", ())
        return int(rounds[-1]) if rounds and math.isfinite(rounds[-1]) else len(rounds)

    @property
    def planned(self) -> Optional[int]:
        """Number of planned rounds; None if no file has the number."""
        found = self.summary.get("planned_rounds", self.hparams.get("rounds"))
        return found if isinstance(found, int) else None

    @property
    def has_ended(self) -> bool:
        """Whether the run has ended, by its summary."""
        if not self.summary:
            return False
        final = (self.summary.get("final") or {}).get("round", self.completed)
        # A run that continues with more rounds has the summary of its earlier end.
        return self.completed <= int(self.summary.get("completed_rounds", final))

    @property
    def end(self) -> str:
        """How the run ended, in a few words; "not ended" while there is no summary."""
        if not self.has_ended:
            return "not ended"
        reason = str(self.summary.get("stop_reason"))
        return _ENDS.get(reason, reason)

    @property
    def epsilon(self) -> float:
        """ε of the run so far; infinite without privacy.

        This is ε of the last row, or ε of the summary if that is larger: the summary
        also covers the choice of the best model, and a diverged round, which has no
        row.
        """
        rows = [v for v in self.metrics.get("epsilon", ()) if not math.isnan(v)]
        # A private run without rounds has spent nothing.
        spent = rows[-1] if rows else (math.inf if self.plan is None else 0.0)
        # JSON has no infinity: summary.json holds "inf".
        return max(spent, float(self.summary.get("epsilon", spent)))

    @property
    def delta(self) -> float:
        """δ of ε; NaN without privacy, or if each client has its own δ."""
        rows = [v for v in self.metrics.get("delta", ()) if not math.isnan(v)]
        if rows:
            return rows[-1]
        return float((self.plan or {}).get("delta", math.nan))

    @property
    def is_private(self) -> bool:
        """Whether the run has a guarantee."""
        return math.isfinite(self.epsilon)

    @property
    def limit(self) -> Optional[tuple[float, str]]:
        """ε at which the run stops, with "budget", or at which it aims, with "target".

        None if the run has neither, or no privacy.
        """
        for word in ("budget", "target"):
            for unit in ("", "record_"):
                given = self.hparams.get(f"{unit}{word}_epsilon")
                if isinstance(given, (int, float)) and self.is_private:
                    return float(given), word
        return None

    @property
    def selects(self) -> Optional[str]:
        """The column that selects the best model; None if no file has the column."""
        best = self.summary.get("best") or {}
        return best.get("selected_by")

    def values(self, column: str) -> list[float]:
        """Returns the finite values of a column, in the order of the rounds."""
        return [v for v in self.metrics.get(column, ()) if math.isfinite(v)]


def damaged(folder: str, error: Exception) -> ValueError:
    """Makes the error for a run whose files have unexpected content."""
    return ValueError(
        f"{folder}: hparams.json, summary.json, columns.json, audit.json or a table of "
        f"clients is damaged ({type(error).__name__}: {error}); the command of the run "
        "writes them again"
    )


def _csv_rows(path: pathlib.Path, escaped: bool = False) -> list[dict[str, str]]:
    """Reads the rows of a table; `escaped`: whether clients' names are escaped."""
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"{path} is damaged ({error}); the command of the run writes the file again"
        ) from error
    for row in rows:
        if escaped and row.get("client_id") is not None:
            row["client_id"] = safe_text.from_cell(row["client_id"])
    return rows


def _json(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json_file.read(path)
    except ValueError as error:
        raise ValueError(
            f"{path} is not JSON: {error}; the command of the run writes the file again"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} does not hold a JSON object; the command of the run writes the "
            "file again"
        )
    return content


def _metrics(path: pathlib.Path) -> dict[str, list[float]]:
    metrics: dict[str, list[float]] = {}
    # First: a running experiment writes a row into its copy last.
    copy = kept_rows.read_copy(path.with_name(kept_rows.COPY))
    rows = _csv_rows(path)
    for number, row in enumerate(rows, start=2):
        for name, cell in row.items():
            if name is None or cell is None:
                # A running experiment is writing this row.
                continue
            try:
                value = float(cell) if cell else math.nan
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number}: {name} is {cell!r}, expected a number; "
                    "the command of the run writes the file again"
                ) from error
            metrics.setdefault(name, []).append(value)
    _check_copy(path, rows, copy)
    lengths = [len(column) for column in metrics.values()]
    return {name: column[: min(lengths)] for name, column in metrics.items()}


def _check_copy(
    path: pathlib.Path, rows: Rows, copy: Mapping[int, kept_rows.Row]
) -> None:
    """Checks that a table has all rounds of its copy, with the same cells.

    If rows were missing, the page would show the curves and the ε of a shorter run.
    """
    by_round = {row.get("round"): row for row in rows}
    for number, kept in copy.items():
        row = by_round.get(str(number))
        if row is None:
            what = f"lacks round {number}, which {kept_rows.COPY} has"
        elif any((cell or "") != kept.get(name, "") for name, cell in row.items()):
            what = f"differs in round {number} from its copy in {kept_rows.COPY}"
        else:
            continue
        raise ValueError(f"{path} {what}; the command of the run repairs the file")


def _last_round(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [row for row in rows if row.get("round") == rows[-1].get("round")]


def read(folder: Union[str, os.PathLike[str]]) -> RunResults:
    """Reads a run's folder; the run need not have ended.

    Raises:
      ValueError: the folder has no run, or one of its files is damaged.
    """
    path = user_paths.expanded(folder)
    if not (path / "hparams.json").exists():
        raise ValueError(
            f"{path} holds no run: it has no hparams.json; give the folder of a run"
        )
    parts = {
        name: _json(path / file) if (path / file).exists() else {}
        for name, file in (
            ("summary", "summary.json"),
            ("columns", "columns.json"),
            ("audit", "audit.json"),
        )
    }
    privacy = path / "privacy.txt"
    record = _json(path / "hparams.json")
    # Earlier versions, whose records have no digest, wrote names as they are.
    escaped = "digest" in record
    return RunResults(
        path.resolve().name,
        record,
        _metrics(path / "metrics.csv"),
        _csv_rows(path / "clients.csv", escaped),
        parts["summary"],
        privacy.read_text(encoding="utf-8").splitlines() if privacy.exists() else [],
        parts["columns"].get("columns", {}),
        personal=_csv_rows(path / "personal_clients.csv", escaped),
        spent=_last_round(_csv_rows(path / "client_epsilon.csv", escaped)),
        audit=parts["audit"],
        is_sabotaged=(path / "SABOTAGED").exists(),
    )
