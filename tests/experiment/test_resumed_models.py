"""Models of one's own that keep statistics, have two outputs, or are of TFF: resumed.

A run whose folder is copied after two rounds and goes on in the copy ends as the run
that was never interrupted. One run is killed in a process of its own.
"""

from __future__ import annotations

import io
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tfl_research as tfl
from tfl_research import tasks
from tfl_research.tasks import objectives

L = tf.keras.layers
ROUNDS, COPIED = 3, 2


def clients(several=False):
    generator = np.random.default_rng(0)
    found = {}
    for number, name in enumerate("abc"):
        x = generator.normal(number, 1 + number, size=(6, 4)).astype(np.float32)
        y = generator.integers(0, 2, 6)
        found[name] = {"x": x, "y": {"kind": y, "size": x[:, :1]} if several else y}
    return found


def normalized():
    return tf.keras.Sequential(
        [L.Input([4]), L.Dense(3), L.BatchNormalization(momentum=0.5), L.Dense(2)]
    )


def two_outputs():
    x = L.Input([4])
    hidden = L.Dense(3, activation="relu")(x)
    outputs = {name: L.Dense(n, name=name)(hidden) for name, n in HEADS.items()}
    return tf.keras.Model(x, outputs)


HEADS = {"kind": 2, "size": 1}


def two_losses():
    crossed = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return objectives.from_keras(
        {"kind": crossed, "size": "mse"},
        {"kind": ["accuracy"]},
        weighted_metrics={"size": ["mae"]},
        class_weight={"kind": {1: 3.0}},
    )


def tff_model():
    spec = tf.TensorSpec([None, 4]), tf.TensorSpec([None], tf.int32)
    return tff.learning.models.from_keras_model(
        normalized(),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        input_spec=spec,
    )


def reconstructed():
    layers = [L.Input([4]), L.Dense(3), L.Dense(2)]
    model = tf.keras.Sequential(layers)
    spec = tf.TensorSpec([None, 4]), tf.TensorSpec([None], tf.int32)
    return tff.learning.models.ReconstructionModel.from_keras_model_and_layers(
        model,
        global_layers=model.layers[:1],
        local_layers=model.layers[1:],
        input_spec=spec,
    )


def statistics(non_trainable):
    return lambda: tasks.from_arrays(
        clients(), model=normalized, non_trainable=non_trainable, test=0.25
    )


ROWS = {
    "averaged, mime": (statistics("averaged"), "mime"),
    "two outputs": (
        lambda: tasks.from_arrays(
            clients(True), model=two_outputs, objective=two_losses
        ),
        "fed_avg",
    ),
    "a model of TFF": (
        lambda: tasks.from_arrays(
            clients(), model=tff_model, objective="model", non_trainable="averaged"
        ),
        "fed_avg",
    ),
    "a reconstruction model": (
        lambda: tasks.from_arrays(clients(), model=reconstructed),
        tfl.algorithms.FedRep(personal_tensors=2),
    ),
}


def experiment(task, algorithm, **options):
    return tfl.Experiment(
        task,
        algorithm,
        client_optimizer=tfl.SGD(0.02),
        batches=tfl.Batches(batch_size=3),
        cohorts=tfl.Cohorts(cohort_size=2),
        training=tfl.Training(rounds=ROUNDS, tensorboard=False),
        runtime=tfl.Runtime(client_execution="folded_graph"),
        **options,
    )


class Copy(tfl.Callback):
    """Copies the folder after a round, as a kill leaves it."""

    def __init__(self, folder, target):
        self.paths = folder, target

    def on_round(self, report):
        if report.round_number == COPIED:
            shutil.copytree(*self.paths)


def outcome(result):
    """The leaves of the last state, and the rows of metrics.csv but for the times."""
    leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(result.ended.state)]
    return leaves, result.metrics.drop(columns="round_seconds")


def assert_same(one, other):
    for (left, table), (right, other_table) in [(outcome(one), outcome(other))]:
        assert len(left) == len(right) > 2
        for a, b in zip(left, right):
            np.testing.assert_array_equal(a, b)
        last = table.iloc[-1].dropna(), other_table.iloc[-1].dropna()
        assert last[0].equals(last[1])


# Rows that show what another row shows too.
_FURTHER = ("averaged, mime", "a model of TFF")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(row, marks=pytest.mark.campaign if row in _FURTHER else ())
        for row in ROWS
    ],
)
def test_a_copy_of_the_folder_goes_on_to_the_same_model(name, tmp_path):
    build, algorithm = ROWS[name]
    whole, copied = tmp_path / "whole", tmp_path / "copied"
    quiet = {"stream": io.StringIO()}
    ended = experiment(build(), algorithm, callbacks=[Copy(whole, copied)])
    first = ended.run(whole, **quiet)
    assert_same(first, experiment(build(), algorithm).run(copied, **quiet))
    assert np.isfinite(first.metrics["train_loss"]).all()


class Kill(tfl.Callback):
    def on_round(self, report):
        if report.round_number == COPIED:
            os.kill(os.getpid(), signal.SIGKILL)


def killed(folder):
    """Runs in a process of its own, which ends by a kill."""
    task = statistics("local")()
    experiment(task, "scaffold", callbacks=[Kill()]).run(folder)


def test_a_killed_run_ends_with_the_same_statistics_of_each_client(tmp_path):
    """Clients keep control variates and statistics, in one table."""
    script = "import sys, test_resumed_models as t; t.killed(sys.argv[1])"
    here = str(pathlib.Path(__file__).parent)
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "killed")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([here, *sys.path])},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    task, quiet = statistics("local")(), {"stream": io.StringIO()}
    whole = experiment(task, "scaffold").run(tmp_path / "whole", **quiet)
    resumed = experiment(task, "scaffold").run(tmp_path / "killed", **quiet)
    assert_same(whole, resumed)
    assert kept(whole) == kept(resumed)
    assert len(kept(whole)) == 3


def kept(result):
    """What each client keeps after its last round."""
    with sqlite3.connect(result.path / "client_states.sqlite") as table:
        return table.execute(
            "select client, max(round), state from states group by client"
        ).fetchall()


@pytest.mark.parametrize(
    ("algorithm", "match"),
    [("ifca", "IFCA cannot train a model whose non-trainable weights .* are averaged")],
)
def test_what_cannot_keep_statistics_is_refused_before_training(
    algorithm, match, tmp_path
):
    asked = experiment(statistics("averaged")(), algorithm)
    with pytest.raises(ValueError, match=match) as error:
        asked.run(tmp_path / "run", stream=io.StringIO())
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "metrics.csv").exists()
