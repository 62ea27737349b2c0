"""Computes ε after each round of a run that charges more than its rounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfl_research.privacy.accounting import by_losses
from tfl_research.privacy.accounting.composition import (
    SMALL_DELTA,
    EpsilonCurve,
    common_accountant,
    composed_epsilon,
)
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.losses.mixed_gaussians import GrowingCurve

Groups = Sequence[tuple[Event, int]]


class RunCurve:
    """Computes ε of equal rounds, composed with the charges in addition to the rounds.

    A loop can ask for ε after each round at little cost: as long as no further charge
    is added, the values of many rounds are composed at once.
    """

    def __init__(
        self, event: Event, delta: float, accountant: str | None = None
    ) -> None:
        """Makes the curve of rounds without further charges.

        Args:
          event, delta, accountant: see `EpsilonCurve`.
        """
        self.event, self.delta = event, delta
        self._alone = EpsilonCurve(event, delta, accountant)
        self._accountant = accountant
        self._beside: tuple[tuple[Event, int], ...] = ()
        self._growing: GrowingCurve | None = None
        # Blocks of values, by the number of rounds of a block's first value.
        self._blocks: dict[int, np.ndarray] = {}
        self._asked = 0

    def up_to(self, rounds: int) -> None:
        """Computes the values of up to `rounds` rounds ahead of their use."""
        self._alone.up_to(rounds)

    def __call__(self, rounds: int, beside: Groups = ()) -> float:
        """Returns ε after `rounds` rounds.

        Args:
          rounds: at least 0.
          beside: pairs of an event and how often it is charged in addition to the
            rounds.
        """
        if self.event.composes_by_round and all(e == self.event for e, _ in beside):
            return self._alone(rounds + sum(count for _, count in beside))
        if not beside:
            return self._alone(rounds)
        if self._beside != tuple(beside):
            self._begin(tuple(beside))
        self._asked += 1
        # The first value costs less if it is composed alone.
        if self._growing is not None and rounds > 0 and self._asked > 1:
            return self._from_block(self._growing, rounds)
        groups = [(self.event, rounds), *beside]
        return composed_epsilon(groups, self.delta, self._accountant)

    def _begin(self, beside: tuple[tuple[Event, int], ...]) -> None:
        self._beside, self._asked = beside, 0
        self._growing, self._blocks = None, {}
        events = [self.event, *(event for event, _ in beside)]
        by_loss = common_accountant(self._accountant, events) == "pld"
        # For a smaller δ, each value is computed by the accountant that gives the
        # smallest value.
        if by_loss and self.delta >= SMALL_DELTA:
            self._growing = by_losses.growing(self.event, beside, self.delta)

    def _from_block(self, curve: GrowingCurve, rounds: int) -> float:
        first = 1
        # Blocks and values do not depend on the numbers of rounds that are asked for.
        while first + max(1, first // 2) <= rounds:
            first += max(1, first // 2)
        if first not in self._blocks:
            self._blocks[first] = curve.block(first)
        return float(self._blocks[first][rounds - first])
