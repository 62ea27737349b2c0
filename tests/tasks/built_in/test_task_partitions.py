"""Partitions as options of tasks: simulated clients, skews over natural ones."""

from __future__ import annotations

import numpy as np
import pytest

from tfl_research import tasks
from tfl_research.data import ClientData
from tfl_research.data.partitions import client_skews, partition_options


def _all_labels(task):
    parts = [p for p in (task.train, task.test, task.held_out) if p is not None]
    return np.concatenate([e["y"] for p in parts for _, e in p.items()])


def _images(*parts):
    return {
        image.tobytes() for part in parts for _, e in part.items() for image in e["x"]
    }


@pytest.fixture(scope="module")
def plain():
    return tasks.get("mnist", num_clients=10, held_out_clients=2, seed=5)


def _like_plain(**options):
    return tasks.get("mnist", num_clients=10, held_out_clients=2, seed=5, **options)


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_mnist_rotation_turns_images_by_client_in_training_and_test(model):
    task = _like_plain(partition="rotation", rotation_degrees=55.0, model=model)
    assert task.train.specs["x"].shape == ((784,) if model == "mlp" else (28, 28, 1))
    level = _like_plain(partition="rotation", rotation_degrees=0.0, model=model)
    angles = client_skews.client_angles(12, 55.0)
    for split in ("train", "test"):
        for client in task.train.client_ids[::5]:
            upright = getattr(level, split).load(client)
            turned = getattr(task, split).load(client)
            expected = client_skews.rotate_images(
                upright["x"].reshape(-1, 28, 28),
                angles[int(client[-4:])],
                background=0.0,
            )
            np.testing.assert_array_equal(turned["x"].reshape(-1, 28, 28), expected)
            np.testing.assert_array_equal(turned["y"], upright["y"])


def test_mnist_noise_grows_with_the_client():
    task = _like_plain(partition="noise", noise_level=0.6)
    # A corner of an image is 0 before: its deviation is the noise's.
    assert len(task.train.client_ids) == 10  # Two are held out.
    for client in task.train.client_ids:
        held = np.concatenate([p.load(client)["x"] for p in (task.train, task.test)])
        corner = held.reshape(-1, 28, 28)[:, :3, :3]
        level = 0.6 * (int(client[-4:]) + 1) / 12
        assert corner.std() == pytest.approx(level, rel=0.1)


def test_mnist_concepts_relabel_groups_in_training_test_and_held_out():
    task = _like_plain(partition="concept_shift", num_concepts=3)
    same = _like_plain(partition="concept_shift", num_concepts=1)
    names: dict[int, set] = {0: set(), 1: set(), 2: set()}
    for split in ("train", "test", "held_out"):
        for client, held in getattr(task, split).items():
            before = getattr(same, split).load(client)
            np.testing.assert_array_equal(held["x"], before["x"])
            names[int(client[-4:]) % 3] |= set(
                zip(before["y"].tolist(), held["y"].tolist())
            )
    for group, pairs in names.items():
        assert len(pairs) == 10  # one name for each label
        assert all((old == new) == (group == 0) for old, new in pairs)
    assert not names[1] & names[2]


def test_mnist_quantity_has_unequal_sizes(plain):
    task = _like_plain(partition="quantity", quantity_alpha=0.3)
    assert _images(task.train, task.test, task.held_out) == _images(
        plain.train, plain.test, plain.held_out
    )
    sizes = [task.train.num_examples(client) for client in task.train.client_ids]
    assert min(sizes) >= 1
    assert max(sizes) > 2 * np.median(sizes)


