"""ε at tiny δ: finite, growing, and the smallest of the accountants."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from tfl_research import privacy, sampling
from tfl_research.privacy.accounting.composition import composed_by
from tfl_research.privacy.accounting.run_curve import RunCurve
from tfl_research.privacy.ledger import spending

LEDGERS = pathlib.Path(__file__).parents[2] / "golden" / "ledgers"
DELTAS = [10.0**-power for power in range(3, 41)]
EVENT = privacy.GaussianEvent.poisson(2.0, 0.02)


@pytest.mark.parametrize("name", sorted(path.name for path in LEDGERS.glob("*.jsonl")))
def test_every_kind_of_event(name):
    groups = spending.read_ledger(LEDGERS / name).groups
    found = [composed_by(groups, delta) for delta in DELTAS]
    epsilons = np.array([epsilon for epsilon, _ in found])
    assert np.all(np.isfinite(epsilons))
    assert np.all(np.diff(epsilons) >= 0)
    for delta, (epsilon, accountant) in list(zip(DELTAS, found))[::6]:
        named = privacy.composed_epsilon(groups, delta, accountant)
        assert named == pytest.approx(epsilon, rel=1e-9)
        assert epsilon <= privacy.composed_epsilon(groups, delta, "rdp") * (1 + 1e-9)


def test_pld_says_inf_where_rdp_has_a_bound():
    assert privacy.composed_epsilon([(EVENT, 100)], 1e-25, "pld") == np.inf
    by_rdp = privacy.composed_epsilon([(EVENT, 100)], 1e-25, "rdp")
    assert composed_by([(EVENT, 100)], 1e-25) == (by_rdp, "rdp")
    assert composed_by([(EVENT, 100)], 1e-12)[1] == "pld"
    curve = privacy.EpsilonCurve(EVENT, 1e-25)
    assert curve(100) == pytest.approx(by_rdp)
    assert curve.at(3000) == pytest.approx(
        privacy.EpsilonCurve(EVENT, 1e-25, "rdp").at(3000)
    )
    beside = [(EVENT.with_noise(3.0), 4)]
    expected = privacy.composed_epsilon([(EVENT, 100), *beside], 1e-25, "rdp")
    assert RunCurve(EVENT, 1e-25)(100, beside) == pytest.approx(expected)


def test_a_plan_names_the_accountant_that_gave_its_number(tmp_path):
    def plan(delta, **settings):
        return privacy.UserLevelPlan.create(
            "gaussian",
            l2_norm_clip=1.0,
            amplification=sampling.Poisson(range(1000), 20, seed=1).amplification,
            rounds=100,
            delta=delta,
            **settings,
        )

    made = plan(1e-25, target_epsilon=8.0)
    assert made.accountant == "rdp"
    by_rdp = privacy.composed_epsilon([(made.event, 100)], 1e-25, "rdp")
    assert 7.9 < by_rdp <= 8
    assert plan(1e-5, noise_multiplier=1.0).accountant == "pld"
    assert plan(1e-25, noise_multiplier=1.0, accountant="pld").accountant == "pld"
    with privacy.Ledger(tmp_path / "ledger.jsonl") as ledger:
        account = privacy.RoundAccount(ledger, made)
        assert account.accountant == "rdp"
        assert account.epsilon_after(100) == pytest.approx(by_rdp)


def test_gaussians_without_sampling_are_exact():
    """Against an expansion of the normal's tail, in high precision."""
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 60
    event = privacy.GaussianEvent("none", 4.0, 1.0, 9, 9.0, "add_or_remove_one")
    for delta in DELTAS[::6]:
        epsilon = mpmath.mpf(privacy.composed_epsilon([(event, 4)], delta))
        mu = mpmath.mpf(1) / 2
        found = mpmath.ncdf(mu / 2 - epsilon / mu) - mpmath.exp(epsilon) * mpmath.ncdf(
            -mu / 2 - epsilon / mu
        )
        assert float(found) == pytest.approx(delta, rel=1e-6)
