"""Computes ε of rounds under different neighbouring relations.

Rounds of each relation are composed separately. Replacing a client is two steps of
add-or-remove-one: the client leaves, and another one joins. Let all rounds of that
relation be (ε, δ)-DP, D and D' be neighbours under replace-one, and D'' be both of them
without the client. For every set S of outputs

  P(D in S) <= e^ε P(D'' in S) + δ <= e^2ε P(D' in S) + (1 + e^ε) δ

which is group privacy for two (Vadhan 2017, The Complexity of Differential Privacy,
Lemma 2.2, has the slightly larger 2 e^ε δ). Under zero-out the two steps are: the
client's update becomes zero, then another update. The first step leads from D and from
D' to the same D'', because a client's slot and participation do not depend on its data.
Group privacy gives no bound if e^ε δ is above 1 for every δ that a float can have.
Rényi divergences over the same two steps always give a bound, and the smaller bound
counts (Mironov 2017, arXiv 1702.07476, Proposition 11, with p = 2 - 1/α, the best p for
Gaussian noise):

  D_α(D, D') <= 2α / (2α - 1) D_{2α-1}(D, D'') + D_2α(D'', D')

All guarantees are then under replace-one and add up, Σ ε and Σ δ, also if rounds of the
relations alternate and depend on each other (Vadhan and Zhang 2023, arXiv 2207.08335).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from tfl_research.privacy.accounting.composition import composed_by
from tfl_research.privacy.accounting.events import Event, check_delta
from tfl_research.privacy.accounting.losses.renyi import default_orders, rdp_epsilons
from tfl_research.privacy.accounting.relations import (
    REPLACE_ONE,
    TWO_STEPS,
    Total,
    convertible,
)

# δ is divided into this many parts, and each relation gets one of `_NUMBERS` of parts.
# Few numbers are tried, since each takes a composition, and ε changes little between
# neighbouring numbers.
_PARTS = 16
_NUMBERS = frozenset([1, 2, 4, 8, 12, 14, 15])
_STEPS_TO_DELTA = 40
_BY_STEPS = "group privacy of two steps, (ε, δ) to (2ε, (1 + e^ε) δ)"
_BY_RENYI = "Rényi divergences over two steps"


def composed_total(
    events: Sequence[tuple[Event, int]], delta: float, accountant: str | None = None
) -> Total:
    """Computes ε of rounds, also under different neighbouring relations.

    Rounds of each relation are composed, converted to replace-one, and added. For
    rounds of one relation the result is that of `composed_epsilon`, which explains the
    arguments.

    Returns:
      ε, and the relation for which it holds: the rounds' own relation, or "replace_one"
      if rounds of other relations had to be converted.

    Raises:
      ValueError: the accountant is unknown, the units of privacy differ, or no theorem
        joins the relations.

    Example:
      >>> from tfl_research import privacy
      >>> poisson = privacy.GaussianEvent.poisson(1.0, 0.02)
      >>> fixed = privacy.GaussianEvent(
      ...     "fixed_size", 4.0, 0.05, 1000, 50.0, "replace_one"
      ... )
      >>> total = privacy.composed_total([(poisson, 10), (fixed, 10)], delta=1e-5)
      >>> round(total.epsilon, 2), total.relation
      (2.38, 'replace_one')
    """
    check_delta(delta)
    by_relation: dict[str, list[tuple[Event, int]]] = {}
    for event, rounds in events:
        if rounds > 0:
            by_relation.setdefault(event.neighbouring_relation, []).append(
                (event, rounds)
            )
    units = {event.unit for event, rounds in events if rounds > 0}
    if len(by_relation) < 2 or len(units) > 1 or not convertible(by_relation):
        # There is one relation, or `composed_by` refuses the rounds.
        epsilon, name = composed_by(events, delta, accountant)
        return Total(epsilon, next(iter(by_relation), None), None, name)
    parts = [
        _part(relation, tuple(groups), accountant)
        for relation, groups in sorted(by_relation.items())
    ]
    found = (
        [part.bound(delta * share / _PARTS) for part, share in zip(parts, shares)]
        for shares in _shares(len(parts))
    )
    best = min(found, key=lambda bounds: math.fsum(bound.epsilon for bound in bounds))
    names = sorted({bound.accountant for bound in best})
    converted = [part.relation for part in parts if part.relation in TWO_STEPS]
    ways = dict.fromkeys(bound.way for bound in best if bound.way is not None)
    theorem = (
        f"rounds under {' and '.join(converted)} converted by {' and by '.join(ways)}, "
        "and added by basic composition"
    )
    epsilon = math.fsum(bound.epsilon for bound in best)
    return Total(epsilon, REPLACE_ONE, theorem, " and ".join(names))


def _shares(parts: int) -> Iterator[tuple[int, ...]]:
    """Yields the ways to divide `_PARTS` among `parts` relations, in `_NUMBERS`."""
    for cuts in itertools.combinations(range(1, _PARTS), parts - 1):
        shares = [right - left for left, right in zip((0, *cuts), (*cuts, _PARTS))]
        if _NUMBERS.issuperset(shares):
            yield tuple(shares)


@dataclasses.dataclass(frozen=True)
class _Bound:
    """ε under replace-one, its accountant, and how it was converted."""

    epsilon: float
    accountant: str
    way: str | None = None


# A run asks for ε after each of its rounds, but the rounds of other runs do not change.
@functools.lru_cache(maxsize=32)
def _part(
    relation: str, groups: tuple[tuple[Event, int], ...], accountant: str | None
) -> _Part:
    return _Part(relation, groups, accountant)


class _Part:
    """The rounds of one relation, as a guarantee under replace-one."""

    def __init__(
        self,
        relation: str,
        groups: Sequence[tuple[Event, int]],
        accountant: str | None,
    ) -> None:
        self.relation = relation
        self._groups, self._accountant = groups, accountant
        self.bound = functools.lru_cache(maxsize=None)(self._bound)

    def _bound(self, delta: float) -> _Bound:
        """Returns the smallest bound of ε under replace-one at δ."""
        if self.relation not in TWO_STEPS:
            return _Bound(*composed_by(self._groups, delta, self._accountant))
        by_steps = self._by_steps(delta)
        if self._accountant == "pld" and math.isfinite(by_steps.epsilon):
            return by_steps
        orders, divergences = self._divergences
        by_renyi = float(rdp_epsilons(orders, divergences, delta)[0])
        if by_steps.epsilon <= by_renyi:
            return by_steps
        return _Bound(by_renyi, "rdp", _BY_RENYI)

    @functools.cached_property
    def _divergences(self) -> tuple[np.ndarray, np.ndarray]:
        """Orders, and the Rényi divergences over two steps, `[1, orders]`."""
        orders = default_orders()
        to, back = (
            np.sum([event.rdp(rounds, at) for event, rounds in self._groups], axis=0)
            for at in (2 * orders - 1, 2 * orders)
        )
        over_two = 2 * orders / (2 * orders - 1) * to + back
        return orders, over_two[np.newaxis]

    def _by_steps(self, delta: float) -> _Bound:
        """Returns the bound by group privacy for two steps."""
        # The largest δ'' with (1 + e^ε(δ'')) δ'' <= δ, approached from below.
        log_delta = math.log(delta)
        log_half, name = log_delta - math.log(2), "rdp"
        for _ in range(_STEPS_TO_DELTA):
            if log_half < math.log(5e-324) + 40:
                break
            half = math.exp(log_half)
            epsilon, name = composed_by(self._groups, half, self._accountant)
            if math.isinf(epsilon):
                break
            grown = epsilon + math.log1p(math.exp(-epsilon))
            if log_half + grown <= log_delta:
                return _Bound(2 * epsilon, name, _BY_STEPS)
            following = log_delta - grown
            # The next δ'' must be smaller, since the last one was too large.
            log_half = min(following, log_half - 1e-3)
        return _Bound(math.inf, name, _BY_STEPS)