class TestSyntheticEmnist:
    """TFF's sample: two writers of the digits 0 to 9."""

    def test_simulated_clients_hold_every_image_once(self):
        natural = tasks.get("emnist", synthetic=True)
        task = tasks.get(
            "emnist",
            synthetic=True,
            partition="shards",
            num_clients=5,
            only_digits=True,
        )
        assert len(task.train) + len(task.held_out) == 5
        assert np.bincount(_all_labels(task)).tolist() == [2] * 10
        assert _images(task.train, task.test, task.held_out) == _images(
            natural.train, natural.test, natural.held_out
        )
        # Two shards of two images each: the same digit of both writers.
        for _, held in task.held_out.items():
            assert sorted(np.bincount(held["y"])[np.unique(held["y"])]) == [2, 2]
        assert task.card.client_unit == "simulated client"
        assert "shards partition" in task.card.title

    def test_skews_are_laid_over_writers(self):
        natural = tasks.get("emnist", synthetic=True, held_out_fraction=0.0)
        task = tasks.get(
            "emnist", synthetic=True, held_out_fraction=0.0, partition="noise"
        )
        assert task.train.client_ids == natural.train.client_ids
        assert task.card.client_unit == "writer"
        for rank, client in enumerate(task.train.client_ids, 1):
            change = task.train.load(client)["x"] - natural.train.load(client)["x"]
            assert change.std() == pytest.approx(0.5 * rank / 2, rel=0.05)

    def test_as_many_clients_as_writers_unless_told(self):
        task = tasks.get("emnist", synthetic=True, partition="iid")
        assert len(task.train) + len(task.held_out) == 2


class TestSyntheticCifar100:
    """TFF's sample: a client of five images to train on, and another held out."""

    def test_both_parts_are_split_anew(self):
        natural = tasks.get("cifar100", synthetic=True)
        task = tasks.get(
            "cifar100", synthetic=True, partition="quantity", num_clients=3
        )
        assert task.train.client_ids == ("client_0000", "client_0001", "client_0002")
        assert task.held_out.client_ids == ("test_0000",)
        assert _images(task.train, task.test) == _images(natural.train, natural.test)
        assert _images(task.held_out) == _images(natural.held_out)

    def test_rotations_are_laid_over_natural_clients(self):
        natural = tasks.get("cifar100", synthetic=True, test_fraction=0.0)
        task = tasks.get(
            "cifar100",
            synthetic=True,
            test_fraction=0.0,
            partition="rotation",
            rotation_degrees=90.0,
        )
        # The only client of each part has angle 0.
        assert _images(task.train) == _images(natural.train)
        assert task.train.client_ids == natural.train.client_ids


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partition": "random"}, "partition must be one of natural, iid, dirichlet"),
        ({"num_clients": 3}, "num_clients=3 needs a partition other than natural"),
        ({"partition": "iid", "num_clients": 0}, "num_clients must be at least 1"),
        ({"partition": "iid", "num_clients": 99}, "at most the number of examples"),
        ({"num_concepts": 0}, "num_concepts must be at least 1, got 0"),
    ],
)
@pytest.mark.parametrize("name", ["emnist", "cifar100"])
def test_options_out_of_range(name, options, message):
    with pytest.raises(ValueError, match=message):
        tasks.get(name, synthetic=True, **options)


def test_every_partition_names_the_option_that_it_reads():
    titles = {
        name: partition_options.PartitionOptions(name).title()
        for name in partition_options.PARAMETERS
    }
    assert titles["iid"] == ", iid partition"
    assert titles["noise"] == ", noise partition, noise_level=0.5"
    assert partition_options.PartitionOptions("natural").title() == ""
    taken = tasks.options("mnist")
    for option in filter(None, partition_options.PARAMETERS.values()):
        assert taken[option] == getattr(
            partition_options.PartitionOptions("iid"), option
        )


def test_options_that_are_not_read():
    partition_options.check_read(["dirichlet_alpha", "num_clients"], "dirichlet")
    with pytest.raises(
        ValueError, match=("noise_level has an effect only with partition=noise")
    ):
        partition_options.check_read(["num_clients", "noise_level"], "iid")


def test_nothing_to_pool_is_refused():
    nobody = ClientData.from_arrays(
        {"a": {"x": np.zeros((0, 2), np.float32), "y": np.zeros(0, int)}}
    )
    with pytest.raises(ValueError, match="no client has an example"):
        partition_options.pooled([nobody])
