"""Every write, fsync, rename and opening of a run's files fails once."""

from __future__ import annotations

import os

import outcomes
import pytest
import small_runs
from faulty_files import Faults

# Of the operations, every so many in the default run; all with TFL_CAMPAIGN=all.
EVERY = 1 if os.environ.get("TFL_CAMPAIGN") == "all" else 11


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The results of a run without faults, and the operations that it takes."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    counting = Faults(folder)
    with counting.installed():
        small_runs.run(folder)
    return small_runs.results(folder), counting.done


def test_the_layer_sees_what_a_run_writes(whole):
    _, done = whole
    names = {name for _, name in done}
    assert {
        *("hparams.json", "run_seed.tmp", "run_id", "ledger.jsonl", "metrics.csv"),
        *("metrics_copy.jsonl", "measurements.jsonl", "round-00000006.ckpt.tmp"),
        *("columns.json", "summary.json", "clients.csv", ".lock", "weights.npz"),
    } <= names
    assert {kind for kind, _ in done} >= {"open", "write", "fsync", "replace"}


@pytest.mark.parametrize("short", [False, True])
def test_a_run_goes_on_after_each(whole, tmp_path, short):
    expected, done = whole
    found = {}
    numbers = [n for n, (kind, _) in enumerate(done) if not short or kind == "write"]
    for number in numbers[(3 if short else 0) :: EVERY]:
        kind, name = done[number]
        folder = tmp_path / str(number)
        faults = Faults(folder, number, short=short)

        def is_same(folder=folder):
            return small_runs.results(folder) == expected

        with faults.installed():
            first = outcomes.of(
                lambda out, f=folder: small_runs.run(f, stream=out), is_same
            )
        found[f"{number} {kind} {name}"] = first
        # Nothing of the fault is left behind.
        with Faults(folder).installed():
            again = outcomes.of(
                lambda out, f=folder: small_runs.run(f, stream=out), is_same
            )
        if again.kind != outcomes.IDENTICAL:
            again = outcomes.Outcome("silent change", f"{again.kind}: {again.text}")
        found[f"{number} {kind} {name}, again"] = again
    outcomes.report(f"every write (short: {short})", found)
