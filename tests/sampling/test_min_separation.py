"""Samplers that keep a client's rounds apart."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import stats
from test_samplers import IDS, DrawnConformance

from tfl_research import sampling

# (population, cohort size, least separation in rounds).
_CASES = list(itertools.product([7, 23, 50], [1, 3, 7], [None, 1, 2, 3]))
_TOO_MANY_COHORTS = [(7, 3, 3), (7, 7, 2), (7, 7, 3)]


def rounds_of(sampler, rounds):
    """{client id: the rounds in which it takes part}."""
    seen = {client_id: [] for client_id in sampler.client_ids}
    for round_number in range(1, rounds + 1):
        for client_id in sampler.sample(round_number):
            seen[client_id].append(round_number)
    return seen


def assert_keeps_its_word(sampler, rounds):
    """Separation and epochs are as the accountant is told."""
    told = sampler.amplification
    by_client = rounds_of(sampler, rounds)
    assert any(len(taken) > 1 for taken in by_client.values()), "nobody came again"
    for taken in by_client.values():
        assert min(np.diff(taken), default=rounds) >= told.min_separation
        epochs = [(number - 1) // told.rounds_per_epoch for number in taken]
        assert len(set(epochs)) == len(epochs)


class TestMinSeparation(DrawnConformance):
    def make(self, client_ids=IDS, seed=7):
        return sampling.MinSeparation(client_ids, min(5, len(client_ids)), seed)

    def test_amplification(self):
        assert self.make().amplification == sampling.Amplification(
            "none", 0.1, 50, 5.0, "zero_out", min_separation=10, rounds_per_epoch=10
        )

    @pytest.mark.parametrize(
        ("population", "cohort_size", "min_separation"),
        [case for case in _CASES if case not in _TOO_MANY_COHORTS],
    )
    def test_separates(self, population, cohort_size, min_separation):
        sampler = sampling.MinSeparation(
            IDS[:population], cohort_size, 3, min_separation
        )
        assert sampler.separation == (min_separation or population // cohort_size)
        assert_keeps_its_word(sampler, 120)
        sizes = {len(sampler.sample(number)) for number in range(1, 121)}
        assert sizes == {cohort_size}

    @pytest.mark.parametrize(
        ("population", "cohort_size", "min_separation"), _TOO_MANY_COHORTS
    )
    def test_a_separation_needs_as_many_disjoint_cohorts(
        self, population, cohort_size, min_separation
    ):
        with pytest.raises(ValueError, match=f"from 1 to {population // cohort_size}"):
            sampling.MinSeparation(IDS[:population], cohort_size, 3, min_separation)

    def test_the_largest_separation_visits_everyone_in_turn(self):
        taken = rounds_of(self.make(), 40).values()
        assert all(len(numbers) == 4 for numbers in taken)
        assert all(set(np.diff(numbers)) == {10} for numbers in taken)

    def test_those_left_over_change_between_epochs(self):
        # 7 clients, 3 a round: groups of 4 and 3, one of the four sits out.
        sampler = sampling.MinSeparation(IDS[:7], 3, seed=1)
        assert sampler.separation == 2
        taken = rounds_of(sampler, 60)
        assert min(len(numbers) for numbers in taken.values()) >= 10

    def test_epochs_are_longer_than_the_separation_where_groups_are_large(self):
        sampler = sampling.MinSeparation(IDS, 5, 1, min_separation=3)
        # Groups of 17, 17 and 16: 3 cohorts of 5 each.
        assert sampler.rounds_per_epoch == 9

    @pytest.mark.parametrize("min_separation", [0, 11, 2.5])
    def test_separation_out_of_range(self, min_separation):
        with pytest.raises(ValueError, match="from 1 to 10"):
            dataclasses.replace(self.make(), min_separation=min_separation)

    def test_cohort_size_must_be_whole(self):
        with pytest.raises(ValueError, match="whole number"):
            sampling.MinSeparation(IDS, 2.5, 1)


class TestCyclicPoisson(DrawnConformance):
    def make(self, client_ids=IDS, seed=7):
        separation = 5 if len(client_ids) > 5 else 1
        return sampling.CyclicPoisson(
            client_ids, min(4, len(client_ids)), seed, separation
        )

    def test_amplification(self):
        told = self.make().amplification
        assert told == sampling.Amplification(
            "cyclic_poisson",
            0.08,
            50,
            4.0,
            "add_or_remove_one",
            min_separation=5,
            rounds_per_epoch=5,
        )
        assert told.sampling_rate_in_turn == pytest.approx(0.4)

    def test_separates(self):
        assert_keeps_its_word(self.make(), 300)

    def test_a_client_joins_independently_when_it_is_its_turn(self):
        sampler, cycles = self.make(), 400
        member = np.zeros((5 * cycles, len(IDS)))
        for row in range(len(member)):
            for client_id in sampler.sample(row + 1):
                member[row, IDS.index(client_id)] = 1
        by_turn = member.reshape(cycles, 5, len(IDS))
        group = by_turn.sum(axis=0).argmax(axis=0)
        joined = by_turn[:, group, np.arange(len(IDS))]
        # Nobody joins in another group's round.
        assert joined.sum() == member.sum()
        # 50 binomial counts, p = 0.4: 6 standard deviations, false alarm 1e-7.
        slack = 6 * np.sqrt(cycles * 0.4 * 0.6)
        assert np.abs(joined.sum(axis=0) - 0.4 * cycles).max() < slack
        # 1225 pairs, standard error 1/√400: 6 of them, false alarm 3e-6.
        correlation = np.corrcoef(joined.T)[np.triu_indices(len(IDS), 1)]
        assert np.abs(correlation).max() < 6 / np.sqrt(cycles)

    def test_groups_do_not_depend_on_other_clients(self):
        """Each client's group is its own draw: of 1000 seeds, all alike."""
        groups = []
        for seed in range(1000):
            sampler = sampling.CyclicPoisson(IDS[:3], 1.0, seed, 3)
            # Whoever joins does so with probability 1.
            assert sampler.sampling_rate_in_turn == 1.0
            groups.append(
                [
                    next(r for r in (1, 2, 3) if name in sampler.sample(r))
                    for name in IDS[:3]
                ]
            )
        counts = np.zeros((3, 3, 3))
        np.add.at(counts, tuple(np.array(groups).T - 1), 1)
        # Seeds are fixed, so this either always or never fails.
        assert stats.chisquare(counts.ravel()).pvalue > 1e-4

    @pytest.mark.parametrize("min_separation", [0, 13, 1.5])
    def test_separation_out_of_range(self, min_separation):
        with pytest.raises(ValueError, match="from 1 to 12"):
            sampling.CyclicPoisson(IDS, 4, 1, min_separation)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_separation": 0}, "min_separation must be at least 1"),
        ({"rounds_per_epoch": 0}, "rounds_per_epoch must be at least 1"),
        ({"min_separation": 30}, "sampling_rate x min_separation"),
        ({"neighbouring_relation": "zero_out"}, "cyclic_poisson sampling is analysed"),
    ],
)
def test_amplification_refuses(change, message):
    sampler = sampling.CyclicPoisson(IDS, 4, 1, 5)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(sampler.amplification, **change)
