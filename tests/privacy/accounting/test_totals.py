"""ε of rounds under unlike relations, by hand and against both parts."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import numpy as np
import pytest

from tfl_research import privacy
from tfl_research.privacy.accounting import relations, totals
from tfl_research.privacy.accounting.composition import composed_epsilon
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.events.record_event import RecordEvent
from tfl_research.privacy.accounting.totals import composed_total

POISSON = GaussianEvent.poisson(1.0, 0.02)
FIXED = GaussianEvent("fixed_size", 4.0, 0.05, 1000, 50.0, "replace_one")
ZERO = GaussianEvent("none", 10.0, 1.0, 1000, 1000.0, "zero_out")


@dataclasses.dataclass(frozen=True)
class PlainEvent(privacy.Event):
    """(ε, 0)-DP whatever δ, so that the totals can be computed by hand."""

    kind: ClassVar[str] = "plain"
    composes_by_round: ClassVar[bool] = True
    epsilon_of_one: float
    neighbouring_relation: str

    def rdp(self, rounds, orders):
        return np.full(len(orders), rounds * self.epsilon_of_one)

    def epsilon_curve(self, rounds, delta, accountant):
        return self.epsilon_of_one * np.arange(1, rounds + 1)

    def description(self):
        return []


def test_what_composes_one_relation_names_what_joins_several():
    with pytest.raises(ValueError, match="composed_total, which combines such runs"):
        privacy.composed_epsilon([(POISSON, 3), (FIXED, 2)], 1e-5)
    joined = privacy.composed_total([(POISSON, 3), (FIXED, 2)], 1e-5)
    assert joined == composed_total([(POISSON, 3), (FIXED, 2)], 1e-5)
    unknown = [(PlainEvent(0.5, "add_or_remove_one"), 3), (PlainEvent(0.5, "odd"), 3)]
    with pytest.raises(ValueError, match="no theorem combines these"):
        privacy.composed_total(unknown, 1e-5)


def test_by_hand_two_steps_and_a_sum():
    """2 · 3 · 0.5 of the converted, and 2 · 0.25, whatever δ is given to whom."""
    mixed = [
        (PlainEvent(0.5, "add_or_remove_one"), 3),
        (PlainEvent(0.25, "replace_one"), 2),
    ]
    total = composed_total(mixed, 1e-5)
    assert total.epsilon == pytest.approx(3.5, rel=1e-12)
    assert total.relation == "replace_one"
    assert "add_or_remove_one" in total.theorem
    zero = [(PlainEvent(0.5, "zero_out"), 3), mixed[0], mixed[1]]
    assert composed_total(zero, 1e-5).epsilon == pytest.approx(6.5, rel=1e-12)


def by_grid(first, second, delta):
    """The least of 2 ε₁(δ₁) + ε₂(δ - (1 + e^ε₁) δ₁) over a fine grid of δ₁."""
    best = math.inf
    for step in range(1, 400):
        start = delta * math.exp(-step / 40)
        epsilon = composed_epsilon([first], start)
        left = delta - (1 + math.exp(epsilon)) * start
        if left > 0:
            best = min(best, 2 * epsilon + composed_epsilon([second], left))
    return best


def test_delta_is_shared_out_nearly_best():
    first = (GaussianEvent("none", 6.0, 1.0, 1000, 1000.0, "add_or_remove_one"), 9)
    second = (GaussianEvent("none", 8.0, 1.0, 1000, 1000.0, "replace_one"), 4)
    found = composed_total([first, second], 1e-5).epsilon
    assert found == pytest.approx(by_grid(first, second, 1e-5), rel=2e-3)
    # The grid of shares is coarse, and the found share of δ is one of a bound.
    assert found >= by_grid(first, second, 1e-5) * (1 - 1e-3)


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-12, 1e-25, 1e-40])
@pytest.mark.parametrize(
    "groups",
    [
        [(POISSON, 100), (FIXED, 50)],
        [(POISSON, 100), (ZERO, 10)],
        [(POISSON, 100), (FIXED, 50), (ZERO, 10)],
    ],
)
def test_the_total_is_above_every_part(groups, delta):
    total = composed_total(groups, delta)
    assert math.isfinite(total.epsilon)
    parts = [composed_epsilon([group], delta) for group in groups]
    assert total.epsilon > max(parts)
    doubled = [
        part * (1 if event.neighbouring_relation == "replace_one" else 2)
        for part, (event, _) in zip(parts, groups)
    ]
    assert total.epsilon > sum(doubled)
    assert total.relation == "replace_one"


@pytest.mark.parametrize("delta", [1e-2, 1e-5, 1e-40])
def test_little_noise_has_a_finite_bound_by_renyi_divergences(delta):
    # ε is in the hundreds, and no float is as small as δ e^-ε.
    first = GaussianEvent("none", 0.1, 1.0, 1000, 1000.0, "add_or_remove_one")
    second = GaussianEvent("none", 8.0, 1.0, 1000, 1000.0, "replace_one")
    found = composed_total([(first, 9), (second, 1)], delta)
    assert "Rényi divergences over two steps" in found.theorem
    assert found.accountant == "pld and rdp"
    # Both together are one Gaussian of twice the sensitivity, which is attained.
    attained = dataclasses.replace(
        first, noise_multiplier=0.1 / 3, neighbouring_relation="replace_one"
    )
    least = composed_epsilon([(attained, 1), (second, 1)], delta)
    assert least < found.epsilon < 1.2 * least


def test_what_other_runs_spent_is_composed_once(monkeypatch):
    composed = []
    by = totals.composed_by
    monkeypatch.setattr(
        totals, "composed_by", lambda *args: composed.append(args) or by(*args)
    )
    spent = [(GaussianEvent.poisson(1.7, 0.02), 40)]
    own = GaussianEvent("none", 8.0, 1.0, 50, 50.0, "replace_one")
    composed_total([*spent, (own, 1)], 1e-5)
    before = len(composed)
    composed_total([*spent, (own, 2)], 1e-5)
    # One for each share of δ, all of the run's own rounds.
    later = composed[before:]
    assert len(later) == 7
    assert all(groups == ((own, 2),) for groups, _, _ in later)


def test_one_relation_is_composed_as_ever():
    groups = [(POISSON, 100), (POISSON.with_noise(2.0), 30)]
    total = composed_total(groups, 1e-5)
    assert total.epsilon == composed_epsilon(groups, 1e-5)
    assert (total.relation, total.theorem) == ("add_or_remove_one", None)
    assert total.accountant == "pld"
    assert composed_total(groups, 1e-5, "rdp").accountant == "rdp"
    empty = composed_total([], 1e-5)
    assert (empty.epsilon, empty.relation, empty.words) == (0.0, None, "no rounds")


def test_no_noise_is_no_privacy():
    assert composed_total([(POISSON.with_noise(0), 1), (FIXED, 1)], 0.1).epsilon == (
        math.inf
    )


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (RecordEvent(1.0, 8.0, 4, 1, (("a", 90),)), "different units of privacy"),
        (PlainEvent(0.5, "edges"), "different neighbouring relations"),
    ],
)
def test_what_no_theorem_joins_is_refused(other, message):
    with pytest.raises(ValueError, match=message):
        composed_total([(FIXED, 1), (other, 1)], 1e-5)


def test_convertible_relations():
    assert relations.convertible(["edges"])
    assert relations.convertible(["replace_one", "zero_out", "add_or_remove_one"])
    assert not relations.convertible(["edges", "zero_out"])
