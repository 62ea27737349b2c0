"""The classifier finds the faults that are planted."""

from __future__ import annotations

import os
import sys
import warnings

import outcomes
import pytest

from tfl_research.errors import UserError


def failing(error):
    def command(out):
        raise error

    return command


def test_a_traceback():
    assert outcomes.of(failing(ZeroDivisionError("x"))).kind == "traceback"
    # What no handler turns into a line.
    assert outcomes.of(failing(GeneratorExit())).kind == "traceback"

    def printing(out):
        sys.stderr.write("Traceback (most recent call last):\n")
        return 2

    assert outcomes.of(printing).kind == "traceback"


def test_a_silent_change():
    assert outcomes.of(lambda out: 0, lambda: False).kind == "silent change"

    def usual(out):
        out.write("round 1/2  cohort 3\ncomplete after round 2\n")

    assert outcomes.of(usual, lambda: False).kind == "silent change"
    # An exit code that nobody explains.
    assert outcomes.of(lambda out: 2).kind == "silent change"


def test_several_lines():
    def two(out):
        sys.stderr.write("error: a\nerror: b\n")
        return 2

    assert outcomes.of(two).kind == "several lines"


def test_a_hanging_start(tmp_path, monkeypatch):
    monkeypatch.setattr(outcomes, "_SECONDS", 1)
    os.mkfifo(tmp_path / "pipe")
    found = outcomes.of(lambda out: (tmp_path / "pipe").read_text())
    assert found.kind == "hangs"


def test_good_outcomes():
    refused = outcomes.of(failing(UserError("--rounds=0: must be\n  at least 1")))
    assert refused == outcomes.Outcome(
        outcomes.REFUSED, "error: --rounds=0: must be at least 1"
    )
    assert outcomes.of(failing(OSError(28, "full", "/x"))).kind == outcomes.REFUSED
    assert outcomes.of(lambda out: 0, lambda: True).kind == outcomes.IDENTICAL
    assert outcomes.of(lambda out: None).kind == outcomes.ACCEPTED

    def said(out):
        out.write("round 1/2\nno best model: x\n")

    assert outcomes.of(said, lambda: False) == outcomes.Outcome(
        outcomes.SAID, "no best model: x"
    )

    def warned(out):
        warnings.warn("rows are lost", stacklevel=1)

    assert outcomes.of(warned, lambda: False).kind == outcomes.SAID


def test_a_report_names_the_cases(capsys):
    good = {"a": outcomes.Outcome(outcomes.IDENTICAL)}
    outcomes.report("trial", good)
    assert capsys.readouterr().out == "trial: 1 cases: {'identical': 1}\n"
    with pytest.raises(AssertionError, match="b: traceback: oops"):
        outcomes.report("trial", {**good, "b": outcomes.Outcome("traceback", "oops")})
