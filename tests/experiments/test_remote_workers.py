"""Experiments whose rounds run on TFF workers of --workers."""

from __future__ import annotations

import importlib
import json

import pytest

ROBUST = (
    "--aggregator=coordinate_median",
    "--sampler=full",
    "--evaluate_every=1",
    "--checkpoint_every=1",
)


def on(*workers):
    addresses = ",".join(worker.address for worker in workers)
    return "--runtime=remote", f"--workers={addresses}"


def numbers(rows):
    return [
        {k: v for k, v in row.items() if k != "round_seconds" and v} for row in rows
    ]


@pytest.mark.slow
def test_a_robust_run_goes_on_with_fewer_workers(tmp_path, train, execute, workers):
    expected = train("robust_fed_avg", tmp_path / "alone", *ROBUST)
    pair, whole = on(*workers), tmp_path / "whole"
    found = train("robust_fed_avg", whole, *ROBUST, *pair)
    for row, wanted in zip(found, expected):
        loss = float(wanted["train_loss"])
        assert float(row["train_loss"]) == pytest.approx(loss, rel=1e-5)
        assert float(row["aggregator_stacked"]) == 4
    assert json.loads((whole / "runtime.json").read_text())["parts"] == 2
    # One round on both, the other on one of them: the same to the last bit.
    resumed = tmp_path / "resumed"
    train("robust_fed_avg", resumed, *ROBUST, *pair, "--rounds=1")
    again = train("robust_fed_avg", resumed, *ROBUST, *on(workers[1]))
    assert numbers(again) == numbers(found)


@pytest.mark.slow
def test_workers_read_the_data_from_a_folder(tmp_path, train, workers):
    shared = tmp_path / "shared"
    private = (
        *("--sampler=full", "--noise_multiplier=1", "--l2_norm_clip=0.5"),
        *("--run_seed=7", "--evaluate_every=1", "--checkpoint_every=1"),
        *on(*workers),
    )
    read = (*private, f"--worker_data={shared}")
    shipped = train("dp_fed_avg", tmp_path / "shipped", *private)
    # A run may go on with a folder that it began without.
    resumed = tmp_path / "resumed"
    train("dp_fed_avg", resumed, *private, "--rounds=1")
    assert numbers(train("dp_fed_avg", resumed, *read)) == numbers(shipped)
    assert len(list(shared.rglob("*.examples"))) == 4
    outside = (resumed / "privacy.txt").read_text().partition("Outside the guarantee")
    assert "the workers of" in " ".join(outside[2].split())
    assert "(--worker_data)" in outside[2]


@pytest.mark.slow
def test_nobody_answers(tmp_path, execute, monkeypatch):
    # The package has a function of the same name.
    remote = importlib.import_module("tfl_research.runtime.remote")
    monkeypatch.setattr(remote, "CONNECT_SECONDS", 0.5)
    code, _, errors = execute(
        "fed_avg",
        [
            "--task=heart",
            "--runtime=remote",
            "--workers=localhost:9",
            f"--output_dir={tmp_path / 'run'}",
        ],
    )
    assert code == 2
    [line] = [line for line in errors.splitlines() if line.startswith("error:")]
    assert "--workers=localhost:9: no TFF worker answers" in line
    assert "scripts/worker" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--runtime=remote"], "--runtime=remote: needs --workers"),
        (
            ["--workers=a:1"],
            "--workers=a:1: goes with --runtime=remote only; leave it out",
        ),
        (["--runtime=remote", "--workers=a"], "'a': must be HOST:PORT"),
        (["--runtime=remote", "--workers=a:0"], "'a:0': must be HOST:PORT"),
        (["--runtime=remote", "--workers=a:1,a:1"], "'a:1' is given twice"),
        (
            ["--runtime=remote", "--workers=a:1", "--chunk_clients=3"],
            "--chunk_clients=3: goes with --runtime=in_process only; leave it out",
        ),
        (
            ["--runtime=remote", "--workers=a:1", "--client_execution=separate_xla"],
            "--client_execution=separate_xla: goes with --runtime=in_process and",
        ),
        (["--worker_data=x"], "--worker_data=x: goes with --runtime=remote only"),
        (["--worker_cores=2"], "--worker_cores=2: goes with --runtime=remote only"),
    ],
)
def test_refused_flags(tmp_path, execute, flags, message):
    code, _, errors = execute(
        "fed_avg", ["--task=heart", f"--output_dir={tmp_path / 'run'}", *flags]
    )
    assert code == 2
    assert message in errors
    assert not (tmp_path / "run").exists()
