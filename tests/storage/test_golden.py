"""Run folders of version 0.1.0, before formats had numbers, can still be read."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

from tfl_research import report
from tfl_research.errors import UserError
from tfl_research.storage import (
    CheckpointStore,
    ClientStates,
    MetricsLog,
    RunFolder,
    checkpoints,
)

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "runs"
RUNS = ("dp_fixed", "federated_scaffold", "record")
# Of the exported models, as TensorFlow read them: the kernel's first three numbers and
# sum, and the bias.
EXPORTED = {
    "dp_fixed": (
        [-1.422861099243164, -1.5058543682098389, 0.7579944133758545],
        -2.2145995646715164,
        0.02106771245598793,
    ),
    "federated_scaffold": (
        [0.10680520534515381, -0.12282232195138931, 0.20443350076675415],
        1.290463196579367,
        0.08161120116710663,
    ),
    "record": (
        [0.08622939139604568, -0.11442197859287262, 0.197007954120636],
        1.0611450346186757,
        0.07542562484741211,
    ),
}
LAST_ROWS = {
    "dp_fixed": {"epsilon": 13.8725467, "eval_auc": 0.653657977, "examples": 320},
    "federated_scaffold": {"eval_loss": 0.516302777, "train_accuracy": 0.768115938},
    "record": {"epsilon": 6.82989658, "eval_loss": 0.518754638, "bytes_up": 576},
}


@dataclasses.dataclass
class Weights:
    trainable: list
    non_trainable: list


@dataclasses.dataclass
class State:
    """`LearningAlgorithmState`, whose members checkpoints name."""

    global_model_weights: Weights
    distributor: tuple
    client_work: np.ndarray
    aggregator: tuple
    finalizer: object


def weights():
    return Weights([np.zeros((35, 1), np.float32), np.zeros(1, np.float32)], [])


def template(name):
    aggregator, finalizer = (), {"learning_rate": np.zeros((), np.float32)}
    if name == "dp_fixed":
        mechanism = {
            "round_number": np.zeros((), np.int32),
            "noise_seed": np.zeros(2, np.int64),
            "clip_norm": np.zeros((), np.float32),
        }
        aggregator = (mechanism, ())
    if name == "federated_scaffold":
        finalizer = (finalizer, weights().trainable)
    return State(weights(), (), np.zeros((), np.int32), aggregator, finalizer)


@dataclasses.dataclass
class Spec:
    initial: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(36, np.float32)
    )
    capacity: int = 4


@pytest.fixture(params=RUNS)
def run(request, tmp_path):
    """(name, a copy of the folder)."""
    return request.param, copied(request.param, tmp_path)


def copied(name, tmp_path):
    return pathlib.Path(shutil.copytree(GOLDEN / name, tmp_path / name))


def test_checkpoints_load(run):
    name, path = run
    store = CheckpointStore(path / "checkpoints")
    assert store.rounds() == [4, 2]
    checkpoint = store.load_latest(template(name), weights())
    assert checkpoint.round_number == 4
    assert int(checkpoint.state.client_work) == 4
    kernel, bias = map(np.asarray, checkpoint.state.global_model_weights.trainable)
    first, total, exported_bias = EXPORTED[name]
    np.testing.assert_array_equal(kernel.ravel()[:3], np.float32(first))
    assert kernel.astype(np.float64).sum() == pytest.approx(total, rel=1e-12)
    assert bias == np.float32(exported_bias)
    # The last model was the best one in all three.
    np.testing.assert_array_equal(checkpoint.best.trainable[0], kernel)
    assert checkpoint.progress["selection"]["best_round"] == 4


def test_metrics_read(run):
    name, path = run
    log = MetricsLog(path / "metrics.csv", completed_rounds=4)
    log.close()
    assert [row["round"] for row in log.rows] == list("1234")
    for column, value in LAST_ROWS[name].items():
        assert float(log.rows[-1][column]) == value
    # Reading changes nothing.
    assert (path / "metrics.csv").read_bytes() == (
        GOLDEN / name / "metrics.csv"
    ).read_bytes()


def test_the_report_is_made(run):
    pytest.importorskip("matplotlib")
    name, path = run
    page = report.write(path).read_text(encoding="utf-8")
    assert "all planned rounds are done" in page
    assert "<svg" in page
    if name != "federated_scaffold":
        assert "differential privacy" in page


@pytest.mark.parametrize("name", ["dp_fixed", "record"])
def test_checkpoints_know_how_far_the_ledger_went(name):
    lines = (GOLDEN / name / "ledger.jsonl").read_text().splitlines()
    stored = checkpoints.stored_progress(GOLDEN / name / "checkpoints")
    positions = [progress["ledgers"]["own"] for _, progress in stored]
    assert [position["lines"] for position in positions] == [2, 4]
    for position in positions:
        line = json.loads(lines[position["lines"] - 1])
        assert line["hash"] == position["hash"]


def test_clients_states_load(tmp_path):
    """SCAFFOLD: everybody took part, so the server's control is the clients' mean."""
    path = copied("federated_scaffold", tmp_path)
    store = CheckpointStore(path / "checkpoints")
    checkpoint = store.load_latest(template("federated_scaffold"), weights())
    table = ClientStates(path / "client_states.sqlite", Spec())
    table.restore(4, checkpoint.progress["client_states"])
    names = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")
    controls = table.rows(names)
    table.close()
    server = np.concatenate([np.ravel(c) for c in checkpoint.state.finalizer[1]])
    assert np.abs(server).max() > 1e-3
    np.testing.assert_allclose(controls.mean(axis=0), server, rtol=1e-4, atol=1e-6)


def test_resuming_is_refused_in_one_line(run):
    _, path = run
    record = json.loads((path / "hparams.json").read_text())
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    with pytest.raises(UserError) as error:
        RunFolder.open(path, record["hparams"], experiment=record["experiment"])
    assert str(error.value) == (
        f"{path} has hparams.json in format 1, but this version resumes only runs of "
        f"format 3; finish the run with git revision {record['git_revision']}, or "
        "choose another output_dir"
    )
    after = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    after.pop(path / ".lock")
    assert after == before
