"""The protocol of scripts/bench: turns, long rounds, interruptions, fast settings."""

from __future__ import annotations

import io
import json
import os
import pathlib
import sys

import numpy as np
import process_tree
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from benchmark import (  # noqa: E402
    __main__ as bench,
    endurance,
    protocol,
    report,
    turns,
)
from benchmark.contender import Contender, ContenderFailed, last_error  # noqa: E402

# A contender without TensorFlow. It leaves a process in a session of its own.
_FAKE = """
import subprocess, sys
from benchmark import protocol

answers = protocol.take_stdout()
kind = sys.argv[1]
if kind == "refuses":
    raise ValueError("no such wheel")
class Weights(list):
    pass
class Array:
    def __init__(self, value): self.value = value
    def copy(self): return Array(self.value)
    def __sub__(self, other): return Array(self.value - other.value)
    def __pow__(self, power): return Array(self.value ** power)
    def sum(self): return self.value
model = Array(0.0)
child = subprocess.Popen(
    [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
)
print(child.pid, flush=True)
for number in protocol.rounds(answers, weights=lambda: [model]):
    if kind != "still":
        model.value += 3.0
    if kind == "dies" and number == 4:
        raise ValueError("dropped out")
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Commands of made-up contenders."""
    script = tmp_path / "fake.py"
    script.write_text(_FAKE)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "scripts"))
    return lambda kind: [sys.executable, str(script), kind]


def _running(log):
    """Whether the process whose id a fake contender logged is still there."""
    return process_tree.is_alive(int(log.read_text().split()[0]))


def test_contenders_take_turns_and_leave_nothing(fake, tmp_path, capsys):
    kinds = ("works", "refuses", "dies", "still")
    running, absent = turns.measure("W1", {k: fake(k) for k in kinds}, 2, tmp_path)
    assert list(running) == ["works"]
    contender = running["works"]
    # Up to 20 rounds a turn, of which these take no time.
    assert len(contender.rounds) == 2 * 20
    assert contender.update_norm == 3.0
    # One number for each turn.
    assert len(contender.all_cpu) == 2
    # Python and its child, of some MB each.
    assert contender.peak_bytes > 10e6
    assert absent == {
        "refuses": "ValueError: no such wheel",
        "dies": "ValueError: dropped out",
        "still": "its first round moved the model by 0.0",
    }
    for kind in ("works", "dies", "still"):
        assert not _running(tmp_path / f"W1_{kind}.log"), kind
    assert "W1: no dies: ValueError: dropped out" in capsys.readouterr().err


def test_an_interrupted_measurement_leaves_nothing(fake, tmp_path, monkeypatch):
    def interrupt(self, rounds, *, keep):
        raise KeyboardInterrupt

    monkeypatch.setattr(Contender, "take", interrupt)
    with pytest.raises(KeyboardInterrupt):
        turns.measure("W1", {"works": fake("works")}, 1, tmp_path)
    assert not _running(tmp_path / "W1_works.log")


@pytest.mark.parametrize(
    ("ending", "code"), [(SystemExit(143), 143), (ContenderFailed("gone"), None)]
)
def test_what_is_finished_is_printed_when_the_rest_is_not(
    tmp_path, monkeypatch, capsys, ending, code
):
    def measure(workload, chosen, count, folder):
        if workload == "W2":
            raise SystemExit(143)
        return {}, {}

    def memory(folder):
        raise ending

    output = tmp_path / "b.json"
    monkeypatch.setattr(turns, "commands", lambda *_: ({}, {}))
    monkeypatch.setattr(turns, "measure", measure)
    result = {"in_process_seconds": 0.5, "in_process_rounds": 3}
    monkeypatch.setattr(report, "summary", lambda *_: result)
    monkeypatch.setattr(endurance, "memory", memory)
    workloads = "W1,W2" if code else "W1"
    arguments = [f"--workloads={workloads}", "--memory", f"--output={output}"]
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as stopped:
        bench.main()
    assert stopped.value.code == (code or "scripts/bench: gone")
    printed = capsys.readouterr().out
    assert "| workload | in_process |\n|---|---|\n| W1 | 0.5000 |\n" in printed
    assert "W2" not in printed
    written = json.loads(output.read_text())
    assert list(written.pop("measured_by")) == ["W1"]
    assert written == {"W1": result}
    assert output.with_suffix(".svg").is_file()


def test_a_long_round_counts_alone(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "_ONE_ROUND_SECONDS", 0.0)
    running, _ = turns.measure("W9", {"works": fake("works")}, 5, tmp_path)
    assert len(running["works"].rounds) == len(running["works"].all_cpu) == 1


