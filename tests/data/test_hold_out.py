"""Draws by keyed hash: by hand, and one more or less moves nobody else."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tfl_research.data import hold_out

IDS = tuple(f"client{i:02d}" for i in range(40))


def _number(parts, content):
    """BLAKE2b of 8 bytes, keyed by the SHA-256 of the draw's parts."""
    key = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(
        hashlib.blake2b(content, key=key, digest_size=8).digest(), "big"
    )


def _contents(n, offset=0):
    return [b"record %d" % (offset + i) for i in range(n)]


def _split(contents, fraction=0.5, seed=0, client="a"):
    return hold_out.examples(contents, fraction, seed=seed, client_id=client)


def _tested(contents, **options):
    return sorted(contents[i] for i in _split(contents, **options)[1])


class TestClients:
    def test_the_lowest_hashes_are_held_out(self):
        expected = sorted(IDS, key=lambda i: _number(("held_out", 3), i.encode()))[:7]
        training, held_out = hold_out.clients(IDS, count=7, seed=3)
        assert set(held_out) == set(expected)
        assert list(held_out) == sorted(held_out)
        assert list(training) == [i for i in IDS if i not in expected]

    def test_a_fraction_is_a_threshold(self):
        expected = [
            i for i in IDS if _number(("held_out", 3), i.encode()) < 0.3 * 2**64
        ]
        training, held_out = hold_out.clients(IDS, fraction=0.3, seed=3)
        assert list(held_out) == expected
        assert list(training) == [i for i in IDS if i not in expected]
        assert hold_out.clients(IDS, fraction=0.0, seed=3) == (IDS, ())

    def test_a_function_of_the_seed_and_the_set_of_ids(self):
        first = hold_out.clients(IDS, count=10, seed=1)
        assert hold_out.clients(IDS, count=10, seed=1) == first
        assert hold_out.clients(IDS[::-1], count=10, seed=1)[1] == first[1][::-1]
        assert hold_out.clients(IDS, count=10, seed=2) != first
        drawn = set()
        for seed in range(60):
            drawn |= set(hold_out.clients(IDS, count=8, seed=seed)[1])
        assert drawn == set(IDS)

    @given(
        st.sets(st.text(max_size=4), min_size=2, max_size=30),
        st.integers(0, 5),
        st.data(),
    )
    def test_one_client_less_moves_nobody_else(self, ids, seed, data):
        ids = sorted(ids)
        left_out = data.draw(st.sampled_from(ids))
        rest = [i for i in ids if i != left_out]
        try:
            training, held_out = hold_out.clients(ids, fraction=0.4, seed=seed)
            fewer = hold_out.clients(rest, fraction=0.4, seed=seed)
        except ValueError:
            return  # All are held out.
        assert [i for i in training if i != left_out] == list(fewer[0])
        assert [i for i in held_out if i != left_out] == list(fewer[1])
        # By count, the training clients differ by one client.
        count = data.draw(st.integers(0, len(rest) - 1))
        training, held_out = hold_out.clients(ids, count=count, seed=seed)
        fewer = hold_out.clients(rest, count=count, seed=seed)
        assert len(set(training) ^ set(fewer[0])) == 1
        if left_out in training:
            assert held_out == fewer[1]

    @pytest.mark.parametrize("count", [-1, 3, 4])
    def test_holding_out_everybody_is_refused(self, count):
        with pytest.raises(ValueError, match=f"from 0 to 2 of 3 clients, got {count}"):
            hold_out.clients(["a", "b", "c"], count=count, seed=0)
        # The number of "a" is 0.36 of all.
        assert hold_out.clients(["a"], fraction=0.15, seed=0) == (("a",), ())
        with pytest.raises(ValueError, match="holds out each of 1 clients"):
            hold_out.clients(["a"], fraction=0.99, seed=0)

    @pytest.mark.parametrize("given_", [{}, {"count": 1, "fraction": 0.1}])
    def test_a_number_or_a_fraction_of_clients_is_needed(self, given_):
        with pytest.raises(ValueError, match="either count or fraction, got"):
            hold_out.clients(IDS, seed=0, **given_)

    @pytest.mark.parametrize(
        ("total", "fraction", "expected"),
        [(10, 0.0, 0), (10, 0.01, 1), (10, 0.14, 1), (10, 0.99, 9), (2, 0.9, 1)],
    )
    def test_the_nearest_number_of_clients(self, total, fraction, expected):
        assert hold_out.nearest_count(total, fraction) == expected

    def test_one_client_cannot_be_held_out(self):
        assert hold_out.nearest_count(1, 0.0) == 0
        with pytest.raises(ValueError, match="at least 2"):
            hold_out.nearest_count(1, 0.5)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5, float("nan")])
def test_fractions_outside_the_range_are_refused(fraction):
    with pytest.raises(ValueError, match="held_out_fraction must be at least 0"):
        hold_out.clients(IDS, fraction=fraction, seed=0)
    with pytest.raises(ValueError, match="held_out_fraction must be at least 0"):
        hold_out.nearest_count(10, fraction)
    with pytest.raises(ValueError, match="test_fraction must be at least 0"):
        hold_out.latest(10, fraction)
    with pytest.raises(ValueError, match="test_fraction must be at least 0"):
        _split(_contents(3), fraction)
    with pytest.raises(ValueError, match="test_fraction must be at least 0"):
        hold_out.groups(np.arange(3), fraction, seed=0, purpose="days")


