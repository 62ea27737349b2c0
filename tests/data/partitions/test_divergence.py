"""Divergence statistics by hand and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats

from tfl_research.data.partitions import divergence

_DIVERGENCES = [
    divergence.total_variation,
    divergence.l1_distance,
    divergence.jensen_shannon,
]


def test_total_variation_and_l1_by_hand():
    # Everyone: (3/4, 1/4). Client 0: (1, 0), distance 1/4; client 1: (1/2, 1/2).
    counts = np.array([[2, 0], [1, 1], [0, 0]])
    found = divergence.total_variation(counts)
    np.testing.assert_allclose(found[:2], [0.25, 0.25])
    assert np.isnan(found[2])
    np.testing.assert_allclose(divergence.l1_distance(counts)[:2], [0.5, 0.5])


def test_disjoint_clients_by_hand():
    # p = 1/4 each, p_k = one of them: the mixture is 5/8 and three times 1/8.
    counts = np.eye(4, dtype=int) * 3
    assert divergence.total_variation(counts).tolist() == [0.75] * 4
    mixed = -(5 / 8) * np.log2(5 / 8) + (3 / 8) * 3
    assert divergence.jensen_shannon(counts) == pytest.approx([mixed - 1.0] * 4)
    assert divergence.effective_classes(counts).tolist() == [1.0] * 4


def test_divergences_tend_to_their_greatest_values_for_a_small_outlier():
    counts = np.array([[10**9, 0], [0, 1]])
    assert divergence.total_variation(counts)[1] == pytest.approx(1.0, abs=1e-6)
    assert divergence.jensen_shannon(counts)[1] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("statistic", _DIVERGENCES)
def test_one_client_one_class_and_equal_clients_do_not_diverge(statistic):
    assert statistic(np.array([[3, 4, 1]])).tolist() == pytest.approx([0], abs=1e-12)
    assert statistic(np.array([[3], [1]])).tolist() == [0, 0]
    assert statistic(np.array([[1, 2], [3, 6]])).tolist() == pytest.approx([0, 0])
    assert (statistic(np.array([[3, 4, 1], [6, 8, 2]])) >= 0).all()


def test_against_scipy():
    counts = np.random.default_rng(0).integers(0, 6, (30, 7))
    counts[4] = 0
    pooled = counts.sum(axis=0) / counts.sum()
    for k, held in enumerate(counts):
        found = [statistic(counts)[k] for statistic in _DIVERGENCES]
        classes = divergence.effective_classes(counts)[k]
        if k == 4:
            assert np.isnan([*found, classes]).all()
            continue
        share = held / held.sum()
        distance = scipy.spatial.distance.cityblock(share, pooled)
        root = scipy.spatial.distance.jensenshannon(share, pooled, base=2)
        assert found == pytest.approx([distance / 2, distance, root**2])
        assert classes == pytest.approx(np.exp(scipy.stats.entropy(held)))


def test_effective_classes_by_hand():
    counts = np.array([[5, 5, 0, 0], [2, 2, 2, 2], [0, 0, 0, 9], [2, 1, 1, 0]])
    # Entropies of 1, 2, 0 and 1.5 bits.
    assert divergence.effective_classes(counts) == pytest.approx([2, 4, 1, 2**1.5])


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([4, 4, 4], 0.0),
        ([7], 0.0),
        ([0, 0, 0, 12], 0.75),
        # Mean absolute difference of pairs (with themselves): 2 * 2 / 4 = 1; mean 2.
        ([1, 3], 0.25),
        # |differences| 1 + 1 + 2, twice, over 9 pairs: 8 / 9; mean 2.
        ([3, 1, 2], 2 / 9),
    ],
)
def test_gini_by_hand(sizes, expected):
    assert divergence.gini(np.array(sizes)) == pytest.approx(expected)


def test_gini_is_half_the_relative_mean_difference():
    sizes = np.random.default_rng(2).integers(0, 100, 40)
    expected = np.abs(sizes[:, None] - sizes).mean() / 2 / sizes.mean()
    assert divergence.gini(sizes) == pytest.approx(expected)


def test_gini_without_examples_and_of_what_are_no_sizes():
    assert np.isnan(divergence.gini(np.zeros(3, int)))
    assert np.isnan(divergence.gini(np.zeros(0, int)))
    for wrong in ([-1, 2], [np.nan, 1.0], [[1, 2]]):
        with pytest.raises(ValueError, match="sizes must be finite and at least 0"):
            divergence.gini(np.array(wrong))


@pytest.mark.parametrize("counts", [[1, 2], [[1, -1]]])
def test_what_are_no_counts_is_refused(counts):
    with pytest.raises(ValueError, match=r"labels must be counts \[clients, classes\]"):
        divergence.l1_distance(np.array(counts))


def test_iid_counts_keep_sizes_and_diverge_as_chance_has_it():
    # E|Binomial(n, 1/2)/n - 1/2| is about sqrt(1 / (2 pi n)) by the normal limit.
    size = 400
    labels = np.full((3000, 2), size // 2)
    expected = np.sqrt(1 / (2 * np.pi * size))
    for seed in (0, 1):
        drawn = divergence.iid_counts(labels, seed=seed)
        assert (drawn.sum(axis=1) == size).all()
        found = divergence.total_variation(drawn).mean()
        assert found == pytest.approx(expected, rel=0.05)
    assert divergence.iid_counts(np.zeros((2, 3), int)).tolist() == [[0] * 3] * 2
    some = divergence.iid_counts(np.array([[3, 1], [0, 0]]))
    assert some.sum(axis=1).tolist() == [4, 0]