def test_long_rounds_have_fewer_turns(fake, tmp_path, monkeypatch):
    seconds = {"works": 6.0, "still quick": 2.0}
    asked = []

    def take(self, rounds, *, keep):
        name = self._log.stem.partition("_")[2]
        asked.append((name, rounds, keep))
        return seconds[name]

    monkeypatch.setattr(Contender, "take", take)
    turns.measure("W9", {name: fake("works") for name in seconds}, 4, tmp_path)
    assert asked == [
        # A round of five seconds is not repeated before it counts.
        *[("works", 1, False), ("still quick", 1, False), ("still quick", 2, False)],
        # Its two turns are spread over the four.
        ("still quick", 1, True),
        *[("works", 1, True), ("still quick", 1, True)],
        ("still quick", 1, True),
        *[("works", 1, True), ("still quick", 1, True)],
    ]


@pytest.mark.parametrize("most", [1, 2, 3, 7, 9])
def test_turns_are_spread(most):
    due = [turn for turn in range(7) if turns.is_due(turn, most, 7)]
    assert len(due) == min(most, 7)
    gaps = np.diff([*due, due[0] + 7])
    assert max(gaps) - min(gaps) <= 1


def test_trials_are_no_answers(tmp_path):
    lines = [{"start_seconds": 1.0}, *[{"trial_seconds": 9.0}] * 3]
    answer = {"seconds": [2.0], "cpu_seconds": [1.0], "all_cpu_seconds": 1.0}
    lines.append({**answer, "peak_bytes": 1, "resident_bytes": 1})
    # All lines at once: what is read is more than a line.
    program = f"import json; print(*map(json.dumps, {lines}), sep='\\n', flush=True); "
    command = [sys.executable, "-c", f"{program}input(); input()"]
    contender = Contender(command, tmp_path / "log")
    assert contender.start_seconds == 1.0
    assert contender.take(1, keep=True) == 2.0
    contender.close()


def test_a_silent_contender_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmark.contender._PATIENCE_SECONDS", 0.2)
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(ContenderFailed, match="no answer within 0 s"):
        Contender(command, tmp_path / "log")


class _Clock:
    """Time that passes only when told."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    time = perf_counter

    def process_time(self):
        return self.now / 2


def test_rounds_keep_the_fastest_setting(monkeypatch):
    clock = _Clock()
    monkeypatch.setattr(protocol, "time", clock)
    monkeypatch.setattr(protocol, "STARTED", 0.0)
    monkeypatch.setattr(sys, "stdin", io.StringIO("2\n1\n\n"))
    answers = io.StringIO()
    cost = {"slow": 3.0, "fast": 2.0}
    current = []
    ran = []
    settings = [lambda: current.append("slow"), lambda: current.append("fast")]
    for number in protocol.rounds(answers, settings):
        ran.append((number, current[-1]))
        clock.now += cost[current[-1]]
    # The first, three tries of each, and the three that were asked for.
    names = ["slow"] * 4 + ["fast"] * 6
    assert ran == list(enumerate(names))
    start, *rest = (json.loads(line) for line in answers.getvalue().splitlines())
    assert start == {"start_seconds": 3.0}
    trials, rest = rest[:6], rest[6:]
    assert trials == [{"trial_seconds": s} for s in [3.0] * 3 + [2.0] * 3]
    assert [answer["seconds"] for answer in rest] == [[2.0, 2.0], [2.0]]
    assert [answer["cpu_seconds"] for answer in rest] == [[1.0, 1.0], [1.0]]
    assert rest[0]["peak_bytes"] >= rest[0]["resident_bytes"] > 0


@pytest.mark.parametrize(
    ("seconds", "tries"),
    [
        ([9.0, 1.0, 2.0, 0.0], 3),  # the first one compiled
        ([9.0, 8.0, 0.0], 2),
        ([31.0, 0.0], 1),
        ([1.0, 1.0, 1.0, 0.0], 3),
    ],
)
def test_settings_with_long_rounds_are_tried_less(monkeypatch, seconds, tries):
    clock = _Clock()
    monkeypatch.setattr(protocol, "time", clock)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    ran = []
    settings = [lambda: ran.append("start"), lambda: ran.append("other")]
    for number in protocol.rounds(io.StringIO(), settings):
        ran.append(number)
        if "other" not in ran:
            continue
        since = len(ran) - 1 - ran.index("other")
        clock.now += seconds[since - 1]
    of_other = ran[ran.index("other") + 1 :]
    assert len([r for r in of_other if isinstance(r, int)]) == tries


def test_rounds_end_without_an_empty_line(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert list(protocol.rounds(io.StringIO())) == [0]


def test_last_error_prefers_the_line_that_names_one():
    log = "x\nValueError: bad shape\n-----\nFor simplicity, frames were removed.\n"
    assert last_error(log) == "ValueError: bad shape"
    assert last_error("first\nlast\n\n") == "last"
    assert last_error("") == "it ended without a message"


def test_marks_are_read_from_the_environment():
    assert os.getpid() not in protocol.marked("never given")