class TestExamples:
    def test_the_lowest_hashes_are_tested_on(self):
        contents = [b"a", b"b", b"a", b"c", b"a"]
        # The three equal examples are numbered.
        numbered = [(b"a", 0), (b"b", 0), (b"a", 1), (b"c", 0), (b"a", 2)]
        expected = []
        for row, (content, copy) in enumerate(numbered):
            digest = hashlib.blake2b(content, digest_size=32).digest()
            drawn = _number(("test_examples", 4, "w"), digest + copy.to_bytes(8, "big"))
            if drawn < 0.5 * 2**64:
                expected.append(row)
        train, test = _split(contents, seed=4, client="w")
        assert test.tolist() == expected
        assert train.tolist() == [i for i in range(5) if i not in expected]
        assert train.dtype == test.dtype == np.int64

    @given(
        st.lists(st.sampled_from(_contents(6)), min_size=1, max_size=40),
        st.integers(0, 3),
        st.data(),
    )
    def test_one_example_less_moves_no_other_in_any_order(self, contents, seed, data):
        """A multiset of records, of which one is left out and the rest shuffled."""
        tested = _tested(contents, seed=seed)
        left_out = data.draw(st.integers(0, len(contents) - 1))
        rest = contents[:left_out] + contents[left_out + 1 :]
        rest = data.draw(st.permutations(rest))
        fewer = _tested(rest, seed=seed)
        trained = sorted(rest[i] for i in _split(rest, seed=seed)[0])
        if len(fewer) < len(tested):
            fewer = sorted([*fewer, contents[left_out]])
        else:
            trained = sorted([*trained, contents[left_out]])
        assert fewer == tested
        assert trained == sorted(contents[i] for i in _split(contents, seed=seed)[0])

    def test_the_fraction_is_kept_on_average(self):
        # 20,000 coins of 0.2: the standard deviation of the share is 0.0028.
        _, test = _split(_contents(20_000), 0.2)
        assert len(test) / 20_000 == pytest.approx(0.2, abs=0.012)
        # Equal records are as good as different ones.
        _, test = _split([b"same"] * 20_000, 0.2)
        assert len(test) / 20_000 == pytest.approx(0.2, abs=0.012)

    def test_seeds_and_clients_draw_independently(self):
        contents = _contents(200)
        first = set(_tested(contents))
        for other in ({"seed": 1}, {"client": "b"}):
            assert 20 < len(first & set(_tested(contents, **other))) < 80

    def test_small_clients_may_lack_either_split(self):
        assert [part.tolist() for part in _split([])] == [[], []]
        sizes = {len(_split([b"one"], seed=seed)[0]) for seed in range(20)}
        assert sizes == {0, 1}
        train, test = _split(_contents(5), 0.0)
        assert (train.tolist(), test.tolist()) == ([0, 1, 2, 3, 4], [])


class TestContents:
    def test_equal_examples_alone_have_equal_contents(self):
        x = np.array([[1, 2], [1, 2], [1, 3]], np.float32)
        y = np.array([0, 0, 0], np.int32)
        first, second, third = hold_out.array_contents([x, y])
        assert first == second != third
        assert hold_out.array_contents([x, y + 1])[0] != first
        assert hold_out.array_contents([x.astype(np.float64), y])[0] != first
        assert hold_out.array_contents([x[:, :, None], y])[0] != first

    def test_other_rows_and_machines_do_not_matter(self):
        x = np.array([[1, 2], [5, 6]], np.float32)
        y = np.array([0, 1], np.int32)
        one = hold_out.array_contents([x[1:], y[1:]])
        assert hold_out.array_contents([x, y])[1:] == one
        assert hold_out.array_contents([x.astype(">f4"), y.astype(">i4")])[1:] == one
        texts = np.array(["a", "bb"])
        longer = np.array(["a", "a much longer text"])
        assert (
            hold_out.array_contents([texts, y])[0]
            == hold_out.array_contents([longer, y])[0]
        )

    def test_no_examples(self):
        assert hold_out.array_contents([np.zeros((0, 3)), np.zeros(0)]) == []


@pytest.mark.parametrize(
    ("length", "fraction", "cut"),
    [(0, 0.2, 0), (10, 0.0, 10), (10, 0.2, 8), (5, 0.2, 4), (500, 0.1, 450)],
)
def test_the_latest_part(length, fraction, cut):
    assert hold_out.latest(length, fraction) == cut


class TestGroups:
    def test_are_drawn_whole_by_their_hashes(self):
        days = np.repeat(np.arange(20), 3)
        drawn = hold_out.groups(days, 0.3, seed=2, purpose="days")
        expected = [
            _number(("test_groups", "days", 2), str(day).encode()) < 0.3 * 2**64
            for day in days
        ]
        assert drawn.tolist() == expected
        assert 0 < drawn.sum() < len(days)
        other = hold_out.groups(days, 0.3, seed=1, purpose="days")
        another = hold_out.groups(days, 0.3, seed=2, purpose="nights")
        assert not np.array_equal(drawn, other)
        assert not np.array_equal(drawn, another)
        assert not hold_out.groups(days, 0.0, seed=0, purpose="days").any()

    def test_one_group_less_moves_no_other(self):
        days = np.repeat(np.arange(20), 3)
        drawn = hold_out.groups(days, 0.3, seed=2, purpose="days")
        for day in range(20):
            rest = days != day
            fewer = hold_out.groups(days[rest], 0.3, seed=2, purpose="days")
            assert np.array_equal(fewer, drawn[rest])
