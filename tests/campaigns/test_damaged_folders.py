"""A run whose folder was damaged goes on the same, is refused, or says what is lost."""

from __future__ import annotations

import os
import shutil

import damage
import outcomes
import pytest
import small_runs
from faulty_files import Faults

CASES = 300 if os.environ.get("TFL_CAMPAIGN") == "all" else 60


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folder of a run after four of its six rounds, and the results of six."""
    parent = tmp_path_factory.mktemp("runs")
    with Faults(parent).installed():
        small_runs.run(parent / "begun", rounds=small_runs.BEFORE)
        shutil.copytree(parent / "begun", parent / "whole")
        small_runs.run(parent / "whole")
    return parent / "begun", small_runs.results(parent / "whole")


def resumed(folders, folder, done):
    begun, expected = folders
    shutil.copytree(begun, folder)
    done(folder)

    def is_same():
        return small_runs.results(folder) == expected

    with Faults(folder).installed():
        return outcomes.of(lambda out: small_runs.run(folder, stream=out), is_same)


def test_generated_damage(folders, tmp_path):
    found = {}
    for seed in range(CASES):
        named = []

        def done(folder, seed=seed, named=named):
            one = damage.drawn(folder, seed)
            named.append(one.name)
            one.apply()

        outcome = resumed(folders, tmp_path / str(seed), done)
        found[f"{seed} {named[0]}"] = outcome
        shutil.rmtree(tmp_path / str(seed))
    outcomes.report("damaged folders", found)


def test_a_silent_change_is_found(folders, tmp_path, monkeypatch):
    """Without the copy and the digest, a changed cell would pass."""
    from tfl_research.storage.metrics import kept_rows

    def change(folder):
        path = folder / "metrics.csv"
        path.write_text(path.read_text().replace(",0.6931", ",0.7931", 1))

    monkeypatch.setattr(
        kept_rows,
        "restored",
        lambda path, table, copy, completed, *_: kept_rows.Restored(
            [row for n, row in sorted(table.rows.items()) if n <= completed], ()
        ),
    )
    assert resumed(folders, tmp_path / "a", change).kind == "silent change"
    monkeypatch.undo()
    outcome = resumed(folders, tmp_path / "b", change)
    assert outcome.kind == outcomes.IDENTICAL


@pytest.mark.parametrize(
    ("done", "message"),
    [
        (lambda path: os.truncate(path, path.stat().st_size - 9), "bytes, its 4 lines"),
        (lambda path: path.write_bytes(b""), "has 0 bytes, its 4 lines have"),
        (lambda path: path.unlink(), "was removed or replaced while the run used it"),
    ],
)
def test_a_ledger_that_is_damaged_in_mid_run_ends_it(
    tmp_path, monkeypatch, done, message
):
    """At the last checkpoint at the latest, with a line and another code than 0."""

    class Meddling(small_runs.Engine):
        def next(self, state, cohort):
            found = super().next(state, cohort)
            if self.rounds[-1] == 3:
                done(tmp_path / "ledger.jsonl")
            return found

    monkeypatch.setattr(small_runs, "Engine", Meddling)
    with Faults(tmp_path).installed():
        outcome = outcomes.of(lambda out: small_runs.run(tmp_path, 3, out))
    assert outcome.kind == outcomes.REFUSED
    assert message in outcome.text
    assert "restore the file from a copy" in outcome.text
