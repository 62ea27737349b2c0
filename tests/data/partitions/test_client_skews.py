"""Skews of features and concepts: by hand, and as clients are loaded."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.stats

from tfl_research.data import ClientData, client_splits
from tfl_research.data.partitions import client_skews


def _images(clients=4, examples=3, side=5):
    generator = np.random.default_rng(0)
    return ClientData.from_arrays(
        {
            f"c{k}": {
                "x": generator.random((examples, side, side)).astype(np.float32),
                "y": generator.integers(0, 3, examples).astype(np.int32),
            }
            for k in range(clients)
        }
    )


def test_angles_and_levels_by_hand():
    assert client_skews.client_angles(5, 30).tolist() == [-30, -15, 0, 15, 30]
    assert client_skews.client_angles(1, 30).tolist() == [0]
    assert client_skews.client_noise_levels(4, 0.2).tolist() == pytest.approx(
        [0.05, 0.1, 0.15, 0.2]
    )
    assert client_skews.client_noise_levels(1, 0.2).tolist() == [0.2]


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [
        (0, [[1, 2], [3, 4]]),
        (90, [[2, 4], [1, 3]]),  # counter-clockwise
        (-90, [[3, 1], [4, 2]]),
        (180, [[4, 3], [2, 1]]),
        (450, [[2, 4], [1, 3]]),
    ],
)
def test_quarter_turns_by_hand(degrees, expected):
    image = np.array([[[1, 2], [3, 4]]], np.float32)
    turned = client_skews.rotate_images(image, degrees, background=9)
    assert turned.tolist() == [expected]
    colours = np.stack([image, image + 10], axis=-1)
    turned = client_skews.rotate_images(colours, degrees, background=9)
    assert turned[..., 1].tolist() == (np.array([expected]) + 10).tolist()


def test_an_eighth_of_a_turn_by_hand():
    # One pixel right of the centre of 5 x 5 moves up and right by 1 / sqrt(2), so
    # the pixel at (1, 3) reads, going back, a point at distance sqrt(2) on the right.
    image = np.zeros((1, 5, 5), np.float32)
    image[0, 2, 3] = 1.0
    turned = client_skews.rotate_images(image, 45, background=0)[0]
    assert turned[1, 3] == pytest.approx(2 - np.sqrt(2))
    # Counter-clockwise: nothing below the centre, but for the bilinear blur.
    assert turned[3:].sum() == pytest.approx(0.0)
    # The turn and its opposite agree but for a mirror.
    back = client_skews.rotate_images(image, -45, background=0)[0]
    np.testing.assert_allclose(back, turned[::-1], atol=1e-6)


def test_almost_a_quarter_turn_is_almost_the_exact_one():
    images = np.random.default_rng(1).random((2, 7, 7, 3)).astype(np.float32)
    exact = client_skews.rotate_images(images, 90, background=0)
    close = client_skews.rotate_images(images, 90.0001, background=0)
    np.testing.assert_allclose(close[:, 1:-1, 1:-1], exact[:, 1:-1, 1:-1], atol=1e-3)


def test_corners_are_filled_with_the_background():
    turned = client_skews.rotate_images(np.zeros((1, 9, 9)), 45, background=1.0)
    assert turned[0, 0, 0] == 1.0
    assert turned[0, 4, 4] == 0.0


def test_rotation_turns_each_client_by_its_own_angle():
    data = _images()
    skewed = client_skews.rotation(data, 90)
    for client, degrees in zip(data.client_ids, (-90, -30, 30, 90)):
        before, after = data.load(client), skewed.load(client)
        np.testing.assert_array_equal(
            after["x"],
            client_skews.rotate_images(before["x"], degrees, background=0),
        )
        assert after["x"].dtype == np.float32
        np.testing.assert_array_equal(after["y"], before["y"])
    assert skewed.specs == data.specs


def test_flattened_images_are_turned_as_images():
    data = _images()
    flat = ClientData.from_arrays(
        {c: {"x": e["x"].reshape(-1, 25), "y": e["y"]} for c, e in data.items()}
    )
    turned = client_skews.rotation(flat, 50, image_shape=(5, 5))
    for client, held in client_skews.rotation(data, 50).items():
        np.testing.assert_array_equal(
            turned.load(client)["x"], held["x"].reshape(-1, 25)
        )


def test_noise_grows_with_the_client_and_is_gaussian():
    clients = {
        f"c{k}": {"x": np.full((50, 20, 20), k, np.float32), "y": np.zeros(50, int)}
        for k in range(4)
    }
    skewed = client_skews.noise(ClientData.from_arrays(clients), 0.8, seed=3)
    for k, (_, held) in enumerate(skewed.items()):
        drawn = (held["x"].ravel() - k) / (0.2 * (k + 1))
        assert held["x"].dtype == np.float32
        assert scipy.stats.kstest(drawn, "norm").pvalue > 1e-3
    first, second = (skewed.load(c)["x"].ravel() - k for k, c in ((0, "c0"), (1, "c1")))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


def test_noise_is_a_function_of_seed_part_and_client():
    data = _images()

    def loaded(**options):
        return client_skews.noise(data, 0.5, **options).load("c1")["x"]

    first = loaded(seed=1)
    np.testing.assert_array_equal(first, loaded(seed=1))
    assert not np.array_equal(first, loaded(seed=2))
    assert not np.array_equal(first, loaded(seed=1, part="test"))


def test_concepts_are_permutations_that_agree_on_no_label():
    labels = client_skews.concept_labels(5, 5, np.random.default_rng(0))
    assert labels[0].tolist() == [0, 1, 2, 3, 4]
    for line in (*labels, *labels.T):  # a Latin square
        assert sorted(line.tolist()) == [0, 1, 2, 3, 4]
    # The second concept is the first applied twice: two steps on the circle.
    np.testing.assert_array_equal(labels[2], labels[1][labels[1]])
    binary = client_skews.concept_labels(2, 2, np.random.default_rng(0))
    assert binary.tolist() == [[0, 1], [1, 0]]
    one = client_skews.concept_labels(1, 1, np.random.default_rng(0))
    assert one.tolist() == [[0]]


def test_concept_shift_deals_concepts_in_turns():
    data = _images(clients=5)
    skewed = client_skews.concept_shift(data, 2, num_classes=3, seed=7)
    swaps = []
    for k, (client, held) in enumerate(skewed.items()):
        before = data.load(client)
        np.testing.assert_array_equal(held["x"], before["x"])
        assert held["y"].dtype == np.int32
        if k % 2 == 0:
            np.testing.assert_array_equal(held["y"], before["y"])
        else:
            assert (held["y"] != before["y"]).all()
            swaps += zip(before["y"].tolist(), held["y"].tolist())
    # The same x is called the same within the group.
    assert len(set(swaps)) == len({old for old, _ in swaps}) > 1


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_refused_and_not_taken_for_the_last(label):
    data = _images(clients=3)
    load = data.load

    def with_label(client):
        held = load(client)
        return {**held, "y": np.append(held["y"][:-1], np.int32(label))}

    wrong = dataclasses.replace(data, load=with_label)
    skewed = client_skews.concept_shift(wrong, 2, num_classes=3, seed=7)
    client = data.client_ids[1]
    with pytest.raises(ValueError, match=f"from 0 to 2, and client {client} has the "):
        skewed.load(client)


def test_a_skew_is_kept_by_subsets_and_splits_alike():
    data = _images(clients=6, examples=10)
    for skew in (
        lambda d: client_skews.rotation(d, 60),
        lambda d: client_skews.noise(d, 0.3, seed=0),
        lambda d: client_skews.concept_shift(d, 3, num_classes=3, seed=0),
    ):
        whole = skew(data).load("c4")
        train, test = client_splits.split_each_client(
            skew(data).subset(["c1", "c4"]),
            test_fraction=0.4,
            seed=0,
            unchanged=data,
        )
        plain, _ = client_splits.split_each_client(data, test_fraction=0.4, seed=0)
        parts = [train.load("c4"), test.load("c4")]
        # The skew moves no example.
        assert len(parts[0]["y"]) == plain.num_examples("c4") < 10
        rows = {image.tobytes() for image in whole["x"]}
        assert {i.tobytes() for part in parts for i in part["x"]} == rows


def test_clients_load_lazily_and_may_be_empty():
    loads = []
    data = _images()

    def load(client):
        loads.append(client)
        held = data.load(client)
        return {name: held[name][:0] for name in ("x", "y")}

    empty = ClientData(data.client_ids, load, data.specs)
    skews = [
        client_skews.rotation(empty, 45),
        client_skews.noise(empty, 1.0, seed=0),
        client_skews.concept_shift(empty, 2, num_classes=3, seed=0),
    ]
    assert loads == []
    for skewed in skews:
        assert skewed.load("c1")["x"].shape == (0, 5, 5)
        assert skewed.load("c1")["x"].dtype == np.float32
    assert loads == ["c1"] * 3  # what is loaded again is kept


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: client_skews.rotation(d, 181), "from 0 to 180, got 181"),
        (lambda d: client_skews.rotation(d, np.nan), "from 0 to 180, got nan"),
        (
            lambda d: client_skews.rotation(d, 9, image_shape=(5, 4)),
            r"square images, got x of \(5, 4\)",
        ),
        (
            lambda d: client_skews.rotation(d, 9, image_shape=(4, 4)),
            r"x of shape \(5, 5\) and images of shape \(4, 4\) have different",
        ),
        (lambda d: client_skews.noise(d, 0, seed=0), "above 0 and finite, got 0"),
        (lambda d: client_skews.noise(d, np.inf, seed=0), "above 0 and finite"),
        (
            lambda d: client_skews.concept_shift(d, 4, num_classes=3, seed=0),
            "from 1 to the number of classes, 3, got 4",
        ),
        (
            lambda d: client_skews.concept_shift(d, 0, num_classes=3, seed=0),
            "got 0",
        ),
        (lambda d: client_skews.noise(d.subset([]), 1, seed=0), "num_clients"),
        (lambda _: client_skews.client_angles(0, 3), "num_clients"),
        (
            lambda _: client_skews.rotate_images(np.zeros((1, 2, 3)), 9, background=0),
            r"square images .* got \(1, 2, 3\)",
        ),
        (
            lambda _: client_skews.rotate_images(
                np.zeros((1, 2, 2)), np.inf, background=0
            ),
            "degrees must be finite",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(_images())


def test_features_and_labels_of_the_wrong_kind_are_refused():
    integers = ClientData.from_arrays(
        {"a": {"x": np.zeros((1, 2), np.int32), "y": np.zeros(1, np.float32)}}
    )
    with pytest.raises(ValueError, match="floating-point features, got int32"):
        client_skews.noise(integers, 1.0, seed=0)
    with pytest.raises(ValueError, match="integer labels, got float32"):
        client_skews.concept_shift(integers, 1, num_classes=2, seed=0)
