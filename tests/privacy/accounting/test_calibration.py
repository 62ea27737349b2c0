"""Calibration returns the least noise, δ defaults are defensible."""

from __future__ import annotations

import dataclasses
import math

import pytest

from tfl_research import privacy
from tfl_research.privacy.accounting import calibration, search
from tfl_research.privacy.accounting.composition import EpsilonCurve
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent


@pytest.mark.parametrize(
    ("epsilon", "q", "rounds", "delta", "accountant"),
    [
        (2.0, 0.01, 1000, 1e-5, "pld"),
        (2.0, 0.01, 1000, 1e-5, "rdp"),
        (8.0, 0.1, 50, 1e-3, "pld"),
        (0.3, 0.001, 100, 1e-6, "pld"),
        (1.0, 1.0, 10, 1e-5, "pld"),
        (20.0, 0.02, 3, 1e-5, "rdp"),
    ],
)
def test_noise_is_the_least_that_meets_the_target(
    epsilon, q, rounds, delta, accountant
):
    found = privacy.calibrate_noise_multiplier(
        target_epsilon=epsilon,
        sampling_rate=q,
        rounds=rounds,
        delta=delta,
        accountant=accountant,
    )

    def spent(noise_multiplier):
        return privacy.epsilon_curve(
            noise_multiplier=noise_multiplier,
            sampling_rate=q,
            rounds=rounds,
            delta=delta,
            accountant=accountant,
        )[-1]

    assert spent(found) <= epsilon < spent(found - 1e-3)


@pytest.mark.parametrize("kind", ["fixed_size", "none"])
def test_other_sampling(kind):
    event = GaussianEvent(kind, 1.0, 0.1, 100, 10, "replace_one")
    found = privacy.calibrate_event(event, 5.0, 10, 1e-4)

    def spent(z):
        noisy = dataclasses.replace(event, noise_multiplier=z)
        return EpsilonCurve(noisy, 1e-4)(10)

    assert spent(found) <= 5.0 < spent(found - 1e-3)


def test_one_round_of_a_gaussian_by_the_closed_form():
    # δ(1; μ) = 1e-5 at σ = 3.730632 (Balle and Wang 2018, solved independently).
    found = privacy.calibrate_noise_multiplier(
        target_epsilon=1.0, sampling_rate=1.0, rounds=1, delta=1e-5
    )
    assert found == 3.731


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_epsilon": 0.0}, "target_epsilon must be above 0"),
        ({"target_epsilon": -1.0}, "target_epsilon must be above 0"),
        ({"target_epsilon": math.inf}, "target_epsilon must be above 0 and finite"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"delta": 0.0}, "delta must be above 0"),
        ({"sampling_rate": 0.0}, "sampling_rate must be in"),
    ],
)
def test_bad_arguments(change, message):
    good = {"target_epsilon": 1.0, "sampling_rate": 0.1, "rounds": 2, "delta": 1e-5}
    with pytest.raises(ValueError, match=message):
        privacy.calibrate_noise_multiplier(**{**good, **change})


def test_impossible_target_says_what_to_change():
    with pytest.raises(ValueError, match="raise the target, or take fewer rounds"):
        privacy.calibrate_noise_multiplier(
            target_epsilon=1e-7, sampling_rate=1.0, rounds=10**6, delta=1e-12
        )


def test_default_delta():
    assert privacy.default_delta(10**6) == pytest.approx(10**-6.6)
    assert privacy.default_delta(1000) == pytest.approx(1000**-1.1)
    assert privacy.default_delta(4) == 1e-3
    for clients in (1, 2, 10, 999, 10**8):
        assert privacy.default_delta(clients) < 1 / clients
    with pytest.raises(ValueError, match="num_clients must be at least 1"):
        privacy.default_delta(0)


def test_delta_warning():
    assert privacy.delta_warning(1e-5, 1000) is None
    warning = privacy.delta_warning(1e-3, 1000)
    assert warning is not None
    assert "at least 1/clients = 0.001" in warning
    assert "--delta=0.0005" in warning


GUESSED = [
    (GaussianEvent.poisson(1.0, 0.01), 2.0, 1000, 1e-5),
    (GaussianEvent.poisson(1.0, 0.5), 12.0, 4, 1e-3),
    (GaussianEvent.poisson(1.0, 0.01), 0.02, 10, 1e-6),
    (GaussianEvent.poisson(1.0, 0.2), 40.0, 2, 1e-9),
    (GaussianEvent("fixed_size", 1.0, 0.1, 100, 10, "replace_one"), 5.0, 300, 1e-4),
]


