"""Lines of rounds in a log, and the bar of a terminal."""

from __future__ import annotations

import io
import math

import pytest

from tfl_research.outputs import Release
from tfl_research.program.progress import Progress, stage

ROW = {
    "round": 1,
    "cohort_size": 3,
    "train_loss": 0.5,
    "train_accuracy": 0.75,
    "epsilon": 1.23456,
    "delta": 1e-5,
}


@pytest.fixture(autouse=True)
def width(monkeypatch):
    """Of a terminal."""
    monkeypatch.setenv("COLUMNS", "60")


def shown(stream):
    """What a terminal has at the end, line by line."""
    return [line.split("\r")[-1].rstrip() for line in stream.getvalue().split("\n")]


def test_a_log_has_a_line_for_each_round():
    stream = io.StringIO()
    progress = Progress(2, stream=stream, bar=False, budget=8)
    progress.round_done(ROW)
    progress.round_done({**ROW, "round": 2, "epsilon": 1.9})
    progress.close()
    assert stream.getvalue().splitlines() == [
        "round 1/2  cohort 3  loss 0.5  accuracy 0.75  ε 1.235 of 8 (δ 1e-05)",
        "round 2/2  cohort 3  loss 0.5  accuracy 0.75  ε 1.9 of 8 (δ 1e-05)",
    ]


def test_a_terminal_has_a_bar_and_lines_of_evaluations():
    stream = io.StringIO()
    progress = Progress(3, stream=stream, bar=True, budget=8)
    progress.begin(0)
    for number in (1, 2, 3):
        evaluated = {"eval_accuracy": 0.875} if number == 2 else {}
        progress.round_done({**ROW, **evaluated, "round": number})
    progress.close()
    lines = [line for line in shown(stream) if line.startswith(("round", "    "))]
    assert lines == [
        "round 2/3  cohort 3  loss 0.5  accuracy 0.75  eval accuracy",
        "    0.875  ε 1.235 of 8 (δ 1e-05)",
    ]
    last = stream.getvalue().rstrip().split("\r")[-1]
    assert last.startswith("100%")
    assert "3/3" in last


def test_the_bar_says_what_a_round_cost(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    stream = io.StringIO()
    progress = Progress(2, stream=stream, bar=True)
    progress.begin(0)
    progress.round_done(ROW)
    progress.close()
    assert "compiling the first round" in stream.getvalue()
    assert "ε 1.235  loss 0.5  accuracy 0.75" in stream.getvalue()


def test_the_bar_says_what_epsilon_does_not_cover(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    stream = io.StringIO()
    progress = Progress(2, stream=stream, bar=True, release=Release(is_private=True))
    progress.begin(0)
    progress.round_done(ROW)
    progress.close()
    assert "ε 1.235 | not covered: loss 0.5  accuracy 0.75" in stream.getvalue()


@pytest.mark.parametrize("bar", [False, True])
def test_a_run_without_privacy_says_nothing_of_epsilon(bar):
    stream = io.StringIO()
    progress = Progress(1, stream=stream, bar=bar, private=False)
    progress.begin(0)
    progress.round_done({**ROW, "epsilon": math.inf, "eval_loss": 0.5})
    progress.close()
    assert "ε" not in stream.getvalue()


def test_a_private_run_without_a_bound_says_so():
    stream = io.StringIO()
    Progress(1, stream=stream, bar=False).round_done({**ROW, "epsilon": math.inf})
    assert "ε inf" in stream.getvalue()


def test_a_resumed_run_begins_where_it_was(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    stream = io.StringIO()
    progress = Progress(4, stream=stream, bar=True)
    progress.begin(3)
    progress.close()
    assert "3/4" in stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_start_says_on_a_terminal_what_it_does():
    stream = Terminal()
    stage(stream, "reading the data")
    stage(stream)
    stream.write("round 1\n")
    assert stream.getvalue() == "\r\x1b[Kreading the data...\r\x1b[Kround 1\n"
    log = io.StringIO()
    stage(log, "reading the data")
    assert log.getvalue() == ""
