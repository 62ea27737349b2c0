"""Private runs on one's own data: what is pooled is refused, and no split moves."""

from __future__ import annotations

import contextlib
import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import tfl_research as tfl
from tfl_research import tasks
from tfl_research.errors import UserError


def _model():
    return tf.keras.Sequential([tf.keras.layers.Input([2]), tf.keras.layers.Dense(2)])


def _private(task):
    return tfl.Experiment(
        task,
        cohorts=tfl.Cohorts("poisson", cohort_size=2),
        privacy=tfl.UserLevelPrivacy(noise_multiplier=1.0, delta=1e-2),
        training=tfl.Training(rounds=2),
    )


X, Y = np.arange(10.0).reshape(5, 2), np.array([0, 1, 0, 1, 1])


def test_ids_by_place_are_refused_and_names_are_not():
    dataset = tf.data.Dataset.from_tensor_slices((X, Y))
    _private(tasks.from_datasets({"a": dataset, "b": dataset}, model=_model)).check()
    listed = tasks.from_datasets([dataset, dataset], model=_model)
    with pytest.raises(ValueError, match=r"clients' ids.*give \{client id: dataset\}"):
        _private(listed).check()


def test_the_longest_sequence_is_refused_and_a_declared_length_is_not():
    clients = {i: {"x": [[1.0], [2.0, 3.0]], "y": [0, 1]} for i in ("a", "b")}
    for length in (2, "longest"):
        task = tasks.from_arrays(
            clients, model=_model, sequences=tasks.Sequences(length)
        )
        if length == 2:
            _private(task).check()
            continue
        with pytest.raises(ValueError, match=r"length of x.*tasks.Sequences\(length\)"):
            _private(task).check()


def _tables(rows):
    return tasks.from_dataframe(
        rows,
        client="who",
        label="y",
        features={"v": "v", "w": ["w"], "t": "t"},
        weight="trust",
        model=_model,
        test=0.5,
    )


def _datasets(rows):
    def dataset(of):
        parts = {"v": of.v.to_numpy(), "w": of[["w"]].to_numpy(), "t": of.t.to_numpy()}
        labels, weights = of.y.to_numpy(), of.trust.to_numpy()
        return tf.data.Dataset.from_tensor_slices((parts, labels, weights))

    clients = {str(who): dataset(of) for who, of in rows.groupby("who")}
    return tasks.from_datasets(clients, model=_model, test=0.5)


@pytest.mark.parametrize("made", [_tables, _datasets])
def test_one_record_or_client_more_moves_no_other(made):
    count = 120
    rows = pd.DataFrame(
        {
            "who": np.repeat(["a", "b", "c"], count // 3),
            "v": np.arange(count),
            "w": np.arange(count) / 7,
            "t": [f"text {i}" for i in range(count)],
            "y": np.arange(count) % 2,
            "trust": np.ones(count),
        }
    )

    def trained(task):
        return {
            (client_id, int(v))
            for client_id, examples in task.train.items()
            for v in examples["x/v"]
        }

    before = trained(made(rows))
    assert 0.3 * count < len(before) < 0.7 * count
    left = {(who, v) for who, v in before if who != "b"}
    assert trained(made(rows[rows.who != "b"])) == left
    for column, value in (("t", "other"), ("trust", 0.5), ("w", -1.0), ("y", 1)):
        changed = rows.copy()
        changed.loc[8, column] = value
        assert trained(made(changed)) ^ before <= {("a", 8)}
    fewer = trained(made(rows.drop(index=8)))
    assert fewer == before - {("a", 8)}


def test_a_label_that_does_not_fit_stops_a_private_run_before_any_release(tmp_path):
    clients = {
        str(i): tf.data.Dataset.from_tensor_slices((X, Y if i else Y + 2))
        for i in range(9, -1, -1)
    }
    experiment = dataclasses.replace(
        _private(tasks.from_datasets(clients, model=_model, test=0)),
        cohorts=tfl.Cohorts("poisson", cohort_size=1),
        training=tfl.Training(rounds=2, run_seed="1", evaluate_every=9),
    )
    rounds = experiment.rounds(tmp_path, stream=io.StringIO())
    with contextlib.closing(rounds), pytest.raises(UserError, match=r"'0', .* label 2"):
        next(rounds)
