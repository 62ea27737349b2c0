"""Tables and plots of sweeps."""

from __future__ import annotations

import pytest

from tfl_research.report import sweeps

ROWS = [
    {
        "mechanism": name,
        "target_epsilon": target,
        "epsilon": cost,
        "seed": seed,
        "metric": "eval_accuracy",
        "final_value": value,
        "backdoor": backdoor,
    }
    for name, target, cost, seed, value, backdoor in [
        ("none", "inf", float("inf"), 0, 0.9, None),
        ("none", "inf", float("inf"), 1, 0.8, None),
        ("gaussian", 1.0, 0.99, 0, 0.5, 0.25),
        ("gaussian", 1.0, 0.98, 1, 0.7, 0.75),
        ("gaussian", 4.0, 3.99, 0, 0.75, None),
    ]
]


def test_the_table_has_median_and_range_by_hand():
    lines = sweeps.table(ROWS, ("mechanism", "target_epsilon")).splitlines()
    assert lines[0].startswith("| mechanism | target_epsilon | eval_accuracy, median")
    assert lines[2] == "| none | inf | 0.85 | 0.8 | 0.9 | 2 |"
    assert lines[3] == "| gaussian | 1 | 0.6 | 0.5 | 0.7 | 2 |"
    assert lines[4] == "| gaussian | 4 | 0.75 | 0.75 | 0.75 | 1 |"


def test_private_runs_that_withhold_the_metric_have_no_value(tmp_path):
    free = [row for row in ROWS if row["mechanism"] == "none"]
    without = ("metric", "final_value")
    private = [
        {name: cell for name, cell in row.items() if name not in without}
        for row in ROWS
        if row["mechanism"] != "none"
    ]
    for rows in ([*free, *private], private):
        lines = sweeps.table(rows, ("mechanism", "target_epsilon")).splitlines()
        assert lines[-1] == "| gaussian | 4 | nan | nan | nan | 0 |"
        path = tmp_path / "curve.svg"
        sweeps.frontier(
            rows, path, x=("epsilon", "ε"), lines="mechanism", reference="none"
        )
        assert path.exists()
    other = [{**row, "metric": "held_out_accuracy"} for row in ROWS[2:]]
    head = sweeps.table([*free, *other], ("mechanism",)).splitlines()[0]
    assert "eval_accuracy or held_out_accuracy, median" in head


def test_the_frontier_has_a_line_each_and_the_reference(tmp_path, monkeypatch):
    figures = []
    save = sweeps._save
    monkeypatch.setattr(
        sweeps,
        "_save",
        lambda figure, path: (figures.append(figure), save(figure, path)),
    )
    path = tmp_path / "curve.svg"
    sweeps.frontier(ROWS, path, x=("epsilon", "ε"), lines="mechanism", reference="none")
    assert path.read_text(encoding="utf-8").startswith("<?xml")
    (axes,) = figures[0].axes
    flat, curve = axes.lines[0], axes.lines[1]
    assert list(flat.get_ydata()) == pytest.approx([0.85, 0.85])
    assert list(curve.get_ydata()) == pytest.approx([0.6, 0.75])
    assert list(curve.get_xdata()) == pytest.approx([0.985, 3.99])


def test_heatmaps_leave_out_what_nobody_measured(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(sweeps, "_save", lambda figure, path: figures.append(figure))
    sweeps.heatmaps(
        ROWS,
        tmp_path / "grid.svg",
        across="target_epsilon",
        down="mechanism",
        panels=[
            ("final_value", "accuracy"),
            ("backdoor", "backdoor"),
            ("missing", "nothing"),
        ],
    )
    titles = [axes.get_title() for axes in figures[0].axes if axes.get_title()]
    assert titles == ["accuracy", "backdoor"]
    texts = [text.get_text() for text in figures[0].axes[0].texts]
    assert "0.60" in texts
    assert "0.85" in texts
