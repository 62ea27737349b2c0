"""Points that run at a time, in processes of their own; no TensorFlow."""

from __future__ import annotations

import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import process_tree
import pytest

from tfl_research.errors import RunInterrupted, SettingError, UserError
from tfl_research.experiment import Experiment
from tfl_research.experiment.configs import Training, UserLevelPrivacy
from tfl_research.experiment.sweeps import Point, Sweep, parallel

# Signs that no two points may wait for, unless they run at a time.
MEETING = 20.0


class Toy(Experiment):
    """Writes a summary; what else it does stands in its name."""

    def check(self):
        if self.clients.learning_rate > 10:
            raise SettingError("--client_learning_rate=99: too large; lower --it")

    def run(self, folder, *, resume=True, recharge=False, stream=None):
        folder, rate = pathlib.Path(folder), self.clients.learning_rate
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pid").write_text(str(os.getpid()))
        stream.write("half a ")
        stream.write("line\nround 1/1\n")
        if self.name == "meeting":
            deadline = time.monotonic() + MEETING
            while len(list(folder.parent.glob("*/pid"))) < 2:
                assert time.monotonic() < deadline, "the other point never began"
                time.sleep(0.01)
        if self.name == "refused" and rate == 2:
            while not (folder.parent / "1" / "waits").exists():
                time.sleep(0.01)
            raise UserError("--rounds=0: too few")
        if self.name == "failing" and rate == 2:
            raise KeyError("nobody foresaw this")
        if self.name == "killed" and rate == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.name == "waiting" or (self.name == "refused" and rate == 1):
            _until_a_signal(folder)
        final = {"round": 1, "eval_accuracy": rate / 4}
        best = {"round": 1, "selected_by": "eval_accuracy", "value": rate / 4}
        summary = {"final": final, "best": best, "stop_reason": "rounds"}
        (folder / "summary.json").write_text(json.dumps(summary))


def _until_a_signal(folder):
    """What a run does: its rounds are saved, and RunInterrupted ends it."""
    found = []
    signal.signal(signal.SIGTERM, lambda number, _: found.append(number))
    (folder / "waits").touch()
    deadline = time.monotonic() + 60
    while not found and time.monotonic() < deadline:
        time.sleep(0.01)
    (folder / "saved").touch()
    raise RunInterrupted(found[0])


def points(name="toy", rates=(1.0, 2.0, 3.0), **settings):
    base = Toy("heart", training=Training(rounds=1), name=name, **settings)
    return [
        Point(f"{rate:g}", base.with_settings(client_learning_rate=rate), {"r": rate})
        for rate in rates
    ]


@pytest.fixture(autouse=True)
def divisible(monkeypatch):
    """Toys need no TensorFlow, which another test may have imported."""
    monkeypatch.setattr(parallel, "check_divisible", lambda: None)
    monkeypatch.setattr(parallel, "free_bytes", lambda: None)


def children():
    return set(process_tree.children(os.getpid()))


def pids(folder):
    return {p.parent.name: int(p.read_text()) for p in folder.glob("points/*/pid")}


def test_points_run_at_a_time_and_leave_what_they_leave_one_by_one(tmp_path):
    before, out = children(), io.StringIO()
    rows = Sweep(tmp_path / "a", points("meeting")).run(out, parallel=2)
    assert children() == before
    found = pids(tmp_path / "a")
    assert os.getpid() not in found.values()
    # The third point ran in a process that had run another.
    assert len(set(found.values())) == 2
    assert [row["r"] for row in rows] == [1.0, 2.0, 3.0]
    lines = out.getvalue().splitlines()
    assert "2: half a line" in lines
    assert "3: round 1/1" in lines
    assert sum("eval_accuracy" in line for line in lines) == 3


def test_the_tables_are_the_same(tmp_path):
    one_by_one = Sweep(tmp_path / "a", points()).run(io.StringIO())
    at_a_time = Sweep(tmp_path / "b", points()).run(io.StringIO(), parallel=3)
    assert one_by_one == at_a_time
    for name in ("results.csv", "sweep.json"):
        assert (tmp_path / "a" / name).read_bytes() == (
            tmp_path / "b" / name
        ).read_bytes()


