"""Runs over four sites against simulations of them, to the last bit."""

import json
import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from federations import NAMES, running

import tfl_research as tfl
from tfl_research import outputs
from tfl_research.experiment.at_sites import compare

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    with running(tmp_path_factory.mktemp("federation")) as federation:
        yield federation


def _differences(federation, experiment, tmp_path, compiler):
    result = experiment.run(tmp_path / "federation")
    # The questions before a run leave no file, at the sites and here.
    assert not list(federation.folder.rglob("question*"))
    simulated = compare.simulate(
        result.path,
        tmp_path / "simulation",
        compiler=compiler,
        site_of=federation.state_folders,
        changes={"data_dir": str(federation.folder / "all")},
    )
    return compare.differences(result.path, simulated)


RUNS = {
    "fed_avg": {"training": {"selection_metric": "accuracy"}},
    "scaffold": {"algorithm": "scaffold", "training": {"selection_metric": "loss"}},
    "fed_prox, some clients": {
        "algorithm": "fed_prox",
        "cohorts": tfl.Cohorts("fixed", cohort_size=3),
        "training": {"selection_metric": "loss"},
    },
    "coordinate median": {
        "aggregator": "coordinate_median",
        "training": {"selection_metric": "loss"},
    },
    "gaussian": {
        "privacy": tfl.UserLevelPrivacy(noise_multiplier=1.0, delta=0.01),
        "cohorts": tfl.Cohorts("poisson", cohort_size=2),
    },
    "records": {"privacy": tfl.RecordLevelPrivacy(record_noise_multiplier=1.0)},
    "secure sums": {
        "secure_sums": tfl.SecureSums(True),
        "training": {"selection_metric": "loss"},
    },
    "secure discrete gaussian": {
        "secure_sums": tfl.SecureSums(True),
        "privacy": tfl.UserLevelPrivacy(
            "discrete_gaussian", noise_multiplier=1.0, delta=0.01
        ),
    },
}


GRAPH = {"execution": "separate_graph"}
_CAMPAIGN = pytest.mark.campaign
# Runs that show what another run shows too.
_FURTHER = (
    # The demonstration has records and secure sums.
    "records",
    "fed_prox, some clients",
    "coordinate median",
    "gaussian",
    "secure sums",
)


@pytest.mark.parametrize(
    ("name", "compiler"),
    [
        # XLA takes a second for each run and each shape. The demonstration uses it too.
        *(
            pytest.param(row, "xla", marks=() if row == "fed_avg" else _CAMPAIGN)
            for row in RUNS
        ),
        *((row, "graph") for row in RUNS if row not in ("fed_avg", *_FURTHER)),
    ],
)
def test_a_federation_is_its_simulation_to_the_last_bit(
    federation, tmp_path, name, compiler
):
    more = GRAPH if compiler == "graph" else {}
    experiment = federation.experiment(**RUNS[name], **more)
    assert _differences(federation, experiment, tmp_path, compiler) == []


@pytest.mark.campaign
def test_another_run_is_another(federation, tmp_path):
    one = federation.experiment(training={"rounds": 2}).run(tmp_path / "one")
    other = federation.experiment(training={"rounds": 2, "seed": 1}).run(
        tmp_path / "other"
    )
    assert any("weight" in line for line in compare.differences(one.path, other.path))


def test_a_site_that_is_away_is_left_out_and_told(federation, tmp_path, capsys):
    experiment = federation.experiment(
        training={"rounds": 4, "evaluate_every": 2}, **GRAPH
    )
    steps = experiment.rounds(tmp_path / "run")
    next(steps)
    federation.stop("west")
    try:
        report = next(steps)
    finally:
        federation.start("west")
    printed = capsys.readouterr()
    told = "round 2: left out, because no valid answer came in time: 'west'"
    assert told in printed.err
    reason = "site west: cannot be reached"
    assert f"round 2: the model is not evaluated: {reason}" in printed.out
    assert report.metrics["cohort_size"] == 3
    assert not report.evaluation
    # It comes back, has forgotten the process, and takes part again.
    next(steps)
    assert "left out" not in capsys.readouterr().err
    steps.close()


def test_too_few_sites_abandon_the_round(federation, tmp_path, capsys):
    experiment = federation.experiment(
        training={"rounds": 3, "evaluate_every": 3},
        silos=tfl.Silos(minimum_clients=4),
        **GRAPH,
    )
    steps = experiment.rounds(tmp_path / "run")
    before = next(steps)
    federation.stop("west")
    try:
        after = next(steps)
    finally:
        federation.start("west")
    assert "round 2 is abandoned: 3 of 4 clients" in capsys.readouterr().err
    for one, other in zip(before.weights.trainable, after.weights.trainable):
        np.testing.assert_array_equal(one, other)
    steps.close()


def test_a_policy_refuses_at_both_ends(federation, tmp_path):
    federation.policy("south", "most_rounds = 2")
    try:
        with pytest.raises(tfl.UserError, match=r"site south .*most_rounds"):
            federation.experiment().run(tmp_path / "run")
    finally:
        federation.policy("south", "")
    assert any("most_rounds" in line for line in federation.lines)


def test_another_schema_at_a_site_is_refused(federation, tmp_path):
    path = federation.folder / "sites" / "east" / "data" / "schema.json"
    kept = path.read_text()
    path.write_text(kept.replace("-3", "-4"))
    federation.stop("east")
    federation.start("east")
    try:
        with pytest.raises(tfl.UserError, match=r"north and east.*schema"):
            federation.experiment().run(tmp_path / "run")
    finally:
        path.write_text(kept)
        federation.stop("east")
        federation.start("east")


