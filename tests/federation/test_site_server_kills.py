"""A site that is killed and starts again loses no request and no reply."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest
from fake_sites import RUN, asked

from tfl_research.federation.wire.carriers import LocalCarrier
from tfl_research.federation.wire.exchange import Exchange
from tfl_research.federation.wire.messages import Message

KEY = b"n" * 32

_SITE = """
import os, pathlib, signal, sys
from tfl_research.federation.wire.messages import Message
from tfl_research.federation.site.site_requests import Requests
from tfl_research.federation.site.site_server import serve

folder, where = pathlib.Path(sys.argv[1]), sys.argv[2]

def die_once(place):
    mark = folder / f"died-{place}"
    if where == place and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)

class Counting:
    def handle(self, request):
        die_once("before")
        with open(folder / "calls", "a") as file:
            file.write("x")
        die_once("computed")
        return Message(request.kind, {"pid": os.getpid()})

keep = Requests.keep
def keep_and_die(self, reply):
    keep(self, reply)
    die_once("kept")
Requests.keep = keep_and_die
assert "tensorflow" not in sys.modules and "scipy" not in sys.modules
serve(folder / "site.sock", "nord", b"n" * 32, Counting, state_folder=folder,
      say=lambda line: print(line, flush=True))
"""


class TestKills:
    @staticmethod
    def _start(folder: pathlib.Path, where: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", _SITE, str(folder), where],
            stdout=subprocess.PIPE,
            text=True,
        )

    @pytest.mark.parametrize(
        ("where", "calls"), [("before", 1), ("computed", 2), ("kept", 1)]
    )
    def test_between_computing_and_replying(self, tmp_path, where, calls):
        """The coordinator's exchange goes on with the site's next process.

        After a kill between computing and keeping the request is handled once more.
        """
        folder = tmp_path / "nord"
        folder.mkdir(mode=0o700)
        first = self._start(folder, where)
        carrier = LocalCarrier({"nord": folder / "site.sock"}, print, patience=20.0)
        exchange = Exchange(carrier, {"nord": KEY}, RUN, tmp_path / "sequence")
        answers = exchange.ask({"nord": asked()}, 30.0)
        second = None
        try:
            while not carrier.sites and first.poll() is None:
                time.sleep(0.02)
            # Sends, and waits for the reply in the background of the restart.
            second = _restarted(first, lambda: self._start(folder, where), answers)
            assert first.returncode == -signal.SIGKILL
            assert (folder / "calls").read_text() == "x" * calls
        finally:
            for process in (first, second):
                if process is not None and process.poll() is None:
                    process.terminate()
                    process.wait()
        assert second is not None
        output = second.stdout.read()
        assert second.returncode == 0
        assert "site nord ends: SIGTERM" in output
        assert ("the site sends the kept reply again" in output) == (where == "kept")
        assert not (folder / "site.sock").exists()


def _restarted(first, start, answers):
    """Starts the second process when the first has ended, while answers are awaited."""
    started = []

    def restart():
        first.wait(30)
        started.append(start())

    thread = threading.Thread(target=restart)
    thread.start()
    ((site, answer),) = answers
    thread.join()
    assert site == "nord"
    assert isinstance(answer, Message), answer
    return started[0]
