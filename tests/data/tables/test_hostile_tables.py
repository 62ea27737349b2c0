"""Generated tables: each is encoded as it is meant, refused in one line, or said."""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
import tempfile
from typing import Any

import pytest
from hostile_tables import (
    FINE,
    IDENTICAL,
    LABEL,
    LARGEST,
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
from hypothesis import HealthCheck, Phase, given, settings

from tfl_research.cli.tasks import schema_draft
from tfl_research.data.tables import derived_schema, labels, silos
from tfl_research.data.tables.comparison import columns
from tfl_research.data.tables.notation import Notation

_FIXED = settings(
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def _load(folder: pathlib.Path, table: Table) -> Any:
    return silos.load(
        folder,
        label_column=",".join(label.name for label in table.labels),
        delimiter=table.delimiter,
        test_fraction=0.0,
        label_kind=table.kind,
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
            "label_column": ",".join(label.name for label in table.labels),
            "label_type": table.kind,
            "delimiter": table.delimiter,
        }
        schema_draft.write(path, options)
        content = json.loads(path.read_text())
        entries = {k: _chosen(v) for k, v in content["columns"].items()}
        label = _chosen(content["label"])
        if "columns" in label:
            label = {"columns": {k: _chosen(v) for k, v in label["columns"].items()}}
        content = {"columns": entries, "label": label}
        path.write_text(json.dumps(content))
        return _load(folder, table)

    return judged(table, load, features=False)


def _chosen(entry: Any) -> Any:
    entry = entry.get("choices", [entry])[0]
    if "minimum" in entry:
        entry = {**entry, "minimum": -LARGEST, "maximum": LARGEST}
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


@pytest.mark.parametrize("number", [60, pytest.param(500, marks=pytest.mark.campaign)])
def test_tables_are_encoded_as_meant_or_refused_or_said(number):
    counts = _campaign(number)
    assert sum(counts.values()) == number
    # The campaign has outcomes of several kinds, so that each rule is tried.
    assert counts[IDENTICAL] > number / 50
    assert counts[REFUSED] > number / 5
    assert counts[SAID] or number < 500


def _table(*cells: list[str], meaning: Any = None, how: str = "planted") -> Table:
    """A table of a label, and a column of truth values."""
    label = Column(LABEL, meaning or [list(each) for each in cells], list(cells), how)
    other = [[str(r % 2 == 0) for r in range(len(each))] for each in cells]
    return Table([Column("c0", other, other, "truth values")], [label])


def _numbers(*cells: list[float], point: str = ".") -> Table:
    """A table of a column of numbers, and a label."""
    written = [[repr(v).replace(".", point) for v in each] for each in cells]
    names = [["no" if r % 2 else "yes" for r in range(len(each))] for each in cells]
    column = Column("c0", [list(each) for each in cells], written, "numbers")
    return Table([column], [Column(LABEL, names, names, "texts")])


CLEAN = _table(["no", "yes", "no"], ["yes", "no"])


class TestTheJudge:
    """Finds faults that are planted, in what it is shown and in the encoder."""

    @staticmethod
    def _shown(change: Any) -> Outcome:
        def load() -> Any:
            with tempfile.TemporaryDirectory() as name:
                write(CLEAN, pathlib.Path(name))
                return change(_load(pathlib.Path(name), CLEAN))

        return judged(CLEAN, load)

    def test_accepts_what_is_meant(self):
        assert self._shown(lambda data: data).kind == IDENTICAL

    @pytest.mark.parametrize("array", ["x", "y"])
    def test_finds_a_changed_cell(self, array):
        def change(data: Any) -> Any:
            data.train.load("f1")[array][0] = 1 - data.train.load("f1")[array][0]
            return data

        outcome = self._shown(change)
        assert outcome.kind == SILENT

    @pytest.mark.parametrize(
        ("name", "can_be_said", "kind"),
        [("c0", True, SAID), ("c0", False, SILENT), ("c1", True, SILENT)],
    )
    def test_takes_word_of_the_column_where_a_reader_can_decide(
        self, monkeypatch, name, can_be_said, kind
    ):
        def change(data: Any) -> Any:
            data.train.load("f1")["x"][0] = 5
            return dataclasses.replace(data, said=(f"column {name!r} differs",))

        monkeypatch.setattr(CLEAN.columns[0], "can_be_said", can_be_said)
        assert self._shown(change).kind == kind

    def test_finds_classes_in_another_order(self):
        def change(data: Any) -> Any:
            schema = dataclasses.replace(data.schema, classes=data.classes[::-1])
            return dataclasses.replace(data, schema=schema)

        assert self._shown(change).kind == SILENT

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (KeyError("x"), TRACEBACK),
            (ValueError("two\nlines"), TRACEBACK),
            (ValueError("an escape: \x1b[31m"), TRACEBACK),
            (ValueError("one line"), REFUSED),
        ],
    )
    def test_tells_a_refusal_from_a_traceback(self, error, kind):
        def fail(_: Any) -> Any:
            raise error

        assert self._shown(fail).kind == kind

    @pytest.mark.parametrize(
        ("table", "module", "name", "fault", "kinds"),
        [
            (
                _table(["True", "False"], ["TRUE", "FALSE"], meaning=[["t", "f"]] * 2),
                *(columns, "label", lambda *_: []),
                (REFUSED, SILENT),
            ),
            (
                _table(["123456789012345678", "123456789012345679"]),
                *(labels, "_name", lambda cell: str(int(float(cell)))),
                (IDENTICAL, REFUSED),
            ),
            (
                _table(["007", "7", "8"], meaning=[["7", "7", "8"]]),
                *(columns, "label", lambda *_: []),
                (REFUSED, SILENT),
            ),
            (
                _numbers([1.0, 2.0, 4.0], [3.0, 5.5]),
                *(derived_schema, "_scale", lambda *_: (3.0, 1.0)),
                (IDENTICAL, SILENT),
            ),
            (
                _numbers([0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1]),
                *(derived_schema, "_scale", lambda _, v: (v.mean(), v.std(ddof=0))),
                (IDENTICAL, SILENT),
            ),
            (
                _numbers([1.5, 2.25], [2.5, 3.0], point=","),
                *(columns, "features", lambda *_: []),
                (REFUSED, SILENT),
            ),
            (
                _numbers([1.5, 2.25], [2.5, 3.0], point=","),
                *(Notation, "_plain", lambda _, text: text.replace(",", "")),
                (REFUSED, SILENT),
            ),
        ],
    )
    def test_finds_a_fault_of_the_encoder(
        self, monkeypatch, table, module, name, fault, kinds
    ):
        before, after = kinds
        assert _outcome(table).kind == before
        monkeypatch.setattr(module, name, fault)
        assert _outcome(table).kind == after
