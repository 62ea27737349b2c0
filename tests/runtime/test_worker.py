"""The worker's lifetime: it never outlives us and never holds our output."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import process_tree
import pytest

from tfl_research.runtime import Worker

SCRIPT = """
import signal, sys, time
# A background job of a shell ignores Ctrl-C, and so would this process.
signal.signal(signal.SIGINT, signal.default_int_handler)
from tfl_research.runtime import Worker
worker = Worker()
worker.stub()
print(worker.pid, worker.address, flush=True)
{then}
"""


def gone_within(pid, seconds):
    deadline = time.monotonic() + seconds
    while process_tree.is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not process_tree.is_alive(pid)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("then", "end"),
    [
        ("", None),
        ("raise ValueError", None),
        ("time.sleep(60)", signal.SIGKILL),
        ("time.sleep(60)", signal.SIGINT),
    ],
    ids=["exit", "exception", "kill -9", "ctrl-c"],
)
def test_the_worker_goes_with_its_parent(then, end):
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(then=then)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    pid, address = parent.stdout.readline().split()
    worker, folder = int(pid), pathlib.Path(address[len("unix:") :]).parent
    assert then == "" or "raise" in then or process_tree.is_alive(worker)
    if end is not None:
        parent.send_signal(end)
    # The pipe is at its end only when nobody holds it any more, the worker included.
    parent.communicate(timeout=20)
    assert gone_within(worker, 5)
    deadline = time.monotonic() + 5
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()


def test_closing_ends_it_and_a_later_call_starts_another():
    worker = Worker()
    worker.stub()
    first = worker.pid
    assert process_tree.is_alive(first)
    worker.close()
    worker.close()
    assert not process_tree.is_alive(first)
    assert worker.pid is None
    worker.stub()
    assert process_tree.is_alive(worker.pid)
    worker.close()


def test_a_worker_that_died_is_reported():
    worker = Worker()
    worker.stub()
    os.kill(worker.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while not worker.ended and time.monotonic() < deadline:
        time.sleep(0.05)
    assert worker.ended
    with pytest.raises(RuntimeError, match="ended with code -9"):
        worker.stub()
    worker.close()
