"""Exports that take an earlier export's files, and write weights of their own."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfl_research import tasks
from tfl_research.models import known_builders
from tfl_research.program.results import export, saved_model_files

Weights = collections.namedtuple("Weights", "trainable non_trainable")


@pytest.fixture(scope="module")
def task():
    known_builders.forget()
    return tasks.get("heart", model="mlp")


def some_weights(task, seed):
    generator = np.random.default_rng(seed)
    model = task.functional_model()
    return Weights(
        [generator.normal(size=w.shape).astype(w.dtype) for w in model.initial_weights],
        [w + 1 for w in model.initial_state],
    )


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_they_are_those_of_keras_with_these_weights(task, tmp_path, monkeypatch):
    saved = []
    save = tf.keras.Model.save
    monkeypatch.setattr(
        tf.keras.Model, "save", lambda *a, **k: saved.append(a) or save(*a, **k)
    )
    for seed in (1, 2):
        export.export_model(task, some_weights(task, seed), tmp_path / f"{seed}")
    assert len(saved) == 1
    monkeypatch.setattr(saved_model_files, "of_task", lambda task: None)
    x = np.random.default_rng(0).normal(size=(5, *task.train.specs["x"].shape))
    for seed in (1, 2):
        weights = some_weights(task, seed)
        export.export_model(task, weights, tmp_path / f"keras {seed}")
        ours = tf.keras.models.load_model(tmp_path / f"{seed}")
        expected = tf.keras.models.load_model(tmp_path / f"keras {seed}")
        for a, b, given in zip(
            ours.get_weights(),
            expected.get_weights(),
            [*weights.trainable, *weights.non_trainable],
        ):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, given)
        np.testing.assert_array_equal(
            ours.predict(x, verbose=0), expected.predict(x, verbose=0)
        )
        assert names(tmp_path / f"{seed}") == names(tmp_path / f"keras {seed}")
        served = tf.saved_model.load(str(tmp_path / f"{seed}")).signatures
        assert list(served) == ["serving_default"]
    prints = [
        tf.saved_model.experimental.read_fingerprint(str(tmp_path / name))
        for name in ("1", "2")
    ]
    assert prints[0].checkpoint_hash != prints[1].checkpoint_hash
    assert prints[0].graph_def_program_hash == prints[1].graph_def_program_hash


def test_an_earlier_export_is_replaced_and_wrong_weights_leave_it(task, tmp_path):
    export.export_model(task, some_weights(task, 1), tmp_path / "final")
    export.export_model(task, some_weights(task, 2), tmp_path / "final")
    wrong = some_weights(task, 3)
    with pytest.raises(ValueError, match="trainable weights have shapes"):
        export.export_model(
            task, wrong._replace(trainable=wrong.trainable[1:]), tmp_path / "final"
        )
    kept = tf.keras.models.load_model(tmp_path / "final").get_weights()
    np.testing.assert_array_equal(kept[0], some_weights(task, 2).trainable[0])


def test_a_model_of_ones_own_is_saved_by_keras(task, tmp_path):
    build = task.build_model
    own = dataclasses.replace(task, build_model=lambda: build())
    assert saved_model_files.of_task(own) is None
    export.export_model(own, some_weights(task, 1), tmp_path / "own")
    kept = tf.keras.models.load_model(tmp_path / "own").get_weights()
    np.testing.assert_array_equal(kept[0], some_weights(task, 1).trainable[0])


def test_weights_whose_place_is_not_known():
    """A weight that is named twice is in the files once."""
    model = tf.keras.Sequential([tf.keras.layers.Input([2]), tf.keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="times in the files"):
        saved_model_files.SavedModelFiles(_Doubled(model))


class _Doubled:
    """A model that names one of its weights twice."""

    def __init__(self, model):
        self._model = model
        self.trainable_variables = [*model.trainable_variables, model.weights[0]]
        self.non_trainable_variables = []

    def save(self, *arguments, **named):
        self._model.save(*arguments, **named)
