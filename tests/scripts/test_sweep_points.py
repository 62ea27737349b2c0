"""scripts/bench --sweep: phases are counted once each, and the table adds them up."""

from __future__ import annotations

import pathlib
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

from benchmark import flags as command_line, sweep_points, sweeps
from benchmark.contender import ContenderFailed


def work(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_seconds_count_for_the_innermost_phase():
    clock = sweep_points._Clock()
    page = clock.measured("report", lambda: work(0.1))

    def write():
        work(0.05)
        page()

    clock.measured("export", write)()
    round_of = clock.measured("rounds", work)
    for seconds in (0.12, 0.02, 0.02):
        round_of(seconds)
    found = clock.take()
    assert 0.05 <= found["export"] < 0.1 <= found["report"]
    assert 0.09 <= found["compile"] < 0.12
    assert 0.05 <= found["rounds"] < 0.09
    assert set(found) == set(sweep_points.PHASES)
    assert clock.take()["report"] == 0.0


def test_the_table_divides_the_points_by_their_programs():
    points = [
        {**dict.fromkeys(sweep_points.PHASES, float(n)), sweep_points.PROGRAMS: built}
        for n, built in ((4, 1), (3, 2), (2, 0), (1, 0))
    ]
    lines = sweeps.table({"toy": points}).splitlines()[-3:]
    assert [line.split(" | ")[0] for line in lines] == [
        "| toy, first (1)",
        "| toy, later, new program (1)",
        "| toy, later, known program (2)",
    ]
    beside = 1.5 * (len(sweep_points.PHASES) - 1)
    assert lines[-1].endswith(f"| 1.50 | {beside:.2f} |")


def test_programs_for_xla_are_counted():
    class Shared:
        def _built(self, trace, signature, compiled, graphs, lifted):
            return trace, signature, compiled, graphs, lifted

    programs = sweep_points._CompiledPrograms()
    programs.count(Shared)
    assert Shared()._built(1, 2, True, 4, 5) == (1, 2, True, 4, 5)
    Shared()._built(1, 2, False, 4, 5)
    assert programs.take() == 1
    assert programs.take() == 0


def test_a_sweep_that_fails(tmp_path):
    with pytest.raises(ContenderFailed, match="no_such_sweep"):
        sweeps.measure(["no_such_sweep"], tmp_path)


def test_flags(capsys):
    assert command_line.parse(["--workloads=", "--sweep"]).sweep == list(
        sweep_points.SWEEPS
    )
    with pytest.raises(SystemExit):
        command_line.parse(["--sweep=shapes"])
    assert "--sweep: 'shapes' is not one of" in capsys.readouterr().err
