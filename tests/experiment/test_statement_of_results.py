"""What the statement of a private run says of its models, report and best round."""

from __future__ import annotations

import json
import types
from typing import Any

import pytest

import tfl_research as tfl
from tfl_research.experiment.private.releases import given_out
from tfl_research.program.evaluation.deciding import PRIVATE_CHOICE


@pytest.mark.parametrize(
    ("column", "best", "expected"),
    [
        (None, {"round": 1}, ""),
        # Before the end of the run there is no summary.
        ("eval_loss", ..., "eval_loss"),
        ("eval_loss", {"round": 1}, "eval_loss"),
        ("eval_loss", None, ""),
        ("eval_auc:0.5,eval_loss:0.5", {"round": 1}, "eval_selection_score"),
        (PRIVATE_CHOICE, {"round": 1}, PRIVATE_CHOICE),
        (PRIVATE_CHOICE, None, ""),
        # Of an earlier end of the run; the file is written again.
        ("eval_loss", "damaged", "eval_loss"),
    ],
)
def test_what_selected_the_best_model(tmp_path, column, best, expected):
    folder: Any = types.SimpleNamespace(summary_path=tmp_path / "summary.json")
    if best is not ...:
        text = json.dumps({"best": best})
        text = text[:-3] if best == "damaged" else text
        folder.summary_path.write_text(text, encoding="utf-8")
    assert given_out.decided(folder, column) == expected


@pytest.mark.parametrize(
    ("settings", "decided_by", "has_model", "expected"),
    [
        ({}, "eval_loss", True, ["report.html", "export/final", "export/best"]),
        ({}, "", True, ["report.html", "export/final"]),
        ({}, "eval_loss", False, ["report.html"]),
        (
            {"report": False},
            PRIVATE_CHOICE,
            True,
            ["export/final", "export/best:selection"],
        ),
        ({"export": False, "report": False}, "eval_loss", True, []),
    ],
)
def test_files_that_a_run_writes_at_its_end(settings, decided_by, has_model, expected):
    training = tfl.Training(**settings)
    assert given_out.results(training, decided_by, has_model=has_model) == expected


def test_a_run_without_models_says_what_selected_its_best_round(tmp_path):
    """summary.json names the best round, although no model is written."""
    experiment = tfl.Experiment(
        "heart",
        cohorts=tfl.Cohorts("poisson", cohort_size=2),
        privacy=tfl.UserLevelPrivacy(noise_multiplier=1.0),
        training=tfl.Training(rounds=1, export=False, report=False),
    )
    experiment.run(tmp_path / "run")
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    statement = " ".join((tmp_path / "run/privacy.txt").read_text().split())
    assert summary["best"]["round"] == 1
    chosen = f"The best model is chosen by {summary['best']['selected_by']}, which is"
    assert f"{chosen} exact" in statement
    assert "export/" not in statement
    assert "report.html" not in statement
