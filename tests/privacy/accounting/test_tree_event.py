"""What DP-FTRL's trees cost: by enumeration, tensorflow-privacy, and by hand."""

from __future__ import annotations

import dataclasses

import dp_accounting
import numpy as np
import pytest
from tensorflow_privacy.privacy.analysis import tree_aggregation_accountant

from tfl_research import privacy, sampling
from tfl_research.privacy.accounting.events.tree_sensitivity import (
    squared_sensitivities,
)

IDS = tuple(f"client_{index}" for index in range(60))


def encoder(rounds, restart_every):
    """Complete nodes of all trees over the rounds: `[nodes, rounds]`."""
    rows = []
    for begun in range(0, rounds, restart_every):
        leaves, size = min(restart_every, rounds - begun), 1
        while size <= leaves:
            for block in range(leaves // size):
                row = np.zeros(rounds)
                row[begun + block * size : begun + (block + 1) * size] = 1
                rows.append(row)
            size *= 2
    return np.array(rows)


def patterns(rounds):
    """Every set of rounds, as bits: bool `[2^rounds, rounds]`."""
    return (np.arange(1 << rounds)[:, np.newaxis] >> np.arange(rounds) & 1).astype(bool)


def allowed(sets, min_separation, rounds_per_epoch, by_epoch):
    """Which sets keep the separation and the epochs (or only their number)."""
    rounds = sets.shape[1]
    good = np.ones(len(sets), bool)
    for first in range(rounds):
        for second in range(first + 1, min(rounds, first + min_separation)):
            good &= ~(sets[:, first] & sets[:, second])
    if not by_epoch:
        return good & (sets.sum(axis=1) <= -(-rounds // rounds_per_epoch))
    for begun in range(0, rounds, rounds_per_epoch):
        good &= sets[:, begun : begun + rounds_per_epoch].sum(axis=1) <= 1
    return good


def by_enumeration(rounds, restart_every, min_separation, rounds_per_epoch, by_epoch):
    sets = patterns(rounds)
    sets = sets[allowed(sets, min_separation, rounds_per_epoch, by_epoch)]
    return ((sets @ encoder(rounds, restart_every).T) ** 2).sum(axis=1).max()


LIMITS = [(1, 1), (1, 3), (2, 2), (2, 4), (3, 3), (3, 6), (4, 8), (5, 5), (20, 20)]


class TestSensitivity:
    @pytest.mark.parametrize("restart_every", [1, 2, 3, 4, 5, 7, 8, 11, 16])
    @pytest.mark.parametrize("separation_and_epoch", LIMITS)
    def test_equals_the_largest_of_all_patterns(
        self, restart_every, separation_and_epoch
    ):
        separation, epoch = separation_and_epoch
        curve = squared_sensitivities(12, restart_every, separation, epoch)
        # Where trees do not end with epochs, epochs are counted only.
        by_epoch = epoch % restart_every == 0
        for rounds in (1, 2, 3, 5, 8, 11, 12):
            expected = by_enumeration(
                rounds, restart_every, separation, epoch, by_epoch
            )
            assert curve[rounds - 1] == expected
            # Which is never too little.
            assert expected >= by_enumeration(
                rounds, restart_every, separation, epoch, True
            )

    @pytest.mark.parametrize(
        ("rounds", "separation", "epoch"),
        [(24, 3, 3), (200, 33, 33), (300, 20, 60), (77, 9, 20), (90, 40, 40)],
    )
    def test_agrees_with_tensorflow_privacy(self, rounds, separation, epoch):
        participations = -(-rounds // epoch)
        expected = tree_aggregation_accountant.compute_zcdp_single_tree(
            noise_multiplier=1.0,
            total_steps=rounds,
            max_participation=participations,
            # Theirs is the number of rounds in between.
            min_separation=separation - 1,
        )
        found = squared_sensitivities(rounds, rounds, separation, epoch)[-1]
        assert found == pytest.approx(2 * expected)

    def test_by_hand(self):
        # Once in each tree of 4: the leaf and the nodes above it that are complete.
        curve = squared_sensitivities(9, 4, 4, 4)
        np.testing.assert_array_equal(curve, [1, 2, 2, 3, 4, 5, 5, 6, 7])
        # In every round of one tree: 1, then 1 + 1 + 4, one more leaf, ...
        curve = squared_sensitivities(4, 4, 1, 1)
        np.testing.assert_array_equal(curve, [1, 6, 7, 28])
        # Independent noise.
        curve = squared_sensitivities(5, 1, 1, 1)
        np.testing.assert_array_equal(curve, [1, 2, 3, 4, 5])

    def test_a_long_run_takes_seconds_at_most(self):
        curve = squared_sensitivities(2048, 2048, 342, 342)
        assert curve[-1] == 118
        assert (np.diff(curve) >= 0).all()

    def test_a_shorter_curve_is_the_beginning_of_a_longer_one(self):
        for arguments in [(32, 5, 10), (16, 1, 16), (7, 1, 1)]:
            longer = squared_sensitivities(90, *arguments)
            shorter = squared_sensitivities(41, *arguments)
            np.testing.assert_array_equal(shorter, longer[:41])


def event(**changes):
    values = {
        "noise_multiplier": 2.0,
        "restart_every": 16,
        "efficient": True,
        "min_separation": 16,
        "rounds_per_epoch": 16,
        "population": 160,
        "cohort_size": 10.0,
    }
    return privacy.TreeEvent(**{**values, **changes})


class TestEpsilon:
    # DP-FTRL's Stack Overflow runs: one pass over the clients in one tree of 1600
    # rounds, δ = 1e-6 (the paper's figures as tensorflow-privacy's test has them).
    @pytest.mark.parametrize(
        ("noise_multiplier", "published"), [(1.13, 19.74), (8.83, 2.04)]
    )
    def test_published_figures_of_stack_overflow(self, noise_multiplier, published):
        one = event(
            noise_multiplier=noise_multiplier,
            restart_every=1600,
            min_separation=1600,
            rounds_per_epoch=1600,
        )
        # The conversion of the time, ρ + 2√(ρ log 1/δ): the figures to their digits.
        rho = one.zcdp(1600)
        assert rho == pytest.approx(11 / (2 * noise_multiplier**2))
        then = rho + 2 * np.sqrt(rho * np.log(1e6))
        assert then == pytest.approx(published, abs=0.006)
        # Today's are lower.
        rdp, pld = (one.epsilon(1600, 1e-6, name) for name in ("rdp", "pld"))
        assert pld < rdp < published

    @pytest.mark.parametrize("rounds", [1, 5, 16, 40])
    def test_rdp_is_tensorflow_privacys_of_restarts(self, rounds):
        orders = np.array([1.5, 2.0, 8.0, 32.0])
        steps = [16] * (rounds // 16) + ([rounds % 16] if rounds % 16 else [])
        # Theirs takes every tree's own depth; the client is in the deepest leaf of
        # each of them in ours too.
        expected = tree_aggregation_accountant.compute_rdp_tree_restart(
            2.0, steps, orders
        )
        np.testing.assert_allclose(event().rdp(rounds, orders), expected)

    def test_pld_is_dp_accountings_gaussian(self):
        sensitivity = np.sqrt(event().squared_sensitivity(40)[-1])
        accountant = dp_accounting.pld.PLDAccountant()
        accountant.compose(dp_accounting.GaussianDpEvent(2.0 / sensitivity))
        assert event().epsilon(40, 1e-5, "pld") == pytest.approx(
            accountant.get_epsilon(1e-5), rel=1e-3
        )
        assert event().effective_noise_multiplier(40) == 2.0 / sensitivity

    @pytest.mark.parametrize("accountant", ["pld", "rdp"])
    def test_curve(self, accountant):
        curve = event().epsilon_curve(50, 1e-5, accountant)
        assert curve.shape == (50,)
        assert (np.diff(curve) >= 0).all()
        assert curve[-1] == event().epsilon(50, 1e-5, accountant)
        np.testing.assert_array_equal(
            event().epsilon_curve(30, 1e-5, accountant), curve[:30]
        )

    def test_zcdp(self):
        # Three trees' depths of 5, 5 and 4 over 2 z².
        assert event().zcdp(40) == pytest.approx((5 + 5 + 4) / 8)

    def test_without_noise_there_is_no_privacy(self):
        none = event(noise_multiplier=0.0)
        assert none.epsilon(3, 1e-5, "pld") == np.inf
        assert none.epsilon_curve(3, 1e-5, "rdp").tolist() == [np.inf] * 3
        assert none.rdp(3, np.array([2.0])).tolist() == [np.inf]
        assert none.zcdp(3) == np.inf

    def test_unknown_accountant(self):
        with pytest.raises(ValueError, match="'gdp' has no bound"):
            event().epsilon_curve(3, 1e-5, "gdp")


class TestOfASampler:
    def test_min_separation(self):
        sampler = sampling.MinSeparation(IDS, 6, 1)
        found = privacy.TreeEvent.of(1.5, sampler.amplification, restart_every=32)
        assert found == privacy.TreeEvent(1.5, 32, True, 10, 10, 60, 6.0)
        assert found.neighbouring_relation == "zero_out"
        assert privacy.event_from_dict(found.to_dict()) == found

    def test_shuffled_epochs_with_a_tree_each(self):
        sampler = sampling.Shuffled(IDS, 6, 1)
        found = privacy.TreeEvent.of(1.0, sampler.amplification, restart_every=10)
        assert found.squared_sensitivity(30)[-1] == 3 * 4

    def test_everybody_every_round_is_charged_for_every_leaf(self):
        full = sampling.Full(IDS).amplification
        found = privacy.TreeEvent.of(1.0, full, restart_every=8)
        assert found.squared_sensitivity(8)[-1] == 8 * 1 + 4 * 4 + 2 * 16 + 64

    @pytest.mark.parametrize("sampler", [sampling.Poisson, sampling.FixedSize])
    def test_samplers_that_do_not_separate_are_refused(self, sampler):
        with pytest.raises(ValueError, match="use the min_separation"):
            privacy.TreeEvent.of(1.0, sampler(IDS, 6, 1).amplification, restart_every=8)

    @pytest.mark.parametrize("restart_every", [1, 7, 8, 10, 20, 60])
    def test_real_cohorts_stay_within_it(self, restart_every):
        """The samplers' own patterns, against the dense encoder."""
        rounds = 60
        samplers = [
            sampling.MinSeparation(IDS, 6, 1),
            sampling.MinSeparation(IDS, 6, 1, min_separation=4),
            sampling.Shuffled(IDS, 6, 1),
            sampling.CyclicPoisson(IDS, 6, 1, 7),
        ]
        nodes = encoder(rounds, restart_every)
        for sampler in samplers:
            told = privacy.TreeEvent.of(
                1.0, sampler.amplification, restart_every=restart_every
            )
            member = np.array(
                [
                    np.isin(IDS, sampler.sample(number))
                    for number in range(1, rounds + 1)
                ]
            )
            seen = ((nodes @ member) ** 2).sum(axis=0).max()
            assert seen <= told.squared_sensitivity(rounds)[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise_multiplier": -1.0}, "noise_multiplier must be at least 0"),
        ({"restart_every": 0}, "restart_every must be a whole number"),
        ({"min_separation": 2.5}, "min_separation must be a whole number"),
        ({"rounds_per_epoch": 15}, "rounds_per_epoch must be at least the min_sep"),
        ({"population": 0}, "population must be a whole number"),
    ],
)
def test_bad_fields(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(event(), **change)


def test_description_says_what_is_assumed():
    text = " ".join(event().description())
    assert "2103.00039" in text
    assert "at most once in every 16 rounds" in text
