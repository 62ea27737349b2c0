"""Events of a user's own whose curve or fields would make a ledger false."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from typing import Any, ClassVar

import numpy as np
import pytest

from tfl_research import privacy, sampling
from tfl_research.errors import SettingError
from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.composition import EpsilonCurve
from tfl_research.registry import registered


@dataclasses.dataclass(frozen=True)
class OutsideEvent(privacy.NoisedEvent):
    """An event whose curve is what a test says."""

    kind: ClassVar[str] = "outside"
    composes_by_round: ClassVar[bool] = True
    curve: ClassVar[Any] = staticmethod(lambda rounds: np.arange(1.0, rounds + 1))

    noise_multiplier: float
    extra: Any = ()
    neighbouring_relation: str = "zero_out"

    def rdp(self, rounds: int, orders: np.ndarray) -> np.ndarray:
        return rounds * np.asarray(orders)

    def epsilon_curve(self, rounds: int, delta: float, accountant: str) -> np.ndarray:
        values: np.ndarray = type(self).curve(rounds)
        return values

    def description(self) -> list[str]:
        return ["An event."]


@dataclasses.dataclass(frozen=True)
class Outside(type(privacy.MECHANISMS.resolve("gaussian"))):
    NAME: ClassVar[str] = "outside"

    extra: Any = ()

    def event(self, noise_multiplier: float, shape: Any) -> OutsideEvent:
        return OutsideEvent(noise_multiplier, self.extra)


@pytest.fixture(autouse=True)
def _registered():
    with contextlib.ExitStack() as stack:
        stack.enter_context(registered(events.EVENTS, "outside", OutsideEvent))
        stack.enter_context(registered(privacy.MECHANISMS, "outside", Outside))
        yield


def plan(extra=(), **changes):
    return privacy.UserLevelPlan.create(
        Outside(extra=extra),
        l2_norm_clip=1.0,
        amplification=sampling.Full(range(5)).amplification,
        rounds=3,
        noise_multiplier=1.0,
        delta=1e-2,
        **changes,
    )


CURVES = {
    "nan": lambda rounds: np.full(rounds, math.nan),
    "negative": lambda rounds: -np.arange(1.0, rounds + 1),
    "decreasing": lambda rounds: 1 / np.arange(1.0, rounds + 1),
    "short": lambda rounds: np.ones(1),
    "nothing": lambda rounds: None,
}


@pytest.mark.parametrize("name", CURVES)
def test_a_false_curve_is_refused(monkeypatch, name):
    """With NaN no round would ever exceed the budget."""
    monkeypatch.setattr(OutsideEvent, "curve", staticmethod(CURVES[name]))
    with pytest.raises(SettingError, match="mechanism=outside: epsilon_curve of a 'ou"):
        plan(budget_epsilon=2.0)


def test_a_curve_that_is_false_later_is_refused(monkeypatch):
    def later(rounds):
        return np.array([1.0, 2.0, math.nan, 4.0, 5.0, 6.0])[:rounds]

    monkeypatch.setattr(OutsideEvent, "curve", staticmethod(later))
    curve = EpsilonCurve(plan().event, 1e-2)
    assert curve(2) == 2.0
    with pytest.raises(ValueError, match="must not decrease"):
        curve(3)


def test_an_infinite_curve_is_a_curve(monkeypatch):
    infinite = staticmethod(lambda rounds: np.full(rounds, math.inf))
    monkeypatch.setattr(OutsideEvent, "curve", infinite)
    assert EpsilonCurve(plan().event, 1e-2)(3) == math.inf


@pytest.mark.parametrize("extra", [np.float32(0.1), [1, 2], math.nan, {"a": 1}])
def test_an_event_that_a_ledger_would_not_give_back(extra):
    with pytest.raises(SettingError, match="mechanism=outside: a 'outside' event can"):
        plan(extra)


@pytest.mark.parametrize("extra", [1, 0.5, None, "text", (1, (2.5, "x"))])
def test_an_event_that_a_ledger_gives_back(extra):
    assert plan(extra).event.extra == extra
