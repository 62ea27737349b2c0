import numpy as np
import pytest

from tfl_research.data import hold_out

IDS = tuple(f"client{i:02d}" for i in range(40))


def _stratified(labels, fraction, seed=0, client="a"):
    return hold_out.examples(
        len(labels), fraction, seed=seed, client_id=client, labels=labels
    )


def test_held_out_clients_partition_the_ids_and_keep_their_order():
    training, held_out = hold_out.clients(IDS, fraction=0.1, seed=3)
    assert len(held_out) == 4
    assert set(training) | set(held_out) == set(IDS)
    assert not set(training) & set(held_out)
    assert list(training) == sorted(training)
    assert list(held_out) == sorted(held_out)


def test_held_out_clients_are_a_function_of_the_seed_and_the_set_of_ids():
    first = hold_out.clients(IDS, fraction=0.25, seed=1)
    assert hold_out.clients(IDS, fraction=0.25, seed=1) == first
    backwards = hold_out.clients(IDS[::-1], fraction=0.25, seed=1)
    assert set(backwards[1]) == set(first[1])
    assert backwards[1] == first[1][::-1]
    assert hold_out.clients(IDS, fraction=0.25, seed=2) != first


def test_every_client_is_held_out_by_some_seed():
    drawn = set()
    for seed in range(60):
        drawn |= set(hold_out.clients(IDS, fraction=0.2, seed=seed)[1])
    assert drawn == set(IDS)


@pytest.mark.parametrize(
    ("count", "fraction", "expected"),
    [(10, 0.0, 0), (10, 0.01, 1), (10, 0.14, 1), (10, 0.99, 9), (2, 0.9, 1)],
)
def test_number_of_held_out_clients(count, fraction, expected):
    training, held_out = hold_out.clients(IDS[:count], fraction=fraction, seed=0)
    assert len(held_out) == expected
    assert len(training) == count - expected


def test_one_client_cannot_be_held_out():
    assert hold_out.clients(("a",), fraction=0.0, seed=0) == (("a",), ())
    with pytest.raises(ValueError, match="at least 2"):
        hold_out.clients(("a",), fraction=0.5, seed=0)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5, float("nan")])
def test_fractions_outside_the_range_are_refused(fraction):
    with pytest.raises(ValueError, match="held_out_fraction must be at least 0"):
        hold_out.clients(IDS, fraction=fraction, seed=0)
    with pytest.raises(ValueError, match="test_fraction must be at least 0"):
        hold_out.latest(10, fraction)
    with pytest.raises(ValueError, match="test_fraction must be at least 0"):
        hold_out.examples(3, fraction, seed=0, client_id="a")
    with pytest.raises(ValueError, match="test_fraction must be at least 0"):
        hold_out.groups(np.arange(3), fraction, seed=0, purpose="days")


@pytest.mark.parametrize(
    ("length", "fraction", "cut"),
    [(0, 0.2, 0), (10, 0.0, 10), (10, 0.2, 8), (5, 0.2, 4), (500, 0.1, 450)],
)
def test_the_latest_part(length, fraction, cut):
    assert hold_out.latest(length, fraction) == cut


def test_stratified_split_by_hand():
    labels = np.array([0] * 8 + [1] * 4 + [2])
    train, test = _stratified(labels, 0.25)
    # A quarter of 8 and of 4; the single example of class 2 stays in training.
    assert np.bincount(labels[test], minlength=3).tolist() == [2, 1, 0]
    assert sorted([*train, *test]) == list(range(13))
    assert (np.diff(train) > 0).all()
    assert (np.diff(test) > 0).all()


def test_stratified_split_never_takes_a_whole_class():
    labels = np.array([0, 0, 1, 1, 1])
    _, test = _stratified(labels, 0.99)
    assert np.bincount(labels[test]).tolist() == [1, 2]


def test_stratified_split_depends_on_seed_and_client_alone():
    labels = np.arange(60) % 2

    def test_rows(seed, client):
        return _stratified(labels, 0.5, seed, client)[1].tolist()

    assert test_rows(0, "a") == test_rows(0, "a")
    assert test_rows(0, "a") != test_rows(1, "a")
    assert test_rows(0, "a") != test_rows(0, "b")


def test_stratified_split_of_no_examples():
    train, test = _stratified(np.zeros(0, int), 0.2)
    assert len(train) == len(test) == 0


@pytest.mark.parametrize(
    ("examples", "fraction", "tested"),
    [(10, 0.2, 2), (10, 0.25, 3), (3, 0.1, 0), (1, 0.9, 0), (0, 0.5, 0), (2, 0.99, 1)],
)
def test_sizes_of_splits_by_hand(examples, fraction, tested):
    train, test = hold_out.examples(examples, fraction, seed=0, client_id="c")
    assert len(test) == tested
    assert sorted([*train, *test]) == list(range(examples))


def test_held_out_clients_are_disjoint_ordered_and_seeded():
    ids = [f"c{i}" for i in range(20)]
    train, held_out = hold_out.clients(ids, count=5, seed=0)
    assert len(held_out) == 5
    assert sorted(train + held_out, key=ids.index) == ids
    assert list(train) == sorted(train, key=ids.index)
    assert hold_out.clients(ids, count=5, seed=0) == (train, held_out)
    assert hold_out.clients(ids, count=5, seed=1) != (train, held_out)
    assert hold_out.clients(ids, count=0, seed=0) == (tuple(ids), ())


@pytest.mark.parametrize("count", [-1, 3, 4])
def test_holding_out_everybody_is_refused(count):
    with pytest.raises(ValueError, match=f"from 0 to 2 of 3 clients, got {count}"):
        hold_out.clients(["a", "b", "c"], count=count, seed=0)


def test_a_number_and_a_fraction_of_clients_are_the_same_draw():
    by_count = hold_out.clients(IDS, count=10, seed=4)
    assert by_count == hold_out.clients(IDS, fraction=0.25, seed=4)
    assert set(hold_out.clients(IDS[::-1], count=10, seed=4)[1]) == set(by_count[1])


@pytest.mark.parametrize("given", [{}, {"count": 1, "fraction": 0.1}])
def test_a_number_or_a_fraction_of_clients_is_needed(given):
    with pytest.raises(ValueError, match="either count or fraction, got"):
        hold_out.clients(IDS, seed=0, **given)


def test_halves_are_rounded_up_and_by_class_to_even():
    assert len(hold_out.examples(10, 0.25, seed=0, client_id="a")[1]) == 3
    assert len(_stratified(np.zeros(10, int), 0.25)[1]) == 2


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match="'a' has 3 examples, but 2 labels"):
        hold_out.examples(3, 0.5, seed=0, client_id="a", labels=np.zeros(2, int))


def test_groups_are_drawn_whole():
    days = np.repeat(np.arange(20), 3)
    drawn = hold_out.groups(days, 0.2, seed=0, purpose="days")
    assert drawn.sum() == 4 * 3
    assert all(len(set(drawn[days == day])) == 1 for day in range(20))
    other = hold_out.groups(days, 0.2, seed=1, purpose="days")
    another = hold_out.groups(days, 0.2, seed=0, purpose="nights")
    assert not np.array_equal(drawn, other)
    assert not np.array_equal(drawn, another)
    assert not hold_out.groups(days, 0.0, seed=0, purpose="days").any()