def test_the_coordinator_reads_no_row(federation, tmp_path):
    assert not list((federation.folder / "coordinator").glob("*.csv"))
    result = federation.experiment(training={"rounds": 1}, **GRAPH).run(
        tmp_path / "run"
    )
    held = [path.name for path in pathlib.Path(result.path).rglob("*")]
    assert not any(name in held for name in (f"{site}.csv" for site in NAMES))


class Copy(tfl.Callback):
    """Copies the run's folder after a round, as a kill leaves it."""

    def __init__(self, source, target, after):
        self._paths, self._after = (source, target), after

    def on_round(self, report):
        if report.round_number == self._after:
            shutil.copytree(*self._paths)


def test_a_killed_coordinator_goes_on_to_the_same_model(federation, tmp_path):
    """The rounds after the checkpoint are the same ones, whoever answers then."""
    parts = {
        **GRAPH,
        "algorithm": "scaffold",
        "training": {
            "rounds": 5,
            "evaluate_every": 5,
            "checkpoint_every": 3,
            "selection_metric": "loss",
        },
    }
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    copy = Copy(whole, killed, after=5)
    first = federation.experiment(callbacks=[copy], **parts).run(whole)
    second = federation.experiment(**parts).run(killed)
    assert compare.differences(first.path, second.path) == []


def _charged(folder, client):
    """The rounds of a site's ledgers, "again" where the run has begun again."""
    (run,) = folder.glob("runs/*/ledger.jsonl")
    found = []
    for path in (run, folder / "ledgers" / f"{client}.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        kinds = {"round", "restart"}
        found.append(
            [
                line.get("round", "again")
                for line in lines
                if kinds & set(line) and "ledger" not in line
            ]
        )
    return found


@pytest.mark.campaign
def test_a_recharged_run_has_new_noise_and_is_charged_again_at_the_sites(tmp_path):
    """North corrects a cell while the run is interrupted."""
    folder, whole, killed = (tmp_path / n for n in ("sites", "whole", "killed"))
    folder.mkdir()
    parts = {
        "training": {"rounds": 2, "evaluate_every": 2},
        "execution": "separate_graph",
        "privacy": tfl.RecordLevelPrivacy(record_noise_multiplier=1.0),
    }
    with running(folder) as federation:
        copy = Copy(whole, killed, after=2)
        first = federation.experiment(callbacks=[copy], **parts).run(whole)
        for data in (folder / "sites" / "north" / "data", folder / "all"):
            table = pd.read_csv(data / "north.csv")
            # A value with which the row stays in its split.
            table.loc[0, "a"] = 0.25
            table.to_csv(data / "north.csv", index=False)
        federation.stop("north")
        federation.start("north")
        experiment = federation.experiment(**parts)
        with pytest.raises(tfl.UserError, match="recharge"):
            experiment.run(killed)
        second = experiment.run(killed, recharge=True)
        for name in NAMES:
            charged = _charged(federation.state_folders[name], name)
            assert charged == [[1, 2, "again", 1, 2]] * 2
        simulated = compare.simulate(
            killed,
            tmp_path / "simulation",
            compiler="graph",
            site_of=federation.state_folders,
            changes={"data_dir": str(folder / "all")},
        )
    # The simulation is charged for two rounds, and the run for four.
    differences = compare.differences(second.path, simulated)
    assert {line.split(":")[0] for line in differences} == {"round 1", "round 2"}
    assert all("epsilon" in line for line in differences), differences
    changed = compare.differences(second.path, first.path)
    assert any(line.startswith("weight") for line in changed)


def _run(folder, *rows):
    """A folder with a metrics.csv, and a model of one weight."""
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, use_bias=False)])
    model(tf.ones([1, 1]))
    model.set_weights([np.ones([1, 1])])
    tf.saved_model.save(model, str(folder / "export" / "final"))
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_what_a_comparison_leaves_out_is_named_and_nothing_else_is(tmp_path):
    row = {"round": "1", "train_loss": "0.5", "eval_auc": "", "round_seconds": "1"}
    one = _run(tmp_path / "one", row)
    other = _run(
        tmp_path / "other",
        {**row, "eval_auc": "0.7", "round_seconds": "2"},
    )
    assert compare.only_in_simulation(one, other) == ["eval_auc"]
    assert compare.differences(one, other) == []
    # The first round compiles.
    times = [{**row, "round_seconds": text} for text in ("9", "1", "4", "2", "")]
    timed = _run(tmp_path / "timed", *times)
    assert compare.median_seconds(timed) == 2.0
    assert compare.median_seconds(one) is None
    # An empty cell of another column is a difference.
    lacks = _run(tmp_path / "lacks", {**row, "train_loss": ""})
    assert compare.differences(lacks, other) == ["round 1: train_loss is empty and 0.5"]


def test_the_statement_gives_out_nothing_that_the_coordinator_keeps(
    federation, tmp_path
):
    experiment = federation.experiment(
        privacy=tfl.UserLevelPrivacy(noise_multiplier=1.0, delta=0.01),
        cohorts=tfl.Cohorts("poisson", cohort_size=2),
        **GRAPH,
    )
    result = experiment.run(tmp_path / "run")
    # The exact sums are there, so that a round can be repeated.
    assert list((result.path / "federation/totals").glob("*.npz"))
    text = " ".join((result.path / "privacy.txt").read_text().split())
    assert "Exact, not covered by ε: nothing." in text
    owner = text.partition("Stays with the owner of the run: ")[2]
    assert " federation," in owner.partition("- Printed")[0]
    assert "it sees each client's exact update" in text
    for path in result.path.iterdir():
        assert outputs.files.is_of_table(path.name), path.name
