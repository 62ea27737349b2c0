"""A run's privacy, round by round: charge, the budget, and what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfl_research.privacy.accounting.composition import EpsilonCurve, composed_epsilon
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.ledger.client_ledgers import ClientLedgers
from tfl_research.privacy.ledger.ledger import Ledger
from tfl_research.privacy.ledger.shared_ledger import BudgetExceededError, SharedLedger
from tfl_research.privacy.plans.plan import PrivacyPlan

# Rounds whose ε is composed when the account is opened, at most.
_AHEAD = 10_000


class ChargeError(ValueError):
    """A round cannot be charged: a ledger changed in a way that this run does not fit.

    Another run may have begun a shared ledger under another neighbouring relation, or
    lines were damaged, since the account was opened.
    """


class RoundAccount:
    """Charges a run's rounds to its ledger and says what they add up to.

    Rounds are numbered from 1, without abandoned ones where these are not charged
    (`charges_abandoned`). The ledger decides what was spent: after a kill it
    may hold a later round than the run's checkpoint, which the resumed run repeats
    with the same noise and does not spend again.

    Attributes:
      ledger: the run's ledger, open.
      plan: what the run does and is charged for.
      event: what each round of this run does.
      delta: target δ.
      accountant: "pld" or "rdp", resolved.
      planned_rounds: rounds the run intends.
      budget_epsilon: ε that no round may exceed, or None; with a shared ledger, that
        of all runs together.
      shared: ledger of several runs, or for record-level runs one for each client,
        open for this run, or None.

    Example:
      >>> from tfl_research import privacy, sampling
      >>> sampler = sampling.Poisson(range(1000), 50, seed=1)
      >>> plan = privacy.UserLevelPlan.create(
      ...     "gaussian",
      ...     l2_norm_clip=0.5,
      ...     amplification=sampler.amplification,
      ...     rounds=100,
      ...     noise_multiplier=1,
      ...     budget_epsilon=2,
      ... )
      >>> with privacy.Ledger("ledger.jsonl") as ledger:
      ...     account = privacy.RoundAccount(ledger, plan)
      ...     first = account.charge(1)
      ...     second = account.charge(2)
      ...     len(ledger), first < second, account.would_exceed(3)
      (2, True, False)
      >>> account.epsilon_after(100)
      2...
    """

    def __init__(
        self,
        ledger: Ledger,
        plan: PrivacyPlan,
        shared: SharedLedger | ClientLedgers | None = None,
    ) -> None:
        """See the class.

        Raises:
          ValueError: a ledger that was begun under another neighbouring relation or
            unit of privacy, or whose rounds' noise is correlated with that of rounds
            of another event, or a shared ledger that this run does not fit.
        """
        self.ledger = ledger
        self.plan = plan
        event = plan.event
        self.event = event
        self.delta = plan.delta
        self._curve = EpsilonCurve(event, plan.delta, plan.accountant)
        self.accountant = self._curve.accountant
        self.planned_rounds = plan.rounds
        # Before the loop, so that a round only looks its ε up.
        self._compose_ahead(min(plan.rounds, _AHEAD))
        self.budget_epsilon = plan.budget_epsilon
        self.shared = shared
        # Runs of equal entries, [event, number of rounds].
        self._groups: list[list[Any]] = []
        self._grouped = 0
        self._check_ledger()
        if shared is not None:
            shared.check_fits(event)

    def _compose_ahead(self, rounds: int) -> None:
        self._curve.up_to(rounds)

    def _check_ledger(self) -> None:
        for recorded, _ in self._recorded(len(self.ledger)):
            if recorded.neighbouring_relation != self.event.neighbouring_relation:
                raise ValueError(
                    f"{self.ledger.path} was begun under "
                    f"{recorded.neighbouring_relation!r}, this run is under "
                    f"{self.event.neighbouring_relation!r}: resume with the same "
                    "sampler"
                )
            if recorded.unit != self.event.unit:
                raise ValueError(
                    f"{self.ledger.path} was begun with a {recorded.unit} as the unit "
                    f"of privacy, this run has a {self.event.unit}: choose another "
                    "ledger"
                )
            by_round = recorded.composes_by_round and self.event.composes_by_round
            if recorded != self.event and not by_round:
                raise ValueError(
                    f"{self.ledger.path} has rounds of {recorded}, whose noise does "
                    f"not go on with rounds of {self.event}: resume with the same "
                    "privacy settings and number of rounds, or start a new run"
                )

    @property
    def charges_abandoned(self) -> bool:
        """Whether rounds whose updates the server throws away are charged too.

        Noise that the server adds to an aggregate is never drawn for such a round,
        and nothing is released. Updates that clients noised themselves have reached
        the server all the same, and the next round noises new ones.
        """
        return self.event.noised_by_clients

    @property
    def noise_multiplier(self) -> float | None:
        """Noise multiplier of one round; None for events that have none."""
        return self.event.noise

    def epsilon_after(self, rounds: int) -> float:
        """ε after so many rounds.

        Composed of the ledger's entries for those rounds, and of this run's event
        for rounds that the ledger does not have yet.
        """
        groups = self.groups(rounds)
        if all(event == self.event for event, _ in groups):
            return self._curve(rounds)
        return composed_epsilon(groups, self.delta, self.accountant)

    def groups(self, rounds: int) -> list[tuple[Event, int]]:
        """The first rounds as (event, how many in a row), for `composed_epsilon`."""
        recorded = min(rounds, len(self.ledger))
        groups = [*self._recorded(recorded)]
        if rounds > recorded:
            groups.append((self.event, rounds - recorded))
        return _joined(groups)

    def _recorded(self, rounds: int) -> list[tuple[Event, int]]:
        """The first rounds of the ledger, grouped; a new entry costs O(1)."""
        while self._grouped < len(self.ledger):
            entry = self.ledger[self._grouped]
            if self._groups and self._groups[-1][0] == entry:
                self._groups[-1][1] += 1
            else:
                self._groups.append([entry, 1])
            self._grouped += 1
        found = []
        for event, count in self._groups:
            if rounds > 0:
                found.append((event, min(count, rounds)))
            rounds -= count
        return found

    def charge(self, round_number: int) -> float | None:
        """Puts the round in the ledger, durably, and gives ε of this run after it.

        Call it before the round's result is visible to anyone. Repeating a round
        that the ledger has is free, whatever it was for. None, and nothing is
        written, where other runs have spent what the budget had left for the round
        since `would_exceed` was asked.

        Raises:
          ChargeError: a ledger has the round with another event, lacks an earlier
            one, is damaged, or has rounds that this run's do not go with.
        """
        try:
            if self.shared is not None:
                # First, so that it has every round that the run's own ledger has.
                self._charge_shared(self.shared, round_number)
            self.ledger.record(round_number, self.event)
        except BudgetExceededError:
            return None
        except ValueError as error:
            raise ChargeError(str(error)) from error
        return self.epsilon_after(round_number)

    def _charge_shared(
        self, shared: SharedLedger | ClientLedgers, round_number: int
    ) -> None:
        if self.budget_epsilon is None:
            shared.record(round_number, self.event)
        else:
            shared.charge(
                round_number,
                self.event,
                self.delta,
                self.accountant,
                self.budget_epsilon,
            )

    def would_exceed(self, round_number: int) -> bool:
        """Whether ε after the round would be above the budget.

        Raises:
          ChargeError: a shared ledger that this run does not fit, see `charge`.
        """
        if self.budget_epsilon is None:
            return False
        if self.shared is None:
            return self.epsilon_after(round_number) > self.budget_epsilon
        asked = self.delta, self.accountant, self.budget_epsilon
        try:
            return self.shared.would_exceed(round_number, self.event, *asked)
        except ValueError as error:
            raise ChargeError(str(error)) from error

    def check_measured(self, metrics: Mapping[str, Any]) -> None:
        """Checks that a round added the noise that is charged.

        Args:
          metrics: of the round, as the process gave them.

        Raises:
          SettingError: another scale of the noise, or none measured.
        """
        self.plan.check_measured(metrics)

    def positions(self) -> dict[str, Any]:
        """How far the ledgers go; kept in checkpoints for `check_positions`."""
        return {name: ledger.position for name, ledger in self._ledgers()}

    def check_positions(self, positions: Mapping[str, Any]) -> None:
        """Checks that the ledgers still hold what they held then.

        Args:
          positions: as `positions` gave them earlier.

        Raises:
          ValueError: a ledger lost its last lines, or was replaced.
        """
        for name, ledger in self._ledgers():
            if name in positions:
                ledger.check_position(positions[name])

    def _ledgers(self) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = [("own", self.ledger)]
        if self.shared is not None:
            found.append(("shared", self.shared))
        return found

    def shared_epsilon(self, rounds: int) -> float | None:
        """ε of all runs of the shared ledger, this one having done so many rounds."""
        if self.shared is None:
            return None
        return self.shared.epsilon_after(
            rounds, self.event, self.delta, self.accountant
        )


def _joined(groups: Sequence[tuple[Event, int]]) -> list[tuple[Event, int]]:
    joined: list[tuple[Event, int]] = []
    for event, count in groups:
        if joined and joined[-1][0] == event:
            joined[-1] = event, joined[-1][1] + count
        else:
            joined.append((event, count))
    return joined
