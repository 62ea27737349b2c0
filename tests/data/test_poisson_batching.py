"""Local steps drawn by Poisson sampling: law, layout, bounds, secrecy of counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tfl_research import data
from tfl_research.data.poisson_batching import (
    ROW_ENDS_MICROBATCH,
    ROW_ENDS_NOTHING,
    ROW_ENDS_STEP,
)

# Every statistical test here raises a false alarm once in 10^6 runs of new seeds;
# the seeds are fixed, so that a run is always the same.
ALARM = 1e-6


def steps_of(drawn):
    """[[indices of each microbatch] of each step]."""
    steps, microbatches, members = [], [], []
    for row, ends in zip(drawn.order, drawn.ends):
        members += row[row >= 0].tolist()
        if ends != ROW_ENDS_NOTHING:
            microbatches.append(members)
            members = []
        if ends == ROW_ENDS_STEP:
            steps.append(microbatches)
            microbatches = []
    assert members == []
    assert microbatches == []
    return steps


def draws(batching, num_examples, count, name="test"):
    for index in range(count):
        yield batching.draw(
            num_examples, data.derived_generator(name, num_examples, index)
        )


class TestLaw:
    @pytest.fixture(scope="class")
    def joined(self):
        """bool [steps, examples]: who joined, of 2,000 steps of a client with 30."""
        batching = data.PoissonBatching(200, 6.0)
        steps = [s for d in draws(batching, 30, 10) for s in steps_of(d)]
        table = np.zeros((len(steps), 30), bool)
        for row, (members,) in enumerate(steps):
            table[row, members] = True
            assert len(set(members)) == len(members)
        return table

    def test_every_example_joins_with_the_sampling_rate(self, joined):
        counts = joined.sum(axis=0)
        p_values = [stats.binomtest(int(c), len(joined), 0.2).pvalue for c in counts]
        assert min(p_values) > ALARM / len(counts)

    def test_sizes_are_binomial(self, joined):
        sizes = joined.sum(axis=1)
        expected = stats.binom.pmf(np.arange(31), 30, 0.2) * len(sizes)
        observed = np.bincount(sizes, minlength=31)
        # Bins with few expected are put together.
        low, high = 2, 11
        pool = [slice(0, low + 1), *range(low + 1, high), slice(high, 31)]
        chi = sum(
            (observed[b].sum() - expected[b].sum()) ** 2 / expected[b].sum()
            for b in pool
        )
        assert stats.chi2.sf(chi, len(pool) - 1) > ALARM

    def test_examples_join_independently(self, joined):
        """Of each other, and of the step before."""
        centred = (joined - 0.2) / 0.4
        pairs = (centred.T @ centred)[np.triu_indices(30, 1)] / np.sqrt(len(joined))
        bound = stats.norm.isf(ALARM / 2 / len(pairs))
        assert np.abs(pairs).max() < bound
        following = (centred[1:] * centred[:-1]).sum(axis=0) / np.sqrt(len(joined) - 1)
        assert np.abs(following).max() < stats.norm.isf(ALARM / 2 / 30)

    def test_microbatches_are_joined_independently_and_evenly(self):
        batching = data.PoissonBatching(400, 12.0, 3)
        assert batching.num_microbatches(40) == 4
        sizes, together = [], [0, 0]
        for drawn in draws(batching, 40, 5):
            for microbatches in steps_of(drawn):
                sizes += [len(m) for m in microbatches]
                where = {i: k for k, m in enumerate(microbatches) for i in m}
                if 0 in where and 1 in where:
                    together[where[0] == where[1]] += 1
        assert stats.binomtest(together[1], sum(together), 0.25).pvalue > ALARM
        # Empty microbatches have no rows.
        total = 5 * 400 * 4
        expected_empty = stats.binom.pmf(0, 40, 0.3 / 4)
        empty = total - sum(s > 0 for s in sizes)
        assert stats.binomtest(empty, total, expected_empty).pvalue > ALARM


class TestLayout:
    def test_nothing_is_cut_off_however_large_a_step_is(self):
        """Rows of one example each, for steps of about fifteen."""
        narrow = data.PoissonBatching(50, 15.0, batch_size=1)
        wide = data.PoissonBatching(50, 15.0, batch_size=64)
        for one, other in zip(draws(narrow, 60, 3), draws(wide, 60, 3)):
            assert steps_of(one) == steps_of(other)
            assert one.order.shape[1] == 1
            assert len(other.order) == 50

    def test_a_step_that_drew_nobody_is_a_row_of_padding(self):
        batching = data.PoissonBatching(100, 0.01)
        (drawn,) = draws(batching, 5, 1)
        assert len(drawn.order) == 100
        assert (drawn.ends == ROW_ENDS_STEP).all()
        assert (drawn.order < 0).mean() > 0.9

    def test_with_few_examples_all_join(self):
        batching = data.PoissonBatching(3, 10.0)
        assert batching.sampling_rate(7) == 1.0
        (drawn,) = draws(batching, 7, 1)
        assert steps_of(drawn) == [[list(range(7))]] * 3

    def test_microbatches_end_where_the_rows_say(self):
        batching = data.PoissonBatching(2, 4.0, 2, batch_size=1)
        (drawn,) = draws(batching, 4, 1)
        assert set(drawn.ends) <= {ROW_ENDS_NOTHING, ROW_ENDS_MICROBATCH, ROW_ENDS_STEP}
        for microbatches in steps_of(drawn):
            assert sorted(i for m in microbatches for i in m) == [0, 1, 2, 3]

    def test_a_client_without_examples_has_no_steps(self):
        (drawn,) = draws(data.PoissonBatching(4, 10.0), 0, 1)
        assert drawn.order.shape[0] == 0
        assert drawn.num_examples == 0

    def test_the_noise_seed_is_128_bits_of_the_generator(self):
        seeds = [d.noise_seed for d in draws(data.PoissonBatching(1, 1.0), 3, 200)]
        assert seeds[0].dtype == np.int64
        bits = np.unpackbits(np.stack(seeds).view(np.uint8), axis=1)
        ones = bits.sum(axis=0)
        p_values = [stats.binomtest(int(c), 200, 0.5).pvalue for c in ones]
        assert min(p_values) > ALARM / 128


class TestCohort:
    @pytest.fixture(scope="class")
    def clients(self):
        return data.ClientData.from_arrays(
            {
                name: {
                    "x": np.arange(n, dtype=np.float32)[:, None] + 1,
                    "y": np.zeros(n, np.int32),
                }
                for name, n in (("a", 40), ("b", 5), ("none", 0))
            },
            data.PoissonBatching(4, 8.0),
        )

    def test_tells_the_number_held_and_not_the_number_drawn(self, clients):
        stacked = clients.cohort(["a", "b", "none"], seed=1, round_number=1).stacked()
        assert stacked["num_examples"].tolist() == [40, 5, 0]
        assert stacked["num_steps"][2] == 0
        drawn = {v for v in stacked["x"][0].ravel().tolist() if v}
        assert 0 < len(drawn) < 40

    def test_padding_ends_nothing(self, clients):
        cohort = clients.cohort(["a", "b"], seed=1, round_number=1)
        stacked = cohort.stacked(num_clients=3, num_steps=cohort.max_steps + 3)
        for row in range(2):
            steps = stacked["num_steps"][row]
            assert (stacked["row_ends"][row, :steps] == ROW_ENDS_STEP).sum() == 4
            assert not stacked["row_ends"][row, steps:].any()
        assert not stacked["row_ends"][2].any()
        assert stacked["noise_seed"].dtype == np.int64

    def test_one_client_is_the_same_alone(self, clients):
        among = clients.cohort(["a", "b"], seed=9, round_number=3).batches(1)
        alone = clients.cohort(["b"], seed=9, round_number=3).batches(0)
        for name in among:
            np.testing.assert_array_equal(among[name], alone[name])
        other = clients.cohort(["b"], seed=9, round_number=4).batches(0)
        assert (other["noise_seed"] != alone["noise_seed"]).any()

    def test_other_batching_has_no_such_members(self, clients):
        plain = clients.with_batching(data.Batching(4))
        names = plain.cohort(["a"], seed=1, round_number=1).stacked()
        assert "row_ends" not in names
        assert "noise_seed" not in names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5.0), "steps must be at least 1, got 0"),
        ((1, 0.0), "expected_batch_size must be above 0, got 0"),
        ((1, float("inf")), "expected_batch_size must be above 0"),
        ((1, 5.0, 0), "microbatch_size must be at least 1"),
        ((1, 5.0, 6), "microbatch_size must be at most"),
        ((1, 5.0, 1, -1), "batch_size must be at least 0"),
    ],
)
def test_impossible_numbers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.PoissonBatching(*arguments)
