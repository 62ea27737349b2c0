"""Algorithms by flag, on the four hospitals: states, resuming, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tfl_research import storage
from tfl_research.algorithms import ALGORITHMS


class Spec:
    initial = np.zeros(36, np.float32)
    capacity = 4


def table_of(folder):
    states = storage.ClientStates(folder / "client_states.sqlite", Spec())
    names = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")
    found = states.rows(names)
    states.close()
    return found


def comparable(rows):
    return [{k: v for k, v in row.items() if k != "round_seconds"} for row in rows]


SCAFFOLD = (
    "--algorithm=scaffold",
    "--cohort_size=3",
    "--checkpoint_every=1",
    "--evaluate_every=1",
)


def test_a_run_in_two_parts_has_the_same_states(train, tmp_path):
    whole = train("federated", tmp_path / "whole", *SCAFFOLD, "--rounds=3")
    train("federated", tmp_path / "parts", *SCAFFOLD, "--rounds=2")
    # As if the process had been killed after a round that no checkpoint has.
    newest = sorted((tmp_path / "parts" / "checkpoints").glob("*.ckpt"))[-1]
    newest.unlink()
    parts = train("federated", tmp_path / "parts", *SCAFFOLD, "--rounds=3")
    assert comparable(parts) == comparable(whole)
    states = table_of(tmp_path / "whole")
    assert np.abs(states).max() > 0
    np.testing.assert_array_equal(table_of(tmp_path / "parts"), states)


def test_algorithms_choose_their_weights_where_none_are_given(train, tmp_path):
    for name, weighting in (("fed_avg", "examples"), ("scaffold", "uniform")):
        folder = tmp_path / name
        train("federated", folder, f"--algorithm={name}", "--rounds=1")
        hparams = json.loads((folder / "hparams.json").read_text())["hparams"]
        assert hparams["client_weighting"] == weighting


def test_updates_are_coded_beside_states_of_an_algorithm(train, tmp_path):
    coded = ("--compression=quantize", "--compression_bits=2", "--rounds=1")
    train("federated", tmp_path / "plain", *SCAFFOLD, "--rounds=1")
    rows = train("federated", tmp_path / "coded", *SCAFFOLD, *coded)
    # Three hospitals are sent 36 numbers and their like of c, and send 2 bits of each
    # with two magnitudes, and the change of c_i as it is.
    assert rows[0]["cohort_size"] == "3"
    assert int(rows[0]["bytes_down"]) == 3 * 4 * (36 + 36)
    assert int(rows[0]["bytes_up"]) == 3 * (9 + 1 + 4 + 4 + 4 * 36)
    # Control variates are of the client's own steps, whatever is sent of them.
    states = table_of(tmp_path / "coded")
    np.testing.assert_allclose(states, table_of(tmp_path / "plain"), atol=1e-6)
    assert np.abs(states).max() > 0
    plain = json.loads((tmp_path / "plain" / "summary.json").read_text())
    assert float(rows[0]["eval_loss"]) != plain["final"]["eval_loss"]


def test_lost_states_are_one_line(train, execute, tmp_path):
    train("federated", tmp_path / "run", *SCAFFOLD, "--rounds=1")
    for path in (tmp_path / "run").glob("client_states.sqlite*"):
        path.unlink()
    flags = ["--task=heart", *SCAFFOLD, "--rounds=2", "--client_execution=folded_graph"]
    code, _, errors = execute(
        "federated", [*flags, "--notensorboard", f"--output_dir={tmp_path / 'run'}"]
    )
    assert code == 2
    assert "holds states of 0 clients that differ from" in errors


def test_mime_takes_two_rounds_with_one_cohort(train, tmp_path):
    rows = train(
        "federated",
        tmp_path / "run",
        "--algorithm=mime",
        "--client_momentum=0.5",
        "--rounds=4",
        "--cohort_size=2",
        "--evaluate_every=1",
    )
    losses = [float(row["eval_loss"]) for row in rows]
    # The first of two exchanges moves nothing.
    assert losses[1] == losses[2] != losses[3]


def test_devices_report_to_a_buffer(train, tmp_path):
    rows = train(
        "federated",
        tmp_path / "run",
        "--algorithm=fed_buff",
        "--devices=60",
        "--cohort_size=4",
        "--concurrency=10",
        "--rounds=3",
    )
    assert [row["cohort_size"] for row in rows] == ["4"] * 3
    assert float(rows[-1]["mean_staleness"]) > 0
    # A model of 36 numbers for each device that began.
    assert [int(r["bytes_down"]) for r in rows] == [
        144 * int(r["selected"]) for r in rows
    ]


@pytest.mark.slow
def test_silos_that_are_down(train, tmp_path):
    rows = train(
        "federated",
        tmp_path / "run",
        "--silo_drop_out=0.4",
        "--minimum_clients=3",
        "--rounds=6",
        "--evaluate_every=1",
    )
    abandoned = [row["abandoned"] == "1" for row in rows]
    # A model of 36 numbers for all four, and an update of each that is not down.
    for row in rows:
        assert int(row["bytes_down"]) == 4 * 4 * 36
        assert int(row["bytes_up"]) == 4 * 36 * (4 - int(row["dropped_out"]))
    assert True in abandoned
    assert False in abandoned
    for before, row, stays in zip(rows, rows[1:], abandoned[1:]):
        assert (row["eval_loss"] == before["eval_loss"]) == stays
        assert int(row["cohort_size"]) == (0 if stays else 4 - int(row["dropped_out"]))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--algorithm=scaffold", "--client_weighting=examples"],
            "--client_weighting=examples: scaffold weights all clients alike",
        ),
        (["--dyn_alpha=1"], "--dyn_alpha=1: goes with --algorithm=fed_dyn"),
        (["--algorithm=fed_buff"], "--devices is missing"),
        (
            ["--algorithm=fed_nova", "--client_optimizer=adam"],
            "fed_nova needs --client_optimizer=sgd",
        ),
        (
            [SCAFFOLD[0], "--client_momentum=0.9"],
            "needs SGD without momentum",
        ),
        (
            [SCAFFOLD[0], "--client_gradient_clip=1"],
            "needs --scaffold_option=1 under scaffold",
        ),
        (
            ["--algorithm=fed_exp", "--server_learning_rate=0.5"],
            "fed_exp has a server step of its own",
        ),
        (["--algorithm=mime", "--devices=50"], "needs the same clients in 2 rounds"),
        (["--algorithm=mime", "--compression=top_k"], "first of 2 exchanges of mime"),
        (
            [
                "--silo_drop_out=0.4",
                "--minimum_clients=2",
                "--client_weighting=uniform",
                "--aggregator=krum",
                "--byzantine=0",
            ],
            "at least 3 clients (arXiv 1703.02757: 2f + 2 < n), but a round can have "
            "as few as 2",
        ),
        (
            ["--compression=top_k", "--aggregator=coordinate_median"],
            "treats every coordinate alone: its result is zero where most clients send "
            "nothing",
        ),
        (
            ["--compression=quantize", "--aggregator=compression"],
            "--compression=quantize: --aggregator=compression compresses the "
            "updates too",
        ),
        (["--algorithm=ifca", "--aggregator=clipping"], "an update for each cluster"),
        (
            ["--algorithm=fed_dropout", "--compression=top_k"],
            "--compression=top_k: clients of fed_dropout send an update of a part of",
        ),
        (["--kept_units=0.5"], "--kept_units=0.5: goes with --algorithm=fed_dropout"),
        (
            ["--algorithm=fed_nova", "--aggregator=secure"],
            "--aggregator=secure: acts on updates alone, and clients of fed_nova also",
        ),
        (
            [SCAFFOLD[0], "--aggregator=coordinate_median", "--byzantine=1"],
            "also send what their control variate changed by",
        ),
        (
            [
                "--algorithm=fed_dyn",
                "--aggregator=compression",
            ],
            "clients of fed_dyn keep what they sent",
        ),
        (
            ["--algorithm=fed_dyn", "--compression=quantize"],
            "--compression=quantize: clients of fed_dyn keep what they sent",
        ),
        (
            ["--algorithm=ditto", "--compression=quantize", "--error_feedback"],
            "give quantize, or random_k with",
        ),
        (
            ["--algorithm=fed_exp", "--compression=quantize"],
            "--compression=quantize: clients of fed_exp send the norm of their update",
        ),
        (
            [
                "--algorithm=fed_nova",
                "--proximal_strength=1",
                "--client_gradient_clip=2",
            ],
            "--client_gradient_clip=2: fed_nova with --proximal_strength needs",
        ),
        (
            ["--algorithm=fed_nova", "--proximal_strength=11"],
            "--proximal_strength=11: times --client_learning_rate=0.1 must be at most",
        ),
        (
            ["--devices=50", "--silo_drop_out=0.1"],
            "do not go with --devices; give --drop_out and --minimum_cohort",
        ),
        (["--minimum_clients=5"], "from 1 to 4, the largest cohort, got 5"),
    ],
)
def test_refusals(refused, tmp_path, flags, message):
    refused("federated", tmp_path / "run", flags, message)


def test_a_model_without_hidden_units_has_no_sub_models(refused, tmp_path):
    flags = ["--algorithm=fed_dropout"]
    refused("federated", tmp_path / "run", flags, "the task's model has one layer")


def test_every_algorithm_is_in_the_help_with_its_paper(execute):
    code, output, _ = execute("federated", ["--help"])
    assert code == 0
    text = " ".join(output.split())
    assert len(ALGORITHMS.names()) >= 15
    for name, algorithm in ALGORITHMS.items():
        assert f"{name}: {algorithm.title()}" in text
        assert "arXiv" in algorithm.PAPERS[0]
