"""The live page in Chromium, while a run trains."""

from __future__ import annotations

import contextlib
import html
import io
import json
import re
import threading

import in_chromium
import pytest

import tfl_research as tfl
from tfl_research.cli import dashboard as command
from tfl_research.report.dashboard.app import Dashboard
from tfl_research.report.dashboard.watched import Watched

if in_chromium.chromium() is None:
    pytest.skip("needs Chromium, which is not installed", allow_module_level=True)

ROUNDS = 40
# Five looks of the page's script, which asks every four seconds.
LONG_ENOUGH = 22_000


class Training:
    """A run that does a round before each answer about it."""

    def __init__(self, folder, application):
        experiment = tfl.Experiment(
            task="heart",
            cohorts=tfl.Cohorts("full"),
            training=tfl.Training(
                rounds=ROUNDS, evaluate_every=1, tensorboard=False, progress_bar=False
            ),
            runtime=tfl.Runtime(client_execution="folded_graph"),
        )
        self._application = application
        self._rounds = experiment.rounds(folder, stream=io.StringIO())
        self._lock = threading.Lock()
        self.done = next(self._rounds).round_number

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"].startswith("/run/"):
            with self._lock:
                self.done = next(self._rounds).round_number
        return self._application(environ, start_response)

    def finish(self):
        for report in self._rounds:
            self.done = report.round_number


@contextlib.contextmanager
def served(root):
    """(address, training): the server of `scripts/dashboard`, and a run to watch."""
    training = Training(root / "mine", Dashboard(Watched(root), rest=0))
    made, token = command.server(str(root), "127.0.0.1", 0)
    made.app = training
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    try:
        yield command.address(made, token), training
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


def drawn(page):
    """The last round of the page's first curve, by the values that it holds."""
    values = html.unescape(re.search(r'data-values="([^"]*)"', page)[1])
    return max(x for one in json.loads(values)["series"] for x in one["x"])


@pytest.mark.slow
def test_the_page_grows_while_the_run_trains(tmp_path):
    with served(tmp_path) as (address, training):
        listed = in_chromium.dom(address)
        assert "1 running, 0 other" in listed
        assert f"1 of {ROUNDS}" in listed
        page = in_chromium.dom(f"{address}run/mine", milliseconds=LONG_ENOUGH)
        # The first answer had two rounds. The script put newer pages in its place.
        shown = int(re.search(rf"(\d+) of {ROUNDS} rounds so far", page)[1])
        assert 4 <= shown <= training.done
        assert drawn(page) == shown
        training.finish()
        assert training.done == ROUNDS
        listed = in_chromium.dom(address)
        assert "0 running, 1 other" in listed
        assert f"{ROUNDS} of {ROUNDS}" in listed
