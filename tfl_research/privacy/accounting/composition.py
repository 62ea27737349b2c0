"""Computes ε of composed rounds, and chooses the accountant."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tfl_research.privacy.accounting import by_losses, events as event_module
from tfl_research.privacy.accounting.events import Event, check_delta
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.losses.renyi import default_orders, rdp_epsilons
from tfl_research.privacy.accounting.relations import convertible

ACCOUNTANTS = ("auto", *event_module.ACCOUNTANTS)
# Below this δ, Rényi DP is tried in addition to privacy loss distributions, whose tails
# of e^-50 count as infinite loss (`losses.loss_distribution`).
SMALL_DELTA = 1e-15


def resolve_accountant(accountant: str | None, event: Event) -> str:
    """Chooses the accountant for an event.

    Args:
      accountant: "pld" (privacy loss distributions), "rdp" (Rényi DP), or "auto"
        or None for the tightest that applies.
      event: the event of a round.

    Returns:
      "pld" or "rdp".

    Raises:
      ValueError: the accountant is unknown, or does not apply to the event.
    """
    _check_name(accountant)
    if accountant is None or accountant == "auto":
        return event.accountants[0]
    event_module.check_accountant(event, accountant)
    return accountant


def common_accountant(accountant: str | None, events: Sequence[Event]) -> str:
    """Chooses the accountant for rounds and releases with different events.

    Args:
      accountant: "rdp" for Rényi DP throughout; otherwise the tightest accountant that
        applies to all events.
      events: all events.

    Raises:
      ValueError: the accountant is unknown.
    """
    _check_name(accountant)
    if accountant == "rdp":
        return "rdp"
    if events and all(e is events[0] or e == events[0] for e in events):
        return events[0].accountants[0]
    everywhere = all("pld" in event.accountants for event in events)
    return "pld" if everywhere else "rdp"


def accountant_of(
    accountant: str | None, events: Sequence[tuple[Event, int]], delta: float
) -> str:
    """Returns the accountant that gives ε of these rounds: "pld" or "rdp".

    See `composed_epsilon` for the arguments.
    """
    if _tries_all(accountant, delta):
        return composed_by(events, delta, accountant)[1]
    return common_accountant(accountant, [event for event, _ in events])


def _tries_all(accountant: str | None, delta: float) -> bool:
    return accountant in (None, "auto") and delta < SMALL_DELTA


def _check_name(accountant: str | None) -> None:
    if accountant not in (None, *ACCOUNTANTS):
        raise ValueError(f"accountant must be one of {ACCOUNTANTS}, got {accountant!r}")


class EpsilonCurve:
    """Computes ε after t equal rounds; a larger t extends the curve.

    Values do not depend on the order of the calls, so that a resumed run reports the
    same ε as an uninterrupted run.
    """

    def __init__(
        self, event: Event, delta: float, accountant: str | None = None
    ) -> None:
        """Begins the curve at 0 rounds.

        Args:
          event: the event of every round.
          delta: target δ.
          accountant: see `resolve_accountant`. For "auto" and a δ below 1e-15, each
            value is the smallest of the accountants that apply.

        Raises:
          ValueError: δ is outside (0, 1), or the accountant does not apply.
        """
        check_delta(delta)
        self.event = event
        self.delta = delta
        self.accountant = resolve_accountant(accountant, event)
        self._names = [self.accountant]
        if _tries_all(accountant, delta):
            self._names = list(event.accountants)
        # ε after 0, 1, 2, ... rounds.
        self._values = np.zeros(1)

    def __call__(self, rounds: int) -> float:
        """Returns ε after `rounds` rounds; 0 for 0 rounds.

        Raises:
          ValueError: `rounds` is negative.
        """
        return float(self.up_to(rounds)[rounds])

    def up_to(self, rounds: int) -> np.ndarray:
        """Returns ε after 0, 1, ..., `rounds` rounds, float64 `[rounds + 1]`.

        Raises:
          ValueError: `rounds` is negative.
        """
        if rounds < 0:
            raise ValueError(f"rounds must be at least 0, got {rounds}")
        length = len(self._values)
        if rounds >= length:
            # The curve at least doubles, so that a loop over all rounds stays cheap.
            count = max(rounds, 2 * length)
            curves = [
                _checked_curve(
                    self.event, count, self.event.epsilon_curve(count, self.delta, name)
                )
                for name in self._names
            ]
            longer = np.min(curves, axis=0)
            self._values = np.concatenate([self._values, longer[length - 1 :]])
        return self._values[: rounds + 1]

    def at(self, rounds: int) -> float:
        """Returns ε after `rounds` rounds without the curve; last digits may differ."""
        if rounds == 0:
            return 0.0
        if rounds < len(self._values):
            return float(self._values[rounds])
        return self.best_at(rounds)[0]

    def best_at(self, rounds: int) -> tuple[float, str]:
        """Returns ε after one or more rounds, and the accountant that gave this ε."""
        best = math.inf, self.accountant
        for name in self._names:
            epsilon = self.event.epsilon(rounds, self.delta, name)
            if not epsilon >= 0:
                raise ValueError(
                    f"ε of {rounds} rounds of a {self.event.kind!r} event must be at "
                    f"least 0, got {epsilon}"
                )
            if epsilon < best[0]:
                best = epsilon, name
        return best


def _checked_curve(event: Event, rounds: int, values: object) -> np.ndarray:
    """Checks an event's ε curve; a budget that is compared with NaN would never end.

    Raises:
      ValueError: the curve has not one value for each round, or a value is NaN, below
        0, or below the value of the round before.
    """
    curve = np.asarray(values, np.float64) if values is not None else np.zeros(0)
    if curve.shape != (rounds,):
        raise ValueError(
            f"epsilon_curve of a {event.kind!r} event must be of shape ({rounds},), a "
            f"value for each round, got {curve.shape}"
        )
    # The factor allows for the rounding of accountants.
    least = np.concatenate([[0.0], curve[:-1] * (1 - 1e-6)])
    if not np.all(curve >= least):
        raise ValueError(
            f"epsilon_curve of a {event.kind!r} event must be at least 0 and must not "
            f"decrease, got {curve[:3]} for its first rounds"
        )
    return curve


def epsilon_curve(
    *,
    noise_multiplier: float,
    sampling_rate: float,
    rounds: int,
    delta: float,
    accountant: str = "pld",
) -> np.ndarray:
    """Computes ε after each round of the Poisson-sampled Gaussian mechanism.

    Args:
      noise_multiplier: standard deviation of the noise over the l2 norm clip.
      sampling_rate: probability that a client takes part in a round, in (0, 1].
      rounds: number of rounds T.
      delta: target δ, in (0, 1).
      accountant: "pld" or "rdp".

    Returns:
      float64 `[rounds]`: ε after 1, 2, ..., T rounds under add-or-remove-one;
      inf when the noise multiplier is 0.

    Raises:
      ValueError: an argument is outside its range.
    """
    event = GaussianEvent.poisson(noise_multiplier, sampling_rate)
    return EpsilonCurve(event, delta, accountant).up_to(rounds)[1:].copy()


def composed_epsilon(
    events: Sequence[tuple[Event, int]],
    delta: float,
    accountant: str | None = None,
) -> float:
    """Computes ε of rounds with different events.

    PLD composes the rounds if every event is a Gaussian, a sampled Gaussian, a single
    Gaussian over all its rounds, or of pure differential privacy. Otherwise, ε follows
    from the sum of Rényi divergences at common orders. For a δ below 1e-15, the result
    is the smaller bound of the two.

    Args:
      events: pairs of an event and its number of rounds. Rounds with correlated noise
        (a run's tree or matrix) must be in one pair; two pairs of the same such event
        are two runs.
      delta: target δ.
      accountant: "rdp" for Rényi DP throughout, "pld" for PLD wherever it applies;
        otherwise the tightest accountant that applies to the composition.

    Raises:
      ValueError: the accountant is unknown, or the rounds have different neighbouring
        relations or units of privacy, which no single ε covers.
    """
    return composed_by(events, delta, accountant)[0]


def composed_by(
    events: Sequence[tuple[Event, int]],
    delta: float,
    accountant: str | None = None,
) -> tuple[float, str]:
    """Returns `composed_epsilon`, and the accountant that gave ε: "pld" or "rdp"."""
    check_delta(delta)
    _check_name(accountant)
    pairs = _merged([(event, rounds) for event, rounds in events if rounds > 0])
    named = common_accountant(accountant, [event for event, _ in pairs])
    if not pairs:
        return 0.0, named
    _check_comparable(pairs)
    if len(pairs) == 1:
        ((event, rounds),) = pairs
        chosen = accountant if _tries_all(accountant, delta) else named
        return EpsilonCurve(event, delta, chosen).best_at(rounds)
    by_loss = None
    if accountant != "rdp":
        by_loss = by_losses.epsilon(pairs, delta)
        if by_loss is not None and not _tries_all(accountant, delta):
            return by_loss, "pld"
    orders = default_orders()
    divergences = np.sum([event.rdp(rounds, orders) for event, rounds in pairs], axis=0)
    by_rdp = float(rdp_epsilons(orders, divergences[np.newaxis], delta)[0])
    if by_loss is not None and by_loss <= by_rdp:
        return by_loss, "pld"
    return by_rdp, "rdp"


def composed_zcdp(events: Sequence[tuple[Event, int]]) -> float | None:
    """Computes ρ of zero-concentrated DP; returns None if an event has no bound.

    ρ is the sum over the pairs (Bun and Steinke 2016, arXiv 1605.02065, Lemma 1.7). The
    sum leaves out amplification by sampling: ρ bounds the cost for a client that takes
    part in every round. See `composed_epsilon` for the arguments.

    Raises:
      ValueError: the rounds have different neighbouring relations or units of privacy.
    """
    pairs = [(event, rounds) for event, rounds in events if rounds > 0]
    _check_comparable(pairs)
    parts = [event.zcdp(rounds) for event, rounds in pairs]
    bounds = [part for part in parts if part is not None]
    return math.fsum(bounds) if len(bounds) == len(parts) else None


def _merged(pairs: Sequence[tuple[Event, int]]) -> list[tuple[Event, int]]:
    """Merges equal rounds with independent noise, whose order does not matter."""
    counts: dict[Event, int] = {}
    correlated = []
    for event, rounds in pairs:
        if event.composes_by_round:
            counts[event] = counts.get(event, 0) + rounds
        else:
            correlated.append((event, rounds))
    return [*counts.items(), *correlated]


def _check_comparable(pairs: Sequence[tuple[Event, int]]) -> None:
    units = sorted({event.unit for event, _ in pairs})
    if len(units) > 1:
        raise ValueError(
            f"rounds with different units of privacy ({units}) cannot be composed: "
            "keep one unit for the whole run"
        )
    relations = sorted({event.neighbouring_relation for event, _ in pairs})
    if len(relations) > 1:
        fix = (
            "no theorem combines these relations, so keep the rounds in separate "
            "statements"
        )
        if convertible(relations):
            fix = (
                "use privacy.composed_total, which combines such runs under replace_one"
            )
        raise ValueError(
            f"rounds under different neighbouring relations ({relations}) "
            f"cannot be composed: {fix}"
        )
