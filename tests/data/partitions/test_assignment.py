"""Partitions: hand numbers, properties, limits and refusals."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
import scipy.stats
from hypothesis import strategies as st

from tfl_research.data.partitions import assignment

_METHODS = ["iid", "dirichlet", "shards", "quantity"]


def _generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _make(method: str, labels: np.ndarray, clients: int, seed: int = 0):
    if method == "iid":
        return assignment.iid(labels, clients, _generator(seed))
    if method == "dirichlet":
        return assignment.dirichlet(labels, clients, _generator(seed), alpha=0.3)
    if method == "quantity":
        return assignment.quantity(labels, clients, _generator(seed), alpha=0.3)
    return assignment.shards(labels, clients, _generator(seed), shards_per_client=1)


@hypothesis.given(
    method=st.sampled_from(_METHODS),
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    data=st.data(),
)
@hypothesis.settings(deadline=None, max_examples=150)
def test_every_example_is_in_exactly_one_client_and_none_is_empty(method, labels, data):
    clients = data.draw(st.integers(1, len(labels)))
    parts = _make(method, np.asarray(labels), clients)
    assert len(parts) == clients
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    sizes = [len(part) for part in parts]
    assert min(sizes) >= 1
    if method != "quantity":
        assert max(sizes) - min(sizes) <= 1
    for part in parts:
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()


@pytest.mark.parametrize("method", _METHODS)
def test_a_partition_is_a_function_of_its_seed(method):
    labels = np.arange(200) % 10
    first = _make(method, labels, 20, seed=3)
    again = _make(method, labels, 20, seed=3)
    other = _make(method, labels, 20, seed=4)
    assert len(first) == len(again) == len(other) == 20
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other))


@pytest.mark.parametrize("method", _METHODS)
def test_text_labels_are_partitioned_like_numbers(method):
    numbers = np.arange(60) % 3
    texts = np.array(["a", "b", "c"])[numbers]
    of_numbers, of_texts = _make(method, numbers, 6), _make(method, texts, 6)
    assert len(of_numbers) == len(of_texts) == 6
    for a, b in zip(of_numbers, of_texts):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("method", _METHODS)
@pytest.mark.parametrize("clients", [0, -1, 6])
def test_impossible_numbers_of_clients_are_refused(method, clients):
    with pytest.raises(ValueError, match=rf"num_clients .* got {clients}"):
        _make(method, np.zeros(5, int), clients)


def test_shards_by_hand():
    # Sorted by label (stably): examples 1 4 | 2 5 | 0 3, labels 0 0 | 1 1 | 2 2.
    labels = np.array([2, 0, 1, 2, 0, 1])
    parts = assignment.shards(labels, 3, _generator(), shards_per_client=1)
    assert sorted(part.tolist() for part in parts) == [[0, 3], [1, 4], [2, 5]]


def test_shards_give_mcmahans_two_labels_per_client():
    # 10 labels of 60 examples, 100 clients of 2 shards of 3: no shard is mixed.
    labels = np.repeat(np.arange(10), 60)
    parts = assignment.shards(labels, 100, _generator())
    assert len(parts) == 100
    for part in parts:
        assert len(part) == 6
        assert len(np.unique(labels[part])) <= 2


def test_more_shards_than_examples_are_refused():
    with pytest.raises(ValueError, match="at least 8 examples, got 6"):
        assignment.shards(np.zeros(6, int), 4, _generator())
    with pytest.raises(ValueError, match="shards_per_client must be at least 1, got 0"):
        assignment.shards(np.zeros(6, int), 2, _generator(), shards_per_client=0)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_a_concentration_that_is_not_positive_is_refused(alpha):
    for skew in (assignment.dirichlet, assignment.quantity):
        with pytest.raises(ValueError, match="alpha must be above 0"):
            skew(np.arange(4), 2, _generator(), alpha=alpha)


@pytest.mark.parametrize("alpha", [9e-7, 1e-12, 5e-324])
def test_a_concentration_whose_draws_take_hours_is_refused(alpha):
    for skew in (assignment.dirichlet, assignment.quantity):
        with pytest.raises(ValueError, match=r"at least 1e-06, got .*hours"):
            skew(np.arange(40) % 4, 10, _generator(), alpha=alpha)


def test_at_the_least_concentration_a_draw_is_one_class_or_one_client():
    parts = assignment.dirichlet(
        np.repeat(np.arange(4), 1000), 8, _generator(), alpha=1e-6
    )
    # The first hundred of each class outlast no client's 500 turns: one class each,
    # but for the clients whose class is used up.
    largest = [np.bincount(part // 1000, minlength=4).max() for part in parts]
    assert np.median(largest) >= 250
    parts = assignment.quantity(np.arange(4000), 8, _generator(), alpha=1e-6)
    assert sorted(len(part) for part in parts) == [1] * 7 + [3993]


def _mean_largest_share(alpha: float, seed: int = 0) -> float:
    labels = np.repeat(np.arange(10), 500)
    parts = assignment.dirichlet(labels, 50, _generator(seed), alpha=alpha)
    return float(np.mean([np.bincount(labels[p]).max() / len(p) for p in parts]))


def test_a_tiny_concentration_gives_a_client_one_class_until_classes_run_out():
    # Each of 50 clients wants one of 10 classes; a class has enough for 5 clients,
    # and Binomial(50, 1/10) of them want it: E[min(wanted, 5)] / 5 are served
    # at most, for those who are not then take from the other classes too.
    wanted = np.arange(51)
    served = np.sum(scipy.stats.binom.pmf(wanted, 50, 0.1) * np.minimum(wanted, 5)) / 5
    shares = [_mean_largest_share(1e-4, seed) for seed in range(10)]
    assert served - 0.06 < np.mean(shares) < served


def test_a_huge_concentration_gives_every_client_the_global_distribution():
    # 100 draws of 10 equal classes: the largest share is about 0.16 by chance.
    iid = assignment.iid(np.arange(5000), 50, _generator())
    labels = np.repeat(np.arange(10), 500)
    by_chance = np.mean([np.bincount(labels[p]).max() / len(p) for p in iid])
    assert _mean_largest_share(1e6) == pytest.approx(by_chance, abs=0.02)


def test_client_label_shares_have_the_dirichlet_variance():
    # q_k ~ Dirichlet(alpha * 1) over C classes: Var q = (C - 1) / (C^2 (C alpha + 1)).
    # With far more examples of each class than are drawn before the last turns,
    # a client's share of class 0 has that variance plus the binomial one,
    # E[q(1-q)]/m for m examples a client.
    classes, alpha, clients, size = 2, 1.0, 2000, 40
    labels = np.arange(clients * size) % classes
    parts = assignment.dirichlet(labels, clients, _generator(5), alpha=alpha)
    shares = np.array([np.mean(labels[part] == 0) for part in parts])
    variance = (classes - 1) / (classes**2 * (classes * alpha + 1))  # 1/12
    binomial = (1 / classes - variance - 1 / classes**2) / size
    assert shares.mean() == pytest.approx(0.5, abs=1e-9)
    assert shares.var() == pytest.approx(variance + binomial, rel=0.08)


def test_dirichlet_follows_the_labels_own_distribution():
    # One label in ten: clients' mean share is that, at any concentration.
    labels = (np.arange(5000) % 10 == 0).astype(int)
    parts = assignment.dirichlet(labels, 100, _generator(), alpha=100.0)
    shares = [labels[part].mean() for part in parts]
    assert np.mean(shares) == pytest.approx(0.1)
    assert np.max(shares) < 0.3


def test_one_client_holds_everything():
    for method in _METHODS:
        (part,) = _make(method, np.array([1, 0, 1]), 1)
        assert part.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("examples", "shares", "sizes"),
    [
        # 12 examples are left after one each: 6, 3.6, 2.4, of which .6 is rounded up.
        (15, [0.5, 0.3, 0.2], [7, 5, 3]),
        # 2 are left; 2/3 each leave 0 for everyone, and the first two are before.
        (5, [1 / 3, 1 / 3, 1 / 3], [2, 2, 1]),
        (3, [1.0, 0.0, 0.0], [1, 1, 1]),
        (10, [1.0, 0.0, 0.0], [8, 1, 1]),
        (4, [1.0], [4]),
    ],
)
def test_sizes_from_shares_by_hand(examples, shares, sizes):
    found = assignment.sizes_from_shares(examples, np.array(shares))
    assert found.dtype == np.int64
    assert found.tolist() == sizes


@pytest.mark.parametrize(
    "shares", [[0.5, 0.4], [1.5, -0.5], [np.nan, 1.0], [np.inf, 0.0]]
)
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match="shares must be at least 0 and of sum 1"):
        assignment.sizes_from_shares(10, np.array(shares))


def test_sizes_follow_shares_whose_sum_is_just_off_one():
    for off in (-9e-7, 9e-7):
        shares = np.array([0.5, 0.5]) + off / 2
        sizes = assignment.sizes_from_shares(10_000_002, shares)
        assert sizes.sum() == 10_000_002
        assert abs(sizes[0] - sizes[1]) <= 10


def test_quantities_have_the_dirichlet_variance():
    # One share of a symmetric Dirichlet over N: variance (N - 1) / (N^2 (N a + 1)).
    clients, alpha = 100, 0.5
    sizes = [
        len(part)
        for seed in range(30)
        for part in assignment.quantity(
            np.zeros(20_000), clients, _generator(seed), alpha=alpha
        )
    ]
    shares = (np.array(sizes) - 1) / (20_000 - clients)
    variance = (clients - 1) / (clients**2 * (clients * alpha + 1))
    assert shares.mean() == pytest.approx(1 / clients)
    assert shares.var() == pytest.approx(variance, rel=0.15)


def test_quantities_leave_labels_iid_and_tend_to_equal_sizes():
    labels = np.arange(6000) % 3
    sizes = np.array(
        [len(p) for p in assignment.quantity(labels, 6, _generator(), alpha=1e6)]
    )
    assert sizes.tolist() == pytest.approx([1000] * 6, abs=10)
    parts = assignment.quantity(labels, 6, _generator(1), alpha=0.5)
    large = [part for part in parts if len(part) > 500]
    assert len(large) >= 2
    for part in large:
        shares = np.bincount(labels[part], minlength=3) / len(part)
        assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.08)
