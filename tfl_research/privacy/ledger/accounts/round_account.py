"""A run's account, which charges each round to the ledger and watches the budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfl_research.privacy.accounting.composition import (
    common_accountant,
    composed_epsilon,
)
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.relations import Total, check_release
from tfl_research.privacy.accounting.run_curve import RunCurve
from tfl_research.privacy.ledger.accounts import account_checks
from tfl_research.privacy.ledger.accounts.run_charges import RunCharges
from tfl_research.privacy.ledger.accounts.run_ledgers import (
    RunLedgers,
    Shared,
    charge_errors,
)
from tfl_research.privacy.ledger.ledger import Ledger
from tfl_research.privacy.ledger.shared.shared_ledger import BudgetExceededError
from tfl_research.privacy.plans.plan import PrivacyPlan

# An account composes ε of at most this many rounds when it is opened.
_AHEAD = 10_000


class RoundAccount:
    """Charges a run's rounds to its ledger and composes their ε.

    Rounds are numbered from 1. Abandoned rounds have no number if they are not charged
    (`charges_abandoned`). The ledger decides what was spent. After a kill, the ledger
    may have a later round than the run's checkpoint. The resumed run repeats this round
    with the same noise, and the round is not charged again. A run that repeats rounds
    with new noise must first call `recharge_after`.

    Attributes:
      ledger: the run's ledger, open.
      plan: the run's privacy plan.
      event: the event that is charged for each round of this run.
      delta: target δ.
      accountant: "pld" or "rdp": the tightest that covers all charges.
      planned_rounds: number of planned rounds.
      budget_epsilon: ε that no round may exceed, or None; with a shared ledger, ε of
        all runs together.
      shared: the ledger of several runs, or for record-level runs a ledger for each
        client, open for this run; or None.

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
        shared: Shared | None = None,
    ) -> None:
        """Checks the ledgers against the plan.

        Raises:
          ValueError: the ledger was begun under another neighbouring relation or unit
            of privacy, has rounds of another event with correlated noise, or the shared
            ledger does not fit this run.
        """
        self.ledger = ledger
        self.plan = plan
        event = plan.event
        self.event = event
        self.delta = plan.delta
        self.planned_rounds = plan.rounds
        self._charges = RunCharges(ledger, event, plan.planned_releases)
        self.accountant = plan.accountant
        self._resolve_accountant()
        self._curve = RunCurve(event, plan.delta, plan.accountant)
        # ε is composed before the loop, so that a round only looks up its ε.
        self._compose_ahead(min(plan.rounds, _AHEAD))
        self.budget_epsilon = plan.budget_epsilon
        self.shared = shared
        self._ledgers = RunLedgers(ledger, shared)
        account_checks.check_ledger(ledger, event)
        if shared is not None:
            shared.check_fits(event)
            self._ledgers.catch_up()
            self._resolve_accountant()

    def _resolve_accountant(self) -> None:
        self.accountant = common_accountant(self.plan.accountant, self._charges.events)

    def _compose_ahead(self, rounds: int) -> None:
        self._curve.up_to(rounds)

    @property
    def charges_abandoned(self) -> bool:
        """Whether a round is charged even if the server drops its updates.

        If the server adds the noise, such a round draws no noise and releases nothing.
        If the clients add the noise, their updates have reached the server already,
        and the next round noises new updates.
        """
        return self.event.noised_by_clients

    @property
    def noise_multiplier(self) -> float | None:
        """A round's noise multiplier; None for events without one."""
        return self.event.noise

    def epsilon_after(self, rounds: int) -> float:
        """Computes ε after `rounds` rounds.

        ε is composed of the ledger's entries for these rounds, of this run's event for
        rounds that the ledger does not have yet, of the releases after these rounds,
        and of the charges of earlier attempts for repeated rounds.
        """
        groups, beside = self._charges.rounds(rounds), self._charges.beside(rounds)
        if all(event == self.event for event, _ in groups):
            return self._curve(rounds, beside)
        return composed_epsilon([*groups, *beside], self.delta, self.accountant)

    def groups(self, rounds: int) -> list[tuple[Event, int]]:
        """Returns the pairs (event, count) that `epsilon_after` composes.

        The rounds come first in their order, then the charges in addition to the
        rounds.
        """
        return self._charges.all(rounds)

    def planned_groups(self) -> list[tuple[Event, int]]:
        """Returns `groups` after the planned rounds, with the planned releases."""
        groups = self.groups(max(self.planned_rounds, len(self.ledger)))
        return [*groups, *self._charges.releases_left()]

    def planned_epsilon(self) -> float:
        """Computes ε after the planned rounds, with the planned releases."""
        if not self.plan.planned_releases:
            return self.epsilon_after(max(self.planned_rounds, len(self.ledger)))
        return composed_epsilon(self.planned_groups(), self.delta, self.accountant)

    def charge(self, round_number: int) -> float | None:
        """Writes the round durably to the ledger, and returns this run's ε after it.

        Call `charge` before anyone sees the round's result. A round that the ledger has
        already is not charged again.

        Returns:
          ε; or None, and nothing is written, if other runs have used up the budget
          since `would_exceed` was called.

        Raises:
          ChargeError: a ledger has the round with another event, lacks an earlier
            round, is damaged, or has rounds that do not compose with this run's rounds.
        """
        try:
            with charge_errors():
                self._ledgers.charge(round_number, self.event, *self._budget)
        except BudgetExceededError:
            return None
        return self.epsilon_after(round_number)

    def charge_release(
        self, name: str, round_number: int, event: Event
    ) -> float | None:
        """Writes a further release durably to the ledger, and returns ε after it.

        Call this before anyone sees the release. A release that the ledger has already,
        since the last restart, is not charged again.

        Args:
          name: the name of the release, such as "evaluation"; the releases after a
            round have different names.
          round_number: the last round before the release.
          event: the event of the release, with the run's neighbouring relation and unit
            of privacy.

        Returns:
          ε; or None, and nothing is written, if a budget forbids the release.

        Raises:
          ChargeError: the event has another relation or unit of privacy, or a ledger
            refuses the release, see `charge`.
        """
        try:
            with charge_errors():
                check_release(f"the release {name!r}", event, self.event)
                record, where = self.ledger.record_of_run, f"{self.ledger.path}"
                due = record.next_release(where, name, round_number, event)
                if due is not None and self._release_exceeds(round_number, event):
                    return None
                self._ledgers.release(name, round_number, event, *self._budget)
        except BudgetExceededError:
            return None
        self._resolve_accountant()
        return self.epsilon_after(len(self.ledger))

    def _release_exceeds(self, round_number: int, event: Event) -> bool:
        """Whether this run alone would exceed its budget by the release."""
        if self.budget_epsilon is None:
            return False
        groups = [*self.groups(len(self.ledger)), (event, 1)]
        # Composed as the run reports ε: by Rényi DP only if the user chose it.
        epsilon = composed_epsilon(groups, self.delta, self.plan.accountant)
        return epsilon > self.budget_epsilon

    def recharge_after(self, completed_rounds: int) -> None:
        """Begins a new attempt durably: later rounds are repeated with new noise.

        The charges in the ledger remain, and the repeated rounds are charged again.
        Call this before the first repeated round; a second call before that round
        changes nothing.

        Args:
          completed_rounds: the last round that is not repeated.

        Raises:
          ChargeError: the noise of the rounds is correlated, so that no round can be
            repeated with new noise; or the round is not in the ledger.
        """
        with charge_errors():
            account_checks.check_restart(self.ledger, self.event)
            self._ledgers.restart(completed_rounds)

    @property
    def _budget(self) -> tuple[float, str | None, float | None]:
        """The budget of the run: δ, accountant and ε."""
        return self.delta, self.accountant, self.budget_epsilon

    def would_exceed(self, round_number: int) -> bool:
        """Whether ε after the round would be above the budget.

        Raises:
          ChargeError: this run does not fit the shared ledger, see `charge`.
        """
        if self.shared is None:
            if self.budget_epsilon is None:
                return False
            return self.epsilon_after(round_number) > self.budget_epsilon
        with charge_errors():
            return self.shared.would_exceed(round_number, self.event, *self._budget)

    def check_measured(self, metrics: Mapping[str, Any]) -> None:
        """Checks that a round added the noise that is charged.

        Args:
          metrics: the metrics of the round, as the process gave them.

        Raises:
          SettingError: the round measured noise of another scale, or no noise.
        """
        self.plan.check_measured(metrics)

    def positions(self) -> dict[str, Any]:
        """Returns the ledgers' positions, which checkpoints keep.

        Raises:
          ChargeError: somebody else changed the run's own ledger meanwhile.
        """
        with charge_errors():
            return self._ledgers.positions()

    def check_positions(self, positions: Mapping[str, Any]) -> None:
        """Checks that the ledgers still have all lines that they had earlier.

        Args:
          positions: an earlier result of `positions`.

        Raises:
          ValueError: a ledger lost its last lines, or was replaced.
        """
        self._ledgers.check_positions(positions)

    def shared_total(self, rounds: int) -> Total | None:
        """Computes ε of all runs in the shared ledger, after `rounds` of this run.

        The accountant is "rdp" if the run uses "rdp", otherwise the tightest that
        applies to all runs.
        """
        if self.shared is None:
            return None
        return self.shared.total_after(rounds, self.event, self.delta, self.accountant)

    def planned_shared_total(self) -> Total | None:
        """Returns `shared_total` after the planned rounds, with planned releases."""
        if self.shared is None:
            return None
        return self.shared.total_after(
            max(self.planned_rounds, len(self.ledger)),
            self.event,
            self.delta,
            self.accountant,
            self._charges.releases_left(),
        )

    def shared_epsilon(self, rounds: int) -> float | None:
        """Returns ε of `shared_total`."""
        total = self.shared_total(rounds)
        return None if total is None else total.epsilon