def test_a_sweep_is_resumed_in_either_way(tmp_path):
    Sweep(tmp_path, points(rates=(1.0, 2.0))).run(io.StringIO(), parallel=2)
    before = pids(tmp_path)
    out = io.StringIO()
    rows = Sweep(tmp_path, points(rates=(1.0, 2.0, 3.0, 4.0))).run(out, parallel=2)
    assert len(rows) == 4
    assert {name: pids(tmp_path)[name] for name in before} == before
    assert out.getvalue().count("(done before)") == 2
    again = Sweep(tmp_path, points(rates=(1.0, 2.0, 3.0, 4.0))).run(io.StringIO())
    assert again == rows


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("refused", UserError, "point 2 of the sweep: rounds=0: too few"),
        ("failing", parallel.PointFailed, "nobody foresaw this"),
        ("killed", parallel.PointFailed, "point 2: its process was killed"),
    ],
)
def test_a_point_that_fails_ends_the_others(tmp_path, name, kind, words):
    before = children()
    with pytest.raises(kind, match=words):
        Sweep(tmp_path, points(name)).run(io.StringIO(), parallel=2)
    assert children() == before
    if name == "refused":
        # The point beside it has saved its rounds, and the third never began.
        assert (tmp_path / "points" / "1" / "saved").exists()
        assert not (tmp_path / "points" / "3").exists()


def test_a_refused_point_ends_the_sweep_before_anything_is_written(tmp_path):
    before = children()
    with pytest.raises(UserError, match="point 99 of the sweep is refused"):
        Sweep(tmp_path / "s", points(rates=(1.0, 99.0))).run(io.StringIO(), parallel=2)
    assert children() == before
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("asked", "settings", "words"),
    [
        (0, {}, "parallel=0: must be a whole number of at least 1"),
        (True, {}, "parallel=True: must be a whole number"),
        (
            2,
            {"privacy": UserLevelPrivacy(noise_multiplier=1, ledger="l.jsonl")},
            "parallel=2: the points share ledger=l.jsonl",
        ),
    ],
)
def test_what_cannot_run_at_a_time_is_refused(tmp_path, asked, settings, words):
    with pytest.raises(SettingError, match=words):
        Sweep(tmp_path / "s", points(**settings)).run(io.StringIO(), parallel=asked)
    assert not (tmp_path / "s").exists()


def test_where_tensorflow_is_imported(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    with pytest.raises(SettingError, match="parallel: TensorFlow is imported"):
        Sweep(tmp_path / "s", points()).run(io.StringIO(), parallel=2)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("asked", "left", "free", "count", "line"),
    [
        (4, 9, None, 4, ""),
        (4, 3, 100e9, 3, ""),
        (4, 9, 4.9e9, 4, ""),
        (4, 9, 4.7e9, 3, "3 points at a time in place of 4: a process takes about 1.2"),
        (4, 9, 0, 1, "1 point at a time in place of 4: a process takes about 1.2 GB"),
        (4, 0, 0, 1, ""),
    ],
)
def test_memory_decides(monkeypatch, asked, left, free, count, line):
    monkeypatch.setattr(
        parallel, "free_bytes", lambda: None if free is None else int(free)
    )
    out = io.StringIO()
    assert parallel.processes_for(asked, left, out) == count
    assert out.getvalue().startswith(line)
    assert bool(out.getvalue()) == bool(line)


PROGRAM = """
    import sys
    sys.path.insert(0, {folder!r})
    from test_parallel_sweep import Sweep, points
    Sweep(sys.argv[1], points("waiting", rates=(1.0, 2.0))).run(parallel=2)
"""


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.campaign),
        signal.SIGTERM,
        signal.SIGKILL,
    ],
)
def test_signals(tmp_path, number):
    """After SIGINT and SIGTERM all points have saved their rounds; none stays."""
    folder = str(pathlib.Path(__file__).parent)
    program = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(PROGRAM.format(folder=folder)),
            str(tmp_path),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("points/*/waits"))) < 2:
        assert program.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    found = set(pids(tmp_path).values())
    os.killpg(program.pid, number)
    _, errors = program.communicate(timeout=60)
    saved = len(list(tmp_path.glob("points/*/saved")))
    if number == signal.SIGKILL:
        assert program.returncode == -9
        assert saved == 0
    else:
        assert program.returncode == 128 + number, errors
        assert saved == 2
    while any(map(process_tree.is_alive, found)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
