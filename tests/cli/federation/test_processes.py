"""Processes of a command: logs, waiting, and ends that leave nothing behind."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import time

import process_tree
import pytest

from tfl_research.cli.federation.processes import Started, ending
from tfl_research.errors import UserError

WAITS = (
    "import time; open('ready', 'w').close(); print('up', flush=True); time.sleep(60)"
)


def _started(folder: pathlib.Path, code: str, name: str = "site north") -> Started:
    return Started(
        name, [sys.executable, "-c", code], folder=folder, log=folder / "log"
    )


def test_processes_are_ended_whatever_happens(tmp_path):
    process = _started(tmp_path, WAITS)

    def fail() -> None:
        with ending([process]):
            process.wait_until(tmp_path / "ready", 30)
            assert process.is_running
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not process.is_running
    assert process.last_lines() == "up"


def test_a_process_that_ends_too_early_is_named_with_its_lines(tmp_path):
    (tmp_path / "log").write_text("of an earlier start\n")
    process = _started(tmp_path, "print('no key here'); raise SystemExit(2)")
    with pytest.raises(
        UserError, match=r"north ended before it made ready.*no key here"
    ):
        process.wait_until(tmp_path / "ready", 30)
    assert "earlier" not in process.last_lines()


def test_waiting_has_an_end(tmp_path):
    process = _started(tmp_path, "import time; time.sleep(60)")
    with (
        ending([process]),
        pytest.raises(UserError, match=r"did not make .*never in 0\.2 s"),
    ):
        process.wait_until(tmp_path / "never", 0.2)


def test_a_process_ends_with_the_killed_process_that_started_it(tmp_path):
    starter = f"""
import pathlib, sys, time
from tfl_research.cli.federation.processes import Started
folder = pathlib.Path({str(tmp_path)!r})
code = {WAITS!r}
process = Started("n", [sys.executable, "-c", code], folder=folder, log=folder / "log")
process.wait_until(folder / "ready", 30)
print(process.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert process_tree.is_alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 10
    while process_tree.is_alive(child) and time.monotonic() < end:
        time.sleep(0.02)
    assert not process_tree.is_alive(child)
