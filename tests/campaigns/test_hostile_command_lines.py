"""Hostile command lines of all programs: accepted, or refused in one line."""

from __future__ import annotations

import contextlib
import importlib
import os
import pathlib
import random

import command_lines
import outcomes
import pytest

from tfl_research import cli
from tfl_research.cli.flag_values import flags
from tfl_research.experiment import Experiment, sweeps
from tfl_research.storage import folder_check

CASES = 510 if os.environ.get("TFL_CAMPAIGN") == "all" else 85
EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"


class Checked(SystemExit):
    """A command line that would run now."""


@pytest.fixture
def checked(monkeypatch):
    """Runs and sweeps end when their settings are checked, before TensorFlow."""

    def run(self, folder, **_):
        folder_check.check_path(folder)
        self.check()
        raise Checked(0)

    def sweep(self, **_):
        raise Checked(0)

    monkeypatch.setattr(Experiment, "run", run)
    monkeypatch.setattr(sweeps.Sweep, "run", sweep)
    monkeypatch.syspath_prepend(str(EXPERIMENTS))


def _flags_of(preset):
    """The names of a preset's flags, with a value that each takes, or None."""
    values = flags.define(preset).values
    return {name: values[name].default for name in sorted(values)}


def _syntax_of(preset):
    """What values each flag of a preset takes."""
    values = flags.define(preset).values
    return {
        name: "boolean" if values[name].boolean else values[name].parser.syntactic_help
        for name in sorted(values)
    }


def test_they_are_refused_in_one_line(checked, tmp_path, monkeypatch):
    files = command_lines.hostile_files(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    found = {}
    for number in range(CASES):
        name, module = command_lines.program_of(number)
        draw = random.Random(number)
        if module is not None:
            arguments = command_lines.SCRIPTS[name](draw, files)
            main = importlib.import_module(module).main
        else:
            preset = importlib.import_module(name).PRESET
            if number % 3:
                arguments = command_lines.of_fitting_values(draw, _syntax_of(preset))
            else:
                arguments = command_lines.of_binary(draw, _flags_of(preset), files)

            def main(given, preset=preset, name=name):
                return cli.execute(preset, [f"{name}.py", *given])

        def command(out, main=main, arguments=arguments):
            with contextlib.redirect_stdout(out):
                return main(arguments)

        shown = " ".join(f"{a[:60]!r}" for a in arguments)
        found[f"{number} {name} {shown}"] = outcomes.of(command)
    outcomes.report("command lines", found)


def test_nothing_is_written_into_the_current_folder(checked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    import record_dp_fed_avg

    found = outcomes.of(
        lambda out: cli.execute(
            record_dp_fed_avg.PRESET,
            ["x", "--task=heart", "--record_ledgers=", "--output_dir=run"],
        )
    )
    assert found == outcomes.Outcome(
        outcomes.REFUSED, "error: --record_ledgers=: must be a text that is not empty"
    )
    assert list(tmp_path.iterdir()) == []
