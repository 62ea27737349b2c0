"""Killed again and again, a run ends as if it had never been."""

from __future__ import annotations

import contextlib
import csv
import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import process_tree
import pytest
from started_once import Starter

from tfl_research.privacy.ledger import spending

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"
# Far more rounds than the kills let through, however fast the machine is.
ROUNDS = {"in_process": 120, "tff": 25}
PRIVATE = (
    "dp_fed_avg.py",
    "--sampler=poisson",
    "--cohort_size=2",
    "--noise_multiplier=1.1",
    "--mechanism=gaussian",
    "--run_seed=12345",
)
# Clients keep control variates in a table.
STATEFUL = (
    "federated.py",
    "--algorithm=scaffold",
    "--client_weighting=uniform",
    "--cohort_size=2",
)


def command(folder, binary, *more):
    return [
        str(EXPERIMENTS / binary),
        "--task=heart",
        "--checkpoint_every=3",
        "--evaluate_every=5",
        f"--output_dir={folder}",
        *more,
    ]


def rows(folder):
    path = folder / "metrics.csv"
    if not path.exists():
        return []
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def weights(folder):
    import tensorflow as tf

    model = tf.keras.models.load_model(folder / "export" / "final", compile=False)
    return model.get_weights()


def states(folder):
    """Who keeps what, by client."""
    with contextlib.closing(sqlite3.connect(folder / "client_states.sqlite")) as table:
        return dict(
            table.execute(
                "select client, state from states group by client "
                "having round = max(round)"
            )
        )


class Programs:
    """Starts binaries as a user does, each with a Python of its own."""

    def __init__(self, environment):
        self._environment = environment
        self._process = None

    def start(self, arguments):
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return self._process.pid

    def wait(self):
        return self._process.wait()

    def close(self):
        """Nothing is left."""


@pytest.fixture
def stack():
    with contextlib.ExitStack() as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "runtime", "kills"),
    [
        (PRIVATE, "in_process", 6),
        pytest.param(PRIVATE, "tff", 2, marks=pytest.mark.campaign),
        pytest.param(STATEFUL, "in_process", 1, marks=pytest.mark.campaign),
    ],
    ids=["private", "private on TFF", "stateful"],
)
def test_kill_9_again_and_again(tmp_path, stack, experiment, runtime, kills):
    flags = [*experiment, f"--runtime={runtime}", f"--rounds={ROUNDS[runtime]}"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    # TFF's runtime starts programs of its own, from a Python that is like a user's.
    kind = Programs if runtime == "tff" else Starter
    starter = stack.enter_context(contextlib.closing(kind(environment)))
    starter.start(command(whole, *flags))
    assert starter.wait() == 0
    moments = random.Random(7)
    for _ in range(kills):
        process = starter.start(command(killed, *flags))
        # Some die while they set up, most in the middle of a round.
        wanted = len(rows(killed)) + moments.choice([0, 1, 1, 2, 3, 4])
        deadline = time.monotonic() + 120
        while len(rows(killed)) < wanted and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.05))
        workers = process_tree.descendants(process)
        os.kill(process, signal.SIGKILL)
        assert starter.wait() == -signal.SIGKILL
        time.sleep(0.2)
        assert not [pid for pid in workers if pathlib.Path(f"/proc/{pid}/exe").exists()]
    assert len(rows(killed)) < ROUNDS[runtime]
    starter.start(command(killed, *flags))
    assert starter.wait() == 0

    def comparable(folder):
        return [
            {k: v for k, v in row.items() if k != "round_seconds"}
            for row in rows(folder)
        ]

    assert len(comparable(whole)) == ROUNDS[runtime]
    assert comparable(killed) == comparable(whole)
    if experiment is PRIVATE:
        ledgers = [spending.read_ledger(folder).runs[0] for folder in (killed, whole)]
        assert ledgers[0].entries == ledgers[1].entries
    else:
        assert len(states(whole)) == 4
        assert states(killed) == states(whole)
    for ours, theirs in zip(weights(killed), weights(whole)):
        np.testing.assert_array_equal(ours, theirs)
