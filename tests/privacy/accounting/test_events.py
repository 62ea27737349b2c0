"""One conformance suite for the events of all kinds, and events from JSON."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from tfl_research import privacy, sampling
from tfl_research.privacy.accounting import composition as accounting, events
from tfl_research.privacy.accounting.events import event_from_dict
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.losses import renyi
from tfl_research.privacy.mechanisms.catalogue.run_context import RunShape

POISSON = sampling.Poisson(range(100), 5, seed=1).amplification
SEPARATED = sampling.MinSeparation(range(100), 10, seed=1).amplification
CYCLIC = sampling.CyclicPoisson(range(100), 5, seed=1, min_separation=4).amplification


def distributed(name):
    plan = privacy.plan_distributed(
        name, noise_multiplier=1.5, dimension=30, cohort_size=10
    )
    return plan.event(population=100)


@pytest.fixture(
    scope="module",
    params=[
        lambda: GaussianEvent.of(1.5, POISSON),
        lambda: GaussianEvent("fixed_size", 3.0, 0.05, 100, 5, "replace_one"),
        lambda: GaussianEvent.of(1.5, SEPARATED),
        lambda: privacy.TreeEvent.of(1.5, SEPARATED, restart_every=6),
        lambda: privacy.MatrixEvent.of(1.5, SEPARATED, rounds=25, bands=5),
        lambda: privacy.MatrixEvent.of(1.5, CYCLIC, rounds=25, bands=3),
        lambda: distributed("discrete_gaussian"),
        lambda: distributed("skellam"),
        lambda: privacy.LocalGaussianEvent(4.0, 100, 10),
        lambda: privacy.RecordEvent(1.5, 8.0, 5, 1, (("a", 400), ("b", 90))),
        lambda: privacy.HyperparameterSearchEvent(GaussianEvent.of(1.5, POISSON), 5.0),
    ],
    ids=[
        "poisson",
        "fixed_size",
        "separated",
        "tree",
        "matrix",
        "cyclic_matrix",
        "discrete_gaussian",
        "skellam",
        "local_gaussian",
        "record",
        "search",
    ],
)
def event(request):
    return request.param()


class TestEveryEvent:
    def test_json_gives_the_event_back(self, event):
        fields = json.loads(json.dumps(event.to_dict(), allow_nan=False))
        assert fields["kind"] == event.kind
        assert event.kind in events.EVENTS
        assert event_from_dict(fields) == event
        assert hash(event_from_dict(fields)) == hash(event)

    def test_words_and_names(self, event):
        assert event.unit in ("client", "record")
        assert event.neighbouring_relation in sampling.NEIGHBOURING_RELATIONS
        assert set(event.accountants) <= set(events.ACCOUNTANTS)
        assert event.accountants
        assert all(line and line[0] != " " for line in event.description())

    def test_curves(self, event):
        for accountant in event.accountants:
            curve = event.epsilon_curve(20, 1e-5, accountant)
            assert curve.shape == (20,)
            assert curve.dtype == np.float64
            assert np.isfinite(curve).all()
            assert curve[0] > 0
            assert (np.diff(curve) >= 0).all()
            # A shorter curve is the beginning of a longer one.
            for rounds in (1, 2, 7):
                shorter = event.epsilon_curve(rounds, 1e-5, accountant)
                np.testing.assert_array_equal(shorter, curve[:rounds])
            at = privacy.EpsilonCurve(event, 1e-5, accountant).at(20)
            assert at == pytest.approx(curve[-1], rel=1e-6)

    def test_rdp_gives_the_curve_of_the_rdp_accountant(self, event):
        orders = renyi.default_orders()
        curve = event.epsilon_curve(12, 1e-5, "rdp")
        for rounds in (1, 12):
            divergences = event.rdp(rounds, orders)
            assert divergences.shape == orders.shape
            assert (np.diff(divergences) >= -1e-9).all()
            found = renyi.rdp_epsilons(orders, divergences[np.newaxis], 1e-5)[0]
            assert curve[rounds - 1] == pytest.approx(found, rel=1e-9)

    def test_the_tightest_accountant_comes_first(self, event):
        epsilons = [event.epsilon_curve(9, 1e-5, a)[-1] for a in event.accountants]
        assert epsilons == sorted(epsilons)

    def test_an_accountant_that_does_not_apply_is_refused(self, event):
        for accountant in (*events.ACCOUNTANTS, "gdp"):
            if accountant not in event.accountants:
                with pytest.raises(ValueError, match="'rdp'"):
                    event.epsilon_curve(3, 1e-5, accountant)
        with pytest.raises(ValueError, match="delta must be above 0"):
            event.epsilon_curve(3, 0.0, "rdp")

    def test_no_noise_is_infinite_in_every_account(self, event):
        bare = event.with_noise(0.0)
        for accountant in bare.accountants:
            assert np.isposinf(bare.epsilon_curve(3, 1e-5, accountant)).all()
        other = event.with_noise(9.0)
        assert privacy.composed_epsilon([(bare, 1), (other, 2)], 1e-5) == math.inf
        for z in (-1.0, math.nan, math.inf):
            with pytest.raises(ValueError, match="noise_multiplier"):
                event.with_noise(z)

    def test_more_noise_costs_less_and_calibration_finds_the_least(self, event):
        # Of distributed noise at a grid that stays; `plan_distributed` makes it anew.
        accountant = event.accountants[0]
        found = privacy.calibrate_event(event, 3.0, 4, 1e-3, accountant)

        def spent(z):
            noisy = event.with_noise(z)
            return privacy.EpsilonCurve(noisy, 1e-3, accountant).at(4)

        assert spent(found) <= 3.0 < spent(found - 1e-3)
        assert spent(2 * found) < spent(found)

    def test_composition_with_itself(self, event):
        once = privacy.composed_epsilon([(event, 5)], 1e-5)
        twice = privacy.composed_epsilon([(event, 5), (event, 5)], 1e-5)
        ten = privacy.composed_epsilon([(event, 10)], 1e-5)
        assert once < twice
        if event.composes_by_round:
            assert twice == ten
        else:
            # Two runs of correlated noise, or two searches, are not one longer one.
            assert event.kind in ("tree", "banded_matrix", "hyperparameter_search")
            assert twice >= ten
        assert privacy.composed_epsilon([(event, 5)], 1e-5, "rdp") == pytest.approx(
            event.epsilon_curve(5, 1e-5, "rdp")[-1], rel=1e-9
        )

    def test_zcdp_bounds_the_divergences(self, event):
        rho = accounting.composed_zcdp([(event, 8)])
        if event.kind == "hyperparameter_search":
            assert rho is None
            return
        assert rho is not None
        # For Skellam noise no ρ is known.
        assert math.isinf(rho) == (event.kind == "skellam")
        orders = renyi.default_orders()
        assert (event.rdp(8, orders) <= rho * orders * (1 + 1e-9)).all()


def test_two_runs_of_a_tree_are_not_one_longer_run():
    tree = privacy.TreeEvent.of(1.5, SEPARATED, restart_every=1000)
    longer = privacy.composed_epsilon([(tree, 10)], 1e-5)
    two = privacy.composed_epsilon([(tree, 5), (tree, 5)], 1e-5)
    # A client is in one round of ten, and so in each of the runs: two Gaussians.
    depths = [tree.squared_sensitivity(10)[t - 1] for t in (5, 10)]
    assert longer == pytest.approx(gaussian_epsilon(math.sqrt(depths[1]) / 1.5))
    assert two == pytest.approx(gaussian_epsilon(math.sqrt(2 * depths[0]) / 1.5))
    assert two > longer


def gaussian_epsilon(mu):
    from tfl_research.privacy.accounting.losses import gaussian

    return gaussian.epsilons(np.array([mu]), 1e-5)[0]


def test_a_run_with_other_kinds_is_composed_by_what_both_have():
    gaussian = GaussianEvent.of(2.0, SEPARATED)
    tree = privacy.TreeEvent.of(1.5, SEPARATED, restart_every=6)
    z = tree.effective_noise_multiplier(9)
    both = privacy.composed_epsilon([(gaussian, 3), (tree, 9)], 1e-5)
    assert both == pytest.approx(gaussian_epsilon(math.sqrt(3 / 4 + z**-2)))
    # Amplified turns stay amplified next to rounds of another run.
    matrix = privacy.MatrixEvent.of(1.5, CYCLIC, rounds=25, bands=3)
    poisson = GaussianEvent.of(1.5, POISSON)
    turns = GaussianEvent.poisson(1.5, CYCLIC.sampling_rate_in_turn)
    np.testing.assert_allclose(
        privacy.composed_epsilon([(matrix, 8), (poisson, 3)], 1e-5),
        privacy.composed_epsilon([(turns, 2), (poisson, 3)], 1e-5),
        rtol=1e-12,
    )
    # Where one has Rényi divergences only, they are added for all.
    skellam = distributed("skellam")
    orders = renyi.default_orders()
    added = skellam.rdp(4, orders) + tree.rdp(9, orders)
    by_hand = renyi.rdp_epsilons(orders, added[np.newaxis], 1e-5)[0]
    for accountant in ("pld", "rdp", None):
        found = privacy.composed_epsilon([(skellam, 4), (tree, 9)], 1e-5, accountant)
        assert found == pytest.approx(by_hand, rel=1e-12)


def test_zcdp_of_unsampled_rounds_by_hand():
    # ρ = T / (2 z²), and replace-one halves z.
    unsampled = GaussianEvent("none", 2.0, 1, 9, 9, "add_or_remove_one")
    assert accounting.composed_zcdp([(unsampled, 6)]) == 6 / (2 * 2**2)
    replaced = dataclasses.replace(unsampled, neighbouring_relation="replace_one")
    assert accounting.composed_zcdp([(replaced, 6)]) == 6 / 2
    assert accounting.composed_zcdp([(unsampled, 2), (unsampled, 4)]) == 6 / 8
    bare = dataclasses.replace(unsampled, noise_multiplier=0.0)
    assert accounting.composed_zcdp([(bare, 1)]) == math.inf
    assert accounting.composed_zcdp([]) == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "kind of event must be one of"),
        ({"kind": "laplace"}, "got 'laplace'"),
        ({"kind": "gaussian", "noise_multiplier": 1.0}, "not the fields of a"),
        (
            {**GaussianEvent.of(1.0, POISSON).to_dict(), "colour": 3},
            "not the fields of a 'gaussian' event",
        ),
        (
            {**GaussianEvent.of(1.0, POISSON).to_dict(), "noise_multiplier": -1.0},
            "noise_multiplier must be at least 0",
        ),
        (
            {**GaussianEvent.of(1.0, POISSON).to_dict(), "sampling_rate": 2.0},
            "sampling_rate must be in",
        ),
    ],
)
def test_fields_that_are_no_event(fields, message):
    with pytest.raises(ValueError, match=message):
        event_from_dict(fields)


def test_independent_noise_refuses_the_sampling_of_matrices():
    with pytest.raises(ValueError, match="use a matrix mechanism"):
        GaussianEvent.of(1.0, CYCLIC)


def test_units_are_not_mixed():
    client = GaussianEvent.of(1.0, POISSON)
    record = privacy.RecordEvent(1.0, 8.0, 5, 1, (("a", 400),))
    assert client.neighbouring_relation == record.neighbouring_relation
    with pytest.raises(ValueError, match=r"units of privacy \(\['client', 'record'\]"):
        privacy.composed_epsilon([(client, 1), (record, 1)], 1e-5)


def test_noise_far_beyond_use_is_refused():
    GaussianEvent.poisson(1e6, 0.5)
    for noise in (1.01e6, 1e300, math.inf):
        with pytest.raises(ValueError, match=r"at most 1e\+06, got"):
            GaussianEvent.poisson(noise, 0.5)


def test_mechanisms_and_events_agree_on_whose_noise_it_is():
    shape = RunShape(SEPARATED, 20, 10.0, lambda: 30)
    for name, mechanism in privacy.MECHANISMS.items():
        event = mechanism().event(1.5, shape)
        assert mechanism().noised_at_clients == event.noised_by_clients, name


@pytest.mark.parametrize(
    "event",
    [
        lambda r: GaussianEvent("poisson", 1.5, r, 4, 4 * r, "add_or_remove_one"),
        lambda r: GaussianEvent("fixed_size", 3.0, r, 4, 4 * r, "replace_one"),
        lambda r: privacy.MatrixEvent(
            1.5, 40, 4, 5, 5, r, 120, 24.0 * r, "add_or_remove_one"
        ),
        lambda r: privacy.RecordEvent(
            noise_multiplier=1.1,
            expected_batch_size=64 * r,
            local_steps=5,
            microbatch_size=1,
            clients=(("a", 64), ("b", 10)),
        ),
    ],
    ids=["poisson", "fixed", "cyclic", "records"],
)
def test_what_everybody_does_need_not_stay_unknown(event):
    assert "nobody must learn which" in " ".join(event(0.5).description())
    text = " ".join(event(1.0).description())
    assert "unknown" not in text
    assert "nothing is amplified" in text


@pytest.mark.parametrize(
    ("relation", "change"),
    [
        ("add_or_remove_one", "adding or removing one client"),
        ("zero_out", "replacing one client's update by zero"),
        # The statement says that the sensitivity is twice the clip.
        ("replace_one", "adding or removing one client"),
    ],
)
def test_the_sensitivity_is_of_the_relation(relation, change):
    event = GaussianEvent("none", 1.5, 1.0, 4, 4, relation)
    assert f"the l2 sensitivity to {change} " in event.description()[0]
