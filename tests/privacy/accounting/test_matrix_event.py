"""What banded matrices cost, with and without amplification."""

from __future__ import annotations

import dataclasses

import dp_accounting
import numpy as np
import pytest

from tfl_research import privacy, sampling

IDS = tuple(f"client_{index}" for index in range(120))
DELTA = 1e-5


def separated(**changes):
    sampler = sampling.MinSeparation(IDS, 6, 1, min_separation=5)
    values = {"noise_multiplier": 1.5, "rounds": 40, "bands": 5}
    values = {**values, **changes}
    return privacy.MatrixEvent.of(
        values.pop("noise_multiplier"), sampler.amplification, **values
    )


def amplified(**changes):
    sampler = sampling.CyclicPoisson(IDS, 6, 1, 5)
    values = {"noise_multiplier": 1.5, "rounds": 40, "bands": 4}
    values = {**values, **changes}
    return privacy.MatrixEvent.of(
        values.pop("noise_multiplier"), sampler.amplification, **values
    )


class TestWithoutAmplification:
    def test_of_a_sampler(self):
        found = separated()
        # Groups of 24, visited 4 times before a client comes again.
        assert found == privacy.MatrixEvent(
            1.5, 40, 5, 5, 20, None, 120, 6.0, "zero_out"
        )
        assert privacy.event_from_dict(found.to_dict()) == found

    def test_counts_a_clients_rounds(self):
        np.testing.assert_array_equal(
            separated().squared_sensitivity(45), [1] * 20 + [2] * 20 + [3] * 5
        )

    @pytest.mark.parametrize("rounds", [1, 20, 21, 100])
    def test_is_one_gaussian(self, rounds):
        taken = -(-rounds // 20)
        found = separated()
        assert found.effective_noise_multiplier(rounds) == pytest.approx(
            1.5 / np.sqrt(taken)
        )
        accountant = dp_accounting.pld.PLDAccountant()
        accountant.compose(dp_accounting.GaussianDpEvent(1.5), taken)
        expected = accountant.get_epsilon(DELTA)
        assert found.epsilon(rounds, DELTA, "pld") == pytest.approx(expected, rel=1e-3)
        assert found.zcdp(rounds) == pytest.approx(taken / (2 * 1.5**2))
        orders = np.array([1.5, 4.0, 32.0])
        np.testing.assert_allclose(
            found.rdp(rounds, orders), taken * orders / (2 * 1.5**2)
        )

    @pytest.mark.parametrize("accountant", ["pld", "rdp"])
    def test_curve(self, accountant):
        curve = separated().epsilon_curve(60, DELTA, accountant)
        assert (np.diff(curve) >= 0).all()
        assert len(set(curve)) == 3
        assert curve[-1] == separated().epsilon(60, DELTA, accountant)


class TestWithAmplification:
    def test_of_a_sampler(self):
        found = amplified()
        assert found == privacy.MatrixEvent(
            1.5, 40, 4, 5, 5, 0.25, 120, 6.0, "add_or_remove_one"
        )
        assert privacy.event_from_dict(found.to_dict()) == found

    @pytest.mark.parametrize("rounds", [1, 5, 6, 42])
    def test_is_sampled_once_a_turn(self, rounds):
        """ceil(rounds / 5) rounds of DP-SGD at rate 5 x 6/120."""
        turns = -(-rounds // 5)
        one = dp_accounting.PoissonSampledDpEvent(
            0.25, dp_accounting.GaussianDpEvent(1.5)
        )
        exact = dp_accounting.pld.PLDAccountant()
        exact.compose(one, turns)
        found = amplified()
        curve = found.epsilon_curve(rounds, DELTA, "pld")
        assert curve[-1] == pytest.approx(exact.get_epsilon(DELTA), rel=1e-3)
        assert found.epsilon(rounds, DELTA, "pld") == pytest.approx(curve[-1], rel=1e-6)
        renyi = dp_accounting.rdp.RdpAccountant()
        renyi.compose(one, turns)
        assert found.epsilon(rounds, DELTA, "rdp") == pytest.approx(
            renyi.get_epsilon(DELTA), rel=1e-6
        )
        np.testing.assert_allclose(
            found.rdp(rounds, renyi._orders), renyi._rdp, rtol=1e-9
        )

    def test_curve_steps_with_the_turns(self):
        curve = amplified().epsilon_curve(12, DELTA, "pld")
        assert curve.shape == (12,)
        assert len(set(curve[:5])) == len(set(curve[5:10])) == 1
        assert curve[0] < curve[5] < curve[10]

    def test_is_worth_something(self):
        """Never above the Gaussian that it would be without."""
        without = dataclasses.replace(
            amplified(), sampling_rate=None, neighbouring_relation="zero_out"
        )
        with_it = amplified().epsilon_curve(40, DELTA, "pld")
        assert (with_it < 0.6 * without.epsilon_curve(40, DELTA, "pld")).all()
        assert amplified().effective_noise_multiplier(40) == (
            without.effective_noise_multiplier(40)
        )

    def test_everybody_in_every_turn_is_not_amplified(self):
        everybody = dataclasses.replace(amplified(), sampling_rate=1.0)
        without = dataclasses.replace(
            amplified(), sampling_rate=None, neighbouring_relation="zero_out"
        )
        np.testing.assert_allclose(
            everybody.epsilon_curve(12, DELTA, "pld"),
            without.epsilon_curve(12, DELTA, "pld"),
        )


@pytest.mark.parametrize("make", [separated, amplified])
def test_without_noise_there_is_no_privacy(make):
    none = make(noise_multiplier=0.0)
    assert none.epsilon(3, DELTA, "pld") == np.inf
    assert none.epsilon_curve(3, DELTA, "rdp").tolist() == [np.inf] * 3
    assert none.rdp(3, np.array([2.0])).tolist() == [np.inf]
    assert none.zcdp(3) == np.inf


@pytest.mark.parametrize("make", [separated, amplified])
def test_calibration(make):
    z = privacy.calibrate_event(make(), 3.0, 40, DELTA, "pld")
    noisy, less = make(noise_multiplier=z), make(noise_multiplier=z - 1e-3)
    assert noisy.epsilon(40, DELTA, "pld") <= 3.0 < less.epsilon(40, DELTA, "pld")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise_multiplier": np.nan}, "noise_multiplier must be at least 0"),
        ({"bands": 6}, "at most the sampler's min_separation of 5, got 6"),
        ({"bands": 0}, "bands must be a whole number"),
        ({"rounds": 3}, "at most the 3 rounds"),
        ({"rounds_per_epoch": 4}, "rounds_per_epoch must be at least the min_sep"),
        ({"sampling_rate": 1.5}, r"sampling_rate must be in \(0, 1\]"),
        ({"sampling_rate": None}, "neighbouring_relation must be 'zero_out'"),
        ({"neighbouring_relation": "replace_one"}, "must be 'add_or_remove_one'"),
    ],
)
def test_bad_fields(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(amplified(), **change)


@pytest.mark.parametrize("sampler", [sampling.Poisson, sampling.FixedSize])
def test_samplers_that_do_not_separate_are_refused(sampler):
    with pytest.raises(ValueError, match="use the min_separation or the cyclic"):
        privacy.MatrixEvent.of(1.0, sampler(IDS, 6, 1).amplification, rounds=8, bands=1)


@pytest.mark.parametrize("sampler", [sampling.Shuffled(IDS, 6, 1), sampling.Full(IDS)])
def test_samplers_of_consecutive_rounds_allow_independent_noise_only(sampler):
    with pytest.raises(ValueError, match="min_separation of 1, got 2"):
        privacy.MatrixEvent.of(1.0, sampler.amplification, rounds=8, bands=2)
    one = privacy.MatrixEvent.of(1.0, sampler.amplification, rounds=8, bands=1)
    epochs = 1 if isinstance(sampler, sampling.Shuffled) else 8
    assert one.squared_sensitivity(8)[-1] == epochs


def test_descriptions_say_what_is_assumed():
    assert "in rounds at least 5 apart" in separated().description()[1]
    assert "joins independently with probability 0.25" in amplified().description()[1]
    assert "2306.08153" in amplified().description()[0]
