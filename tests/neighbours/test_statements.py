"""The statement of a private run names every file and value of the run's folder."""

from __future__ import annotations

import dataclasses
import io
import json
import pathlib
from typing import Any

import comparisons
import pairs
import pytest

import tfl_research as tfl
from tfl_research.privacy import mechanisms

pytestmark = pytest.mark.slow

TRAINING = tfl.Training(
    rounds=2, evaluate_every=1, checkpoint_every=1, progress_bar=False
)


def experiment(change: Any = pairs.unchanged, **more: Any) -> tfl.Experiment:
    data = pairs.clients()
    change(data)
    task = tfl.tasks.from_arrays(data, model=pairs.build_model, held_out=0.2)
    parts: dict[str, Any] = {
        "cohorts": tfl.Cohorts("full"),
        "privacy": tfl.UserLevelPrivacy(noise_multiplier=1.0, delta=1e-2),
        "training": TRAINING,
        "runtime": tfl.Runtime(client_execution="folded_graph"),
        **more,
    }
    return tfl.Experiment(task, **parts)


def statement(folder: pathlib.Path) -> str:
    return " ".join((folder / "privacy.txt").read_text(encoding="utf-8").split())


@pytest.mark.parametrize(
    ("given", "files"),
    [
        ({}, ["clients.csv", "metrics_copy.jsonl"]),
        ({"release": tfl.Release(evaluation_noise_multiplier=2.0)}, []),
        (
            {
                "privacy": tfl.UserLevelPrivacy(
                    mechanisms.LocalGaussian(), noise_multiplier=1.0, delta=1e-2
                ),
                "aggregator": tfl.aggregators.CoordinateMedian(),
                "release": tfl.Release(release_exact=["all"]),
            },
            ["measurements.jsonl"],
        ),
        ({"audit": tfl.Audit(canaries=10)}, ["audit.json"]),
        (
            {
                "privacy": tfl.RecordLevelPrivacy(
                    record_noise_multiplier=1.0, record_batch_size=4, record_delta=1e-2
                ),
                "batches": tfl.Batches(client_steps=2),
            },
            ["client_epsilon.csv"],
        ),
    ],
    ids=["server noise", "noisy evaluation", "local noise", "audit", "record level"],
)
def test_it_names_every_file(
    tmp_path: pathlib.Path, given: dict[str, Any], files: list[str]
) -> None:
    experiment(**given).run(tmp_path / "run", stream=io.StringIO())
    for name in files:
        assert (tmp_path / "run" / name).exists()
    comparisons.check_statement(tmp_path / "run")


def test_it_names_the_list_of_clients_that_were_excluded(
    tmp_path: pathlib.Path,
) -> None:
    # With this learning rate the update of the client overflows.
    asked = experiment(
        pairs.overflowing,
        client_optimizer=tfl.SGD(10.0),
        release=tfl.Release(release_exact=["excluded_by_client"]),
    )
    asked.run(tmp_path / "run", stream=io.StringIO())
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [each["client"] for each in summary["excluded"]] == [pairs.CHANGED]
    comparisons.check_statement(tmp_path / "run")
    text = statement(tmp_path / "run")
    assert "Exact, not covered by ε: excluded_by_client." in text


def test_of_a_run_that_was_killed(tmp_path: pathlib.Path) -> None:
    asked = experiment(training=dataclasses.replace(TRAINING, evaluate_every=2))
    rounds = asked.rounds(tmp_path / "run", stream=io.StringIO())
    first = statement(tmp_path / "run") if next(rounds) else ""
    # The statement of the start lacks columns of the mechanism.
    later = "columns.json has the class of each column that later rounds added."
    assert later in first
    assert "aggregator_noise_stddev" not in first
    rounds.close()
    # That of round 1 lacks columns of the evaluation, which comes after round 2.
    stopped = statement(tmp_path / "run")
    assert later in stopped
    assert "aggregator_noise_stddev" in stopped
    assert "held_out_loss" not in stopped
    assert "Done: 1 of 2 planned rounds when this was written" in stopped
    asked.run(tmp_path / "run", stream=io.StringIO())
    complete = statement(tmp_path / "run")
    assert later not in complete
    assert "held_out_loss" in complete


def test_names_and_sizes_of_held_out_clients(tmp_path: pathlib.Path) -> None:
    quiet = dataclasses.replace(TRAINING, report=False, export=False)
    experiment(training=quiet).run(tmp_path / "run", stream=io.StringIO())
    table = (tmp_path / "run" / "clients.csv").read_text(encoding="utf-8")
    assert ",held_out,client " in table
    assert (
        "The held-out clients: metrics on them are exact, and their names and "
        "numbers of test examples are in clients.csv." in statement(tmp_path / "run")
    )


def test_hash_of_the_names_in_a_shared_ledger(tmp_path: pathlib.Path) -> None:
    ledger = tmp_path / "shared.jsonl"
    shared = tfl.UserLevelPrivacy(noise_multiplier=1.0, delta=1e-2, ledger=str(ledger))
    experiment(privacy=shared).run(tmp_path / "run", stream=io.StringIO())
    line = json.loads(ledger.read_text(encoding="utf-8").splitlines()[0])
    names = tfl.privacy.Population.of(pairs.clients())
    assert line["population"]["fingerprint"] == names.fingerprint
    assert f"Whoever sees {ledger}: each line has a SHA-256" in statement(
        tmp_path / "run"
    )


def test_clients_that_are_canaries(tmp_path: pathlib.Path) -> None:
    audited = experiment(audit=tfl.Audit(canaries=10))
    audited.run(tmp_path / "run", stream=io.StringIO())
    clients = len(audited.task.train.client_ids)
    assert (
        f"Audit: 10 of the {clients + 10} clients are canaries, which the audit added."
        in statement(tmp_path / "run")
    )
