"""Every metric of a round becomes a cell or a measurement, under a documented name."""

from __future__ import annotations

import collections
import json

import numpy as np
import pytest

from tfl_research.errors import UserError
from tfl_research.storage.metrics import measurements
from tfl_research.storage.metrics.measurements import MeasurementsLog
from tfl_research.storage.metrics.round_metrics import (
    column_names,
    measurements as measured,
    round_row,
)

# What `tff.learning.algorithms.build_weighted_fed_avg` reports, and more.
LEARNING = collections.OrderedDict(
    distributor=(),
    client_work=collections.OrderedDict(
        train=collections.OrderedDict(
            loss=np.float32(0.5),
            sparse_categorical_accuracy=np.float32(0.25),
            num_examples=np.int64(2**53 + 1),
            confusion=np.array([[1, 2], [3, 4]]),
            nested={"auc": np.float32(0.75)},
        )
    ),
    aggregator=collections.OrderedDict(
        mean_value=(), clipping_norm=np.float32(2.0), zeroed=np.int32(1)
    ),
    finalizer=collections.OrderedDict(update_non_finite=np.int32(0)),
)


def given(metrics):
    """The cells that have a value, without those of every run."""
    row = round_row(1, 2, metrics)
    every = ("round", "cohort_size", "epsilon")
    return {n: c for n, c in row.items() if c is not None and n not in every}


def test_a_learning_process():
    assert given(LEARNING) == {
        "examples": 2**53 + 1,
        "train_loss": 0.5,
        "train_accuracy": 0.25,
        "train_sparse_categorical_accuracy": 0.25,
        "train_num_examples": 2**53 + 1,
        "train_nested.auc": 0.75,
        "clip_norm": 2.0,
        "aggregator_zeroed": 1,
        "finalizer.update_non_finite": 0,
    }
    found = measured(LEARNING)
    assert list(found) == ["train_confusion"]
    np.testing.assert_array_equal(found["train_confusion"], [[1, 2], [3, 4]])


def test_two_accuracies_are_none():
    train = {"binary_accuracy": 0.5, "categorical_accuracy": 0.25}
    cells = given({"client_work": {"train": train}})
    assert "train_accuracy" not in cells
    assert cells["train_binary_accuracy"] == 0.5


@pytest.mark.parametrize(
    "name",
    [
        "epsilon",
        "round",
        "cohort_size",
        "eval_loss",
        "held_out_accuracy",
        "private_accuracy",
        "shared_epsilon",
        "clip_norm",
        "examples",
        "round_seconds",
        "delta",
    ],
)
def test_a_column_with_another_meaning_is_not_taken(name):
    assert given({name: np.float32(0.125)}) == {f"metrics.{name}": 0.125}


def test_any_form():
    assert given(np.float32(2)) == {"metrics": 2.0}
    assert given((np.int32(1), {"b": np.int32(2)})) == {
        "metrics.0": 1,
        "metrics.1.b": 2,
    }
    assert given(()) == {}
    # A path and a name that look alike are both there.
    assert given({"a.b": 1, "a": {"b": 2}}) == {"a.b": 1, "a.b_2": 2}
    assert given({"train": np.float32(1)}) == {"train": 1.0}
    assert given({"train_loss": np.float32(1)}) == {"train_loss": 1.0}


def test_names_that_mlflow_takes():
    assert given({"top 5 (%)": 1, "a/b": 2}) == {"top 5 ___": 1, "a/b": 2}


def test_names_that_tables_would_compute():
    found = given({"=1+1": 1, "-1": 2, "a,b\n": 3})
    assert found == {"_1_1": 1, "_1": 2, "a_b_": 3}


def test_a_cohort_of_another_process_is_a_metric():
    metrics = {
        "train": {"loss": 1.0},
        "cohort": {"size": 3, "excluded": np.array([1, 2])},
        "client_states": 4.0,
    }
    assert given(metrics) == {"train_loss": 1.0, "cohort.size": 3, "client_states": 4.0}
    assert measured(metrics)["cohort.excluded"].tolist() == [1, 2]


def test_client_states_of_another_process_are_metrics():
    assert given({"client_states": np.float32(1)}) == {"client_states": 1.0}


def test_names_without_values():
    names = column_names({"client_work": {"train": {"loss": "?"}}, "epsilon": "?"})
    assert names == ["train_loss", "metrics.epsilon"]


ARRAYS = {
    "floats": np.array([[0.1, np.nan], [np.inf, -np.inf]], np.float32),
    "integers": np.array([2**62, -1]),
    "flags": np.array([True, False]),
    "complex": np.array([1 + 2j], np.complex64),
    "texts": np.array(["ε", ""], object),
    "bytes": np.array([b"word", b""], object),
    "no utf-8": np.array([b"\xff\x00"], object),
    "empty": np.zeros((0, 2), np.float64),
}


def test_measurements_are_read_as_they_were(tmp_path):
    path = tmp_path / "measurements.jsonl"
    log = MeasurementsLog(path)
    log.append(1, {})
    assert not path.exists()
    log.append(2, ARRAYS)
    log.sync()
    log.close()
    (read,) = measurements.read(path).values()
    for name, array in ARRAYS.items():
        assert read[name].dtype == array.dtype, name
        np.testing.assert_array_equal(read[name], array)
    # Each line is strict JSON.
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(name))


def test_a_text_alone_and_a_type_that_numpy_has_not(tmp_path):
    tf = pytest.importorskip("tensorflow")
    found = measured({"name": b"word", "half": tf.constant([0.5], tf.bfloat16)})
    log = MeasurementsLog(tmp_path / "measurements.jsonl")
    log.append(1, found)
    log.close()
    read = measurements.read(tmp_path / "measurements.jsonl")[1]
    assert read["name"][()] == b"word"
    assert read["half"].tolist() == [0.5]


def test_rounds_after_the_checkpoint_are_dropped(tmp_path):
    path = tmp_path / "measurements.jsonl"
    log = MeasurementsLog(path)
    for number in (1, 2, 3):
        log.append(number, {"vector": np.array([number])})
    log.close()
    # A kill cut the last line off.
    path.write_text(path.read_text()[:-5])
    assert list(measurements.read(path)) == [1, 2]
    log = MeasurementsLog(path, completed_rounds=1)
    assert list(log.names) == ["vector"]
    log.append(2, {"vector": np.array([7])})
    log.close()
    read = measurements.read(path)
    assert {number: each["vector"].tolist() for number, each in read.items()} == {
        1: [1],
        2: [7],
    }


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "measurements.jsonl"
    value = '{"dtype": "int64", "shape": [5], "values": [1]}'
    other_shape = f'{{"format": 1}}\n{{"round": 1, "values": {{"a": {value}}}}}\n'
    for text in (
        "no JSON\n",
        '{"format": 9}\n',
        '{"format": 1}\n{"round": 1}\n',
        other_shape,
        "\udcff\n",
    ):
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(UserError, match="measurements"):
            measurements.read(path)
