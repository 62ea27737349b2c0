"""Generated tables: each is encoded as it is meant, refused in one line, or said."""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
import tempfile
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hostile_tables import (
    FINE,
    IDENTICAL,
    LABEL,
    REFUSED,
    SAID,
    SILENT,
    TRACEBACK,
    Column,
    Outcome,
    Table,
    judged,
    tables,
    write,
)

from tfl_research.cli import schema_draft
from tfl_research.data.tables import labels, silos
from tfl_research.data.tables.comparison import columns

_FIXED = settings(
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def _load(folder: pathlib.Path, table: Table) -> Any:
    return silos.load(
        folder, label_column=LABEL, delimiter=table.delimiter, test_fraction=0.0
    )


def _outcome(table: Table) -> Outcome:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write(table, folder)
        outcome = judged(table, lambda: _load(folder, table))
        if outcome.kind == REFUSED:
            settled = _settled(folder, table)
            if settled.kind not in FINE:
                return dataclasses.replace(settled, detail=f"settled: {settled.detail}")
        return outcome


def _settled(folder: pathlib.Path, table: Table) -> Outcome:
    """What comes of the drafted schema, with the first choice of each column."""

    def load() -> Any:
        path = folder / "schema.json"
        options = {
            "data_dir": str(folder),
            "label_column": LABEL,
            "delimiter": table.delimiter,
        }
        schema_draft.write(path, options)
        content = json.loads(path.read_text())
        entries = {k: _chosen(v) for k, v in content["columns"].items()}
        content = {"columns": entries, "label": _chosen(content["label"])}
        path.write_text(json.dumps(content))
        return _load(folder, table)

    return judged(table, load, features=False)


def _chosen(entry: Any) -> Any:
    entry = entry.get("choices", [entry])[0]
    if "minimum" in entry:
        entry = {**entry, "minimum": -1e9, "maximum": 1e9}
    return entry


def _campaign(number: int) -> collections.Counter[str]:
    """Judges so many tables; the counts of their outcomes, and no fault."""
    counts: collections.Counter[str] = collections.Counter()
    faults: list[str] = []

    @settings(_FIXED, max_examples=number)
    @given(tables())
    def run(table: Table) -> None:
        outcome = _outcome(table)
        counts[outcome.kind] += 1
        if outcome.kind not in FINE:
            faults.append(f"{outcome.kind} ({table.hows}): {outcome.detail}")

    run()
    print(dict(counts))
    assert not faults, f"{len(faults)} faults: " + "\n".join(faults[:20])
    return counts


@pytest.mark.parametrize(
    "number", [60, pytest.param(500, marks=pytest.mark.campaign)]
)
def test_tables_are_encoded_as_meant_or_refused_or_said(number):
    counts = _campaign(number)
    assert sum(counts.values()) == number
    # None of the outcomes is that of all.
    assert counts[IDENTICAL] > number / 50
    assert counts[REFUSED] > number / 5