@pytest.mark.parametrize(("event", "epsilon", "rounds", "delta"), GUESSED)
def test_a_guess_saves_evaluations_and_changes_nothing(
    event, epsilon, rounds, delta, monkeypatch
):
    asked = []
    at = EpsilonCurve.at

    def counted(self, number):
        asked.append(self.event.noise)
        return at(self, number)

    monkeypatch.setattr(EpsilonCurve, "at", counted)
    found = privacy.calibrate_event(event, epsilon, rounds, delta)
    assert len(asked) <= 3
    # That the result is enough is never taken from the coarse lattice.
    assert found in asked
    asked.clear()
    monkeypatch.setattr(calibration, "_has_rough_values", lambda *_: False)
    assert privacy.calibrate_event(event, epsilon, rounds, delta) == found
    assert len(asked) > 9


def test_further_targets_of_an_event_need_fewer_rough_values(monkeypatch):
    computed = []
    composed = calibration._RoughValues._composed

    def counted(self, *given):
        computed.append(given)
        return composed(self, *given)

    monkeypatch.setattr(calibration._RoughValues, "_composed", counted)
    event, targets = GaussianEvent.poisson(1.0, 0.3), (4.0, 9.0, 6.0, 0.5, 6.0)
    alone, found, counts = [], [], []
    for target in targets:
        calibration._rough_values.cache_clear()
        computed.clear()
        alone.append(privacy.calibrate_event(event, target, 7, 1e-4))
        counts.append(len(computed))
    calibration._rough_values.cache_clear()
    computed.clear()
    for target in targets:
        found.append(privacy.calibrate_event(event, target, 7, 1e-4))
    assert found == alone
    assert len(computed) == len(set(computed)) <= sum(counts) - 8
    computed.clear()
    # Other rounds, δ and events are others; the event's own noise does not count.
    privacy.calibrate_event(event.with_noise(3.0), 6.0, 7, 1e-4)
    assert not computed
    for changed in (
        (event, 6.0, 8, 1e-4),
        (event, 6.0, 7, 1e-5),
        (GaussianEvent.poisson(1.0, 0.31), 6.0, 7, 1e-4),
    ):
        privacy.calibrate_event(*changed)
        assert computed
        computed.clear()


def test_a_target_that_the_least_noise_meets():
    event = GaussianEvent.poisson(1.0, 0.01)
    calibration._rough_values.cache_clear()
    for _ in range(2):
        assert privacy.calibrate_event(event, 1e7, 1, 1e-5) == 0.001


@pytest.mark.parametrize("least", [1, 2, 7, 100, 1000])
@pytest.mark.parametrize("guess", [1, 6, 7, 8, 99, 140, 4000])
def test_any_guess_finds_the_least(least, guess):
    asked = []

    def holds(number):
        asked.append(number)
        return number >= least

    assert search.least_from(holds, guess, 10_000) == least
    assert min(asked) >= 1
    assert len(asked) == len(set(asked))


def test_a_search_ends_above_the_most():
    asked = []

    def holds(number):
        asked.append(number)
        return False

    assert search.least_from(holds, 5, 100) is None
    assert max(asked) <= 100


def test_a_coarse_lattice_without_a_solution_decides_nothing(monkeypatch):
    event, epsilon, rounds, delta = GUESSED[0]
    wanted = privacy.calibrate_event(event, epsilon, rounds, delta)

    def fail(*_):
        raise ArithmeticError("no convergence")

    monkeypatch.setattr(calibration._RoughValues, "_composed", fail)
    calibration._rough_values.cache_clear()
    assert privacy.calibrate_event(event, epsilon, rounds, delta) == wanted


class _OwnEvent(GaussianEvent):
    """A user's event, with an ε of its own."""

    def epsilon(self, rounds, delta, accountant):
        return super().epsilon(rounds, delta, accountant) / 2

    def epsilon_curve(self, rounds, delta, accountant):
        return super().epsilon_curve(rounds, delta, accountant) / 2


def test_an_event_with_an_epsilon_of_its_own_is_calibrated_by_it():
    own = _OwnEvent.poisson(1.0, 0.01)
    plain = GaussianEvent.poisson(1.0, 0.01)
    found = privacy.calibrate_event(own, 1.0, 100, 1e-5)
    assert found == privacy.calibrate_event(plain, 2.0, 100, 1e-5)


def test_a_target_out_of_reach_is_refused_with_a_guess_too():
    event = GaussianEvent.poisson(1.0, 0.99)
    with pytest.raises(ValueError, match="no noise multiplier up to 100000"):
        privacy.calibrate_event(event, 1e-4, 10**9, 1e-9)


def test_a_rough_value_near_the_target_decides_nothing():
    event, delta = GaussianEvent.poisson(1.0, 0.01), 1e-5
    exact = EpsilonCurve(event, delta).at(1000)
    at = {
        share: calibration._RoughValues(event, share * exact, 1000, delta)
        for share in (0.9, 0.999, 1.0, 1.1)
    }
    # On the coarse lattice ε is larger by 0.05%.
    assert at[0.9].exceeds(1000)
    assert not at[0.999].exceeds(1000)
    assert not at[1.0].exceeds(1000)
    assert not at[1.1].exceeds(1000)
