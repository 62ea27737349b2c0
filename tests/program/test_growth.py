"""A run of many rounds takes no more memory at its end, and no more time."""

from __future__ import annotations

import gc
import io
import pathlib
import statistics
import sys

import pytest

import tfl_research as tfl

# Rounds after which everything is compiled and every pool of memory is filled.
WARM = 100


def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096


def reports(folder, rounds, **more):
    experiment = tfl.Experiment(
        "heart",
        cohorts=tfl.Cohorts("poisson", cohort_size=2),
        training=tfl.Training(
            rounds=rounds, checkpoint_every=50, evaluate_every=50, tensorboard=False
        ),
        runtime=tfl.Runtime(client_execution="folded_graph"),
        **more,
    )
    return experiment.rounds(folder, stream=io.StringIO())


PRIVATE = {"privacy": tfl.UserLevelPrivacy("gaussian", noise_multiplier=20.0)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [PRIVATE, pytest.param({}, marks=pytest.mark.campaign)],
    ids=["private", "public"],
)
def test_objects_of_a_round_do_not_stay(tmp_path, more):
    """Blocks of Python's memory, which do not depend on the machine."""
    blocks, size, steps = [], 50, 2
    for report in reports(tmp_path / "run", 10_000, **more):
        over = report.round_number - WARM
        if over >= 0 and over % size == 0:
            gc.collect()
            blocks.append(sys.getallocatedblocks())
        if over == steps * size:
            break
    # The lines of a private run's ledger stay, a few objects for each.
    allowed = 15 if more else 10
    assert (blocks[-1] - blocks[0]) / (steps * size) < allowed


@pytest.mark.slow
@pytest.mark.campaign
def test_twenty_five_thousand_rounds(tmp_path):
    memory, times = {}, {}
    for report in reports(tmp_path / "run", 25_000, **PRIVATE):
        number = report.round_number
        times.setdefault(number // 5000, []).append(report.metrics["round_seconds"])
        if number % 5000 == 0:
            memory[number] = resident()
    grown = (memory[25_000] - memory[5000]) / 20
    assert grown < 2**20, "bytes for each thousand rounds"
    first, last = (statistics.median(times[block]) for block in (1, 4))
    assert last < 1.5 * first
