"""Feature divergence: hand numbers, expectations by dealing anew, planted skews."""

from __future__ import annotations

import numpy as np
import pytest

from tfl_research.data import ClientData
from tfl_research.data.partitions import client_skews
from tfl_research.data.partitions.feature_divergence import feature_divergence


def clients(*held):
    return ClientData.from_arrays(
        {
            f"c{k}": {"x": np.asarray(x, np.float32), "y": np.asarray(y)}
            for k, (x, y) in enumerate(held)
        }
    )


def test_two_clients_by_hand():
    # All of 0, 2, 2, 4: mean 2, variance 2; label 0 has 0, 2 and label 1 has 2, 4.
    found = feature_divergence(
        clients(([[0.0], [2.0]], [0, 1]), ([[2.0], [4.0]], [0, 1]))
    )
    np.testing.assert_allclose(found["mean shift"].values, [0.5, 0.5])
    np.testing.assert_allclose(found["variance"].values, [0.5, 0.5])
    # 0 and 2 are 1 off the means of their labels, 1 and 3.
    np.testing.assert_allclose(found["shift given label"].values, [0.5, 0.5])
    # Means of two of the four: variance 2 / 2 * (4 - 2) / (4 - 1).
    np.testing.assert_allclose(found["mean shift"].iid, [1 / 3, 1 / 3])
    np.testing.assert_allclose(found["variance"].iid, [2 / 3, 2 / 3])
    # One of two, of variance 1.
    np.testing.assert_allclose(found["shift given label"].iid, [0.5, 0.5])


def test_expectations_are_the_means_over_examples_that_are_dealt_anew():
    generator = np.random.default_rng(1)
    x, sizes = generator.gamma(1.0, size=(30, 3)), [3, 10, 17]
    labels = np.array([0] * 12 + [1] * 11 + [2] * 7)

    def dealt(order, owner):
        parts = [order[owner == k] for k in range(len(sizes))]
        return feature_divergence(clients(*((x[p], labels[p]) for p in parts)))

    owner = generator.permutation(np.repeat(range(len(sizes)), sizes))
    expected = dealt(np.arange(30), owner)
    draws = []
    for _ in range(1500):
        # Within labels, so that everyone keeps its own.
        within = np.concatenate(
            [generator.permutation(np.flatnonzero(labels == c)) for c in range(3)]
        )
        free = dealt(generator.permutation(30), owner)
        kept = dealt(within, owner)
        draws.append(
            (
                free["mean shift"].values,
                free["variance"].values,
                kept["shift given label"].values,
            )
        )
    names = ("mean shift", "variance", "shift given label")
    for name, mean in zip(names, np.mean(draws, axis=0)):
        np.testing.assert_allclose(mean, expected[name].iid, rtol=0.08)


def excess(data):
    """Mean by what is expected."""
    return {
        name: np.nanmean(found.values) / np.nanmean(found.iid)
        for name, found in feature_divergence(data).items()
    }


@pytest.fixture(scope="module")
def iid():
    generator = np.random.default_rng(2)
    shapes = generator.random((3, 4, 4))
    held = []
    for _ in range(12):
        y = generator.integers(0, 3, 40)
        held.append((shapes[y] + generator.normal(scale=0.3, size=(40, 4, 4)), y))
    return clients(*held)


def test_each_skew_shows_where_it_should(iid):
    plain = excess(iid)
    assert all(0.8 < value < 1.25 for value in plain.values()), plain
    turned = excess(client_skews.rotation(iid, 90))
    assert turned["mean shift"] > 2
    assert turned["shift given label"] > 2
    noisy = feature_divergence(client_skews.noise(iid, 2.0, seed=0))["variance"].values
    assert noisy[-1] > 3 * noisy[0]
    renamed = excess(client_skews.concept_shift(iid, 3, num_classes=3, seed=0))
    assert renamed["mean shift"] == pytest.approx(plain["mean shift"])
    assert renamed["shift given label"] > 2


def test_clients_without_examples_and_single_ones():
    nobody = (np.zeros((0, 1)), np.zeros(0, int))
    found = feature_divergence(clients(([[1.0], [3.0]], [0, 0]), nobody))
    for figures in found.values():
        assert np.isnan(figures.values).tolist() == [False, True]
    # One client is all clients.
    assert found["mean shift"][0][0] == found["mean shift"].iid[0] == 0
    assert found["variance"].values[0] == found["variance"].iid[0] == 1
    single = feature_divergence(clients(([[1.0]], [0]), ([[3.0]], [1])))
    np.testing.assert_allclose(single["mean shift"].iid, [1, 1])
    np.testing.assert_allclose(single["shift given label"].values, [0, 0])
    np.testing.assert_allclose(single["shift given label"].iid, [0, 0])


def test_what_has_no_such_statistics():
    assert not feature_divergence(clients(([[1.0], [1.0]], [0, 1])))
    assert not feature_divergence(clients((np.zeros((0, 2)), np.zeros(0, int))))
    tokens = {"c": {"x": np.ones((2, 3), np.int32), "y": np.zeros(2, int)}}
    assert not feature_divergence(ClientData.from_arrays(tokens))
    # Labels that are no classes.
    regression = clients(([[1.0], [2.0]], [0.5, 0.7]))
    assert list(feature_divergence(regression)) == ["mean shift", "variance"]
