"""The files of a run's end: models and page are written by choice."""

from __future__ import annotations

import types

import pytest

from tfl_research import report
from tfl_research.program.results import finish


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Ends a run whose models are texts; returns the names of the files there are."""
    folder = types.SimpleNamespace(
        path=tmp_path,
        export_path=tmp_path / "export",
        clients_path=tmp_path / "clients.csv",
        summary_path=tmp_path / "summary.json",
        report_path=tmp_path / "report.html",
    )
    monkeypatch.setattr(
        report, "write", lambda path: (path / "report.html").write_text("page")
    )

    def exporter(text, path):
        path.mkdir(parents=True, exist_ok=True)
        (path / "model").write_text(text)

    def ended(weights, models=True, page=True):
        finish.write_outputs(
            folder,
            {"completed_rounds": 1},
            weights,
            {},
            exporter,
            write_models=models,
            write_report=page,
            say=print,
        )
        files = (path for path in tmp_path.rglob("*") if path.is_file())
        return {str(path.relative_to(tmp_path)) for path in files}

    return ended


def test_models_and_page(write):
    both = {"final": "w", "best": "v"}
    everything = {"export/final/model", "export/best/model", "report.html"}
    assert write(both) == {*everything, "summary.json"}
    # The run has gone on, and no round is the best any more.
    assert write({"final": "w"}) == {
        *("export/final/model", "report.html", "summary.json")
    }


def test_what_an_earlier_end_has_written_is_of_fewer_rounds(write):
    both = {"final": "w", "best": "v"}
    write(both)
    assert write(both, models=False) == {"report.html", "summary.json"}
    assert write(both, page=False) == {
        *("export/final/model", "export/best/model", "summary.json")
    }
    assert write(both, models=False, page=False) == {"summary.json"}
