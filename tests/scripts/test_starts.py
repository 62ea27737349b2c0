"""scripts/bench --start, with commands that only pretend to train."""

from __future__ import annotations

import os
import pathlib
import re
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

from benchmark import flags as command_line, starts
from benchmark.contender import ContenderFailed

# Works for 0.3 CPU seconds, or for none where its cache is filled. Never ends alone.
_TOY = """
import os, pathlib, time
cache = pathlib.Path(os.environ["XDG_CACHE_HOME"])
pathlib.Path(os.environ["TMPDIR"], "pid").write_text(str(os.getpid()))
while not cache.exists() and time.process_time() < 0.3:
    pass
cache.mkdir(exist_ok=True)
print("importing")
print("round 1/5 done", flush=True)
time.sleep(600)
"""


def toy(monkeypatch, program):
    command = [sys.executable, "-c", program]
    made = (lambda folder: command, re.compile("round 1/"))
    monkeypatch.setitem(starts.STARTS, "toy", made)


def test_warm_starts_find_a_cache_and_cold_ones_none(monkeypatch, tmp_path):
    toy(monkeypatch, _TOY)
    found = starts.measure(["toy"], 2, tmp_path)["toy"]
    assert len(found["warm"]["all"]) == len(found["cold"]["all"]) == 2
    assert found["cold"]["cpu_seconds"] > 0.25 > found["warm"]["cpu_seconds"]
    assert found["cold"]["seconds"] > 0.25
    pids = [path.read_text() for path in tmp_path.glob("toy_*_?/pid")]
    assert len(pids) == 5
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    row = starts.table({"toy": found}).splitlines()[-1]
    assert row.startswith("| toy | ")
    assert row.count("|") == 6


def test_a_command_that_ends_before_its_first_round(monkeypatch, tmp_path):
    toy(monkeypatch, "import sys; sys.exit('ValueError: no such task')")
    with pytest.raises(ContenderFailed, match="toy: ValueError: no such task"):
        starts.measure(["toy"], 1, tmp_path)


def test_flags(capsys):
    assert command_line.parse(["--start"]).start == list(starts.STARTS)
    assert command_line.parse(["--workloads=", "--start=W1"]).start == ["W1"]
    assert command_line.parse(["--start"]).starts == 5
    for flags, words in (
        (["--start=none"], "--start: 'none' is not one of W1"),
        (["--start", "--starts=0"], "--starts must be at least 1, got 0"),
        (["--starts=3"], "--starts goes with --start; add --start"),
    ):
        with pytest.raises(SystemExit):
            command_line.parse(flags)
        assert words in capsys.readouterr().err
