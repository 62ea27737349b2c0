"""ε of rounds under unlike neighbouring relations.

Rounds of each relation are composed by themselves. Replacing a client is two steps of
add-or-remove-one: the client leaves, and another one joins. Let all rounds of that
relation be (ε, δ)-DP, D and D' be neighbours under replace-one, and D'' be both of them
without the client. For every set S of outputs

  P(D in S) <= e^ε P(D'' in S) + δ <= e^2ε P(D' in S) + (1 + e^ε) δ

which is group privacy for two (Vadhan 2017, The Complexity of Differential Privacy,
Lemma 2.2, has the slightly larger 2 e^ε δ). Under zero-out the two steps are: the
client's update becomes zero, then another update. The first step leads from D and from
D' to the same D'', because a client's slot and participation do not depend on its data.
All guarantees are then under replace-one and add up, Σ ε and Σ δ, also if rounds of the
relations alternate and depend on each other (Vadhan and Zhang 2023, arXiv 2207.08335).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence

from tfl_research.privacy.accounting.composition import composed_by
from tfl_research.privacy.accounting.events import Event, check_delta
from tfl_research.privacy.accounting.relations import (
    REPLACE_ONE,
    TWO_STEPS,
    Total,
    convertible,
)

# δ is shared out among the relations in so many parts.
_PARTS = 16
_STEPS_TO_DELTA = 40


def composed_total(
    events: Sequence[tuple[Event, int]], delta: float, accountant: str | None = None
) -> Total:
    """`composed_epsilon`, also for unlike neighbouring relations.

    See `composed_epsilon` for the arguments.

    Returns:
      ε with the relation that it is for: the rounds' own, or "replace_one" where rounds
      of other relations had to be converted.

    Raises:
      ValueError: see `composed_epsilon`; relations that no theorem joins.
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
        # One relation; or refused there.
        epsilon, name = composed_by(events, delta, accountant)
        return Total(epsilon, next(iter(by_relation), None), None, name)
    parts = [
        _Part(relation, groups, accountant)
        for relation, groups in sorted(by_relation.items())
    ]
    best = min(
        math.fsum(
            part.epsilon(delta * share / _PARTS) for part, share in zip(parts, shares)
        )
        for shares in _shares(len(parts))
    )
    names = sorted({name for part in parts for name in part.names})
    converted = [part.relation for part in parts if part.relation in TWO_STEPS]
    theorem = (
        f"rounds under {' and '.join(converted)} converted by group privacy of two "
        "steps, (ε, δ) to (2ε, (1 + e^ε) δ), and added by basic composition"
    )
    return Total(best, REPLACE_ONE, theorem, " and ".join(names))


def _shares(parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to share `_PARTS` out, at least one to each of so many."""
    for cuts in itertools.combinations(range(1, _PARTS), parts - 1):
        yield tuple(right - left for left, right in zip((0, *cuts), (*cuts, _PARTS)))


class _Part:
    """The rounds of one relation, as a guarantee under replace-one."""

    def __init__(
        self,
        relation: str,
        groups: Sequence[tuple[Event, int]],
        accountant: str | None,
    ) -> None:
        self.relation = relation
        self.names: set[str] = set()
        self._groups, self._accountant = groups, accountant
        self.epsilon = functools.lru_cache(maxsize=None)(self._epsilon)

    def _composed(self, delta: float) -> float:
        epsilon, name = composed_by(self._groups, delta, self._accountant)
        self.names.add(name)
        return epsilon

    def _epsilon(self, delta: float) -> float:
        """ε under replace-one at δ."""
        if self.relation not in TWO_STEPS:
            return self._composed(delta)
        # The largest δ'' with (1 + e^ε(δ'')) δ'' <= δ, approached from below.
        log_delta = math.log(delta)
        log_half = log_delta - math.log(2)
        best = math.inf
        for _ in range(_STEPS_TO_DELTA):
            if log_half < math.log(5e-324) + 40:
                return best
            epsilon = self._composed(math.exp(log_half))
            if math.isinf(epsilon):
                return best
            grown = epsilon + math.log1p(math.exp(-epsilon))
            if log_half + grown <= log_delta:
                best = min(best, 2 * epsilon)
                return best
            following = log_delta - grown
            # Smaller in any case: the step before was too large.
            log_half = min(following, log_half - 1e-3)
        return best
