"""A site's own ledger of the rounds that are charged to its records.

Files of a site:

- `ledgers/CLIENT.jsonl` in the site's folder: the rounds of all runs on this client's
  records, see `privacy.ledger.ClientLedgers`.
- `ledger.jsonl`, `run_id` and `client_epsilon.csv` in the run's folder: the rounds of
  this run, as in the folder of a simulated run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Optional

from tfl_research.errors import UserError
from tfl_research.federation.site.policy import SitePolicy
from tfl_research.federation.wire.handler import Refused
from tfl_research.federation.wire.sockets import private_folder
from tfl_research.privacy.accounting.events.record_event import RecordEvent
from tfl_research.privacy.accounting.record_calibration import default_record_deltas
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.privacy.ledger.accounts.record_account import RecordAccount
from tfl_research.privacy.ledger.accounts.run_ledgers import ChargeError
from tfl_research.privacy.ledger.clients.client_files import ledger_name
from tfl_research.privacy.ledger.clients.client_ledgers import ClientLedgers
from tfl_research.privacy.ledger.clients.other_clients import beside_lines
from tfl_research.privacy.ledger.identity import run_id
from tfl_research.privacy.ledger.ledger import Ledger
from tfl_research.privacy.ledger.lines.header import RunIdentity
from tfl_research.privacy.ledger.shared.shared_checks import PopulationError
from tfl_research.privacy.ledger.spending import Spending, read_ledger
from tfl_research.privacy.plans.record_level import RecordLevelPlan

LEDGERS = "ledgers"
LEDGER_FILE = "ledger.jsonl"
TABLE_FILE = "client_epsilon.csv"
# The way out if a ledger counts another number of records.
_OTHER_RECORDS = (
    "a client's ledger is about one set of training records, and another --seed or "
    "other task options draw another set: the run must have those of the earlier runs; "
    "if the records themselves have changed, give the client's file another name: its "
    "new ledger begins at ε = 0, and ε of records that are in both ledgers is at most "
    "the sum (at the sum of the δ)"
)


class SiteLedger:
    """Charges the rounds of one run to the records of a site, within its policy.

    The noise of a round is the same whenever the round is computed, so a round that is
    requested again is not charged again. A round in which the site took no part is
    charged together with the next round, since a run's ε counts every client in every
    round.

    Attributes:
      account: the account of the run, with only this site's clients.
    """

    def __init__(
        self,
        run_folder: pathlib.Path,
        site_folder: pathlib.Path,
        plan: RecordLevelPlan,
        clients: Sequence[str],
        *,
        seed: int,
        policy: SitePolicy,
        say: Callable[[str], None],
        drawn_by: Optional[str] = None,
    ):
        """Opens the ledgers, and makes missing ledgers.

        Args:
          run_folder: the folder of the run at the site.
          site_folder: the folder of the site.
          plan: the plan of the run, for the clients of all sites.
          clients: ids of this site's clients.
          seed: the seed of the noise that the site draws in this run; the ledger
            commits to it.
          policy: the policy of the site. Its largest ε covers the rounds of all runs.
            That ε is at the policy's δ or at `default_record_deltas`, and never at a δ
            that the coordinator chose.
          say: prints lines about charges.
          drawn_by: values that decide a client's records, if its name does not; see
            `privacy.Population`.

        Raises:
          Refused: the noise is less than the policy demands, a client is not in the
            plan, no round is left below the largest ε, or the ledgers do not fit the
            run. Only the site sees the reason of the last case, since the reason may
            tell numbers.
        """
        policy.check_record_noise(plan.noise_multiplier)
        self._policy = policy
        self._say = say
        own = _own_plan(plan, clients, policy)
        self._opened = contextlib.ExitStack()
        try:
            private_folder(site_folder / LEDGERS)
            # Read before the clients' ledgers, because another process may charge now.
            others = _other_runs(run_folder)
            identity = RunIdentity(run_id(run_folder), _committed(seed))
            ledger = self._opened.enter_context(
                Ledger(run_folder / LEDGER_FILE, identity)
            )
            shared = self._opened.enter_context(
                ClientLedgers(
                    site_folder / LEDGERS,
                    identity.run,
                    own.event,
                    own.deltas,
                    ledger.entries,
                    drawn_by,
                )
            )
            self.account = RecordAccount(
                ledger, own, shared=shared, table_path=run_folder / TABLE_FILE
            )
            _check_other_runs(others, shared, own.event)
            for line in beside_lines(shared):
                say(line)
            left = self.account.would_exceed(len(ledger) + 1)
        except PopulationError as error:
            self._opened.close()
            say(f"the ledger of this site: {error}")
            say(_OTHER_RECORDS)
            raise Refused(
                "the ledger of a client counts another number of training records; "
                "give the --seed and the task options of the earlier runs, or ask the "
                "site whether its records have changed"
            ) from error
        except ValueError as error:
            self._opened.close()
            raise self._unfit(error) from error
        if left and len(ledger) < own.rounds:
            self._opened.close()
            raise Refused(self._too_much(len(ledger) + 1))

    def charge(self, round_number: int) -> float:
        """Writes a round durably to the ledgers; call it before computing the round.

        Args:
          round_number: the number of the round, from 1.

        Returns:
          The largest ε of a client's records in this run, at the plan's δ.

        Raises:
          Refused: the round is not one of the run's rounds, ε of all runs would be
            above the policy's limit, or a ledger changed. The round is then not
            charged.
        """
        rounds, recorded = self.account.planned_rounds, len(self.account.ledger)
        if not 1 <= round_number <= rounds:
            raise Refused(
                f"round {round_number} is not one of the run's {rounds} rounds"
            )
        if round_number > recorded + 1:
            self._say(
                f"rounds {recorded + 1} to {round_number - 1} are charged, although "
                "this site took no part in them"
            )
        try:
            for number in range(recorded + 1, round_number + 1):
                if self.account.charge(number) is None:
                    raise Refused(self._too_much(number))
            return self.account.epsilon_after(round_number)
        except ChargeError as error:
            raise self._unfit(error) from error

    def restart(self, after: int) -> None:
        """Begins again durably after a round: later rounds are charged once more.

        Args:
          after: the last round that is not repeated.

        Raises:
          Refused: a ledger changed, or the noise of the rounds is correlated.
        """
        recorded = len(self.account.ledger)
        try:
            self.account.recharge_after(min(after, recorded))
        except ChargeError as error:
            raise self._unfit(error) from error
        if recorded > after:
            self._say(
                f"the run begins again after round {after}, with new noise: rounds "
                f"{after + 1} to {recorded} are charged again when they are repeated"
            )

    def epsilons(self) -> dict[str, float]:
        """ε of each client's records after the rounds of all runs so far."""
        shared = self.account.shared
        if not isinstance(shared, ClientLedgers):
            raise TypeError(f"expected the clients' ledgers, got {shared!r}")
        done = len(self.account.ledger)
        return shared.client_epsilons(done, self.account.event, self.account.accountant)

    def lines(self) -> list[str]:
        """Writes a sentence for each client: ε of its records, for the site only."""
        names = [name for name, _ in self.account.event.clients]
        deltas = dict(zip(names, self.account.deltas))
        return [
            f"{name}: ε = {rounded_up(epsilon)} at δ = {rounded_up(deltas[name])} "
            "after all runs so far"
            for name, epsilon in self.epsilons().items()
        ]

    def _too_much(self, round_number: int) -> str:
        return (
            f"round {round_number} would put ε of a client's records above the limit "
            f"in site.toml: largest_epsilon = {self._policy.largest_epsilon:g}"
        )

    def _unfit(self, error: ValueError) -> UserError:
        self._say(f"the ledger of this site: {error}")
        return Refused("the site's ledger does not fit the run; the site sees why")

    def close(self) -> None:
        """Closes the files."""
        self._opened.close()


def _own_plan(
    plan: RecordLevelPlan, clients: Sequence[str], policy: SitePolicy
) -> RecordLevelPlan:
    """The plan with the site's own clients, δ and largest ε."""
    records = dict(plan.event.clients)
    missing = [name for name in clients if name not in records]
    if missing or not clients:
        raise Refused(
            f"the run's plan has no client {missing[0]!r}"
            if missing
            else "the site has no client in the run"
        )
    event = dataclasses.replace(
        plan.event, clients=tuple((name, records[name]) for name in clients)
    )
    deltas = default_record_deltas(event)
    if policy.delta is not None:
        deltas = (float(policy.delta),) * len(deltas)
    budget = policy.largest_epsilon
    return dataclasses.replace(
        plan,
        event=event,
        deltas=deltas,
        budget_epsilon=None if budget is None else float(budget),
        planned_releases=(),
    )


def _other_runs(run_folder: pathlib.Path) -> list[Spending]:
    """The ledgers of the site's other runs.

    Raises:
      ValueError: a ledger is damaged.
    """
    paths = sorted(run_folder.parent.glob(f"*/{LEDGER_FILE}"))
    return [read_ledger(path) for path in paths if path.parent != run_folder]


def _check_other_runs(
    others: Sequence[Spending], shared: ClientLedgers, event: RecordEvent
) -> None:
    """Checks that the clients' ledgers have the lines of all runs that are here.

    If an older copy replaced a ledger and its head file, these files alone do not show
    the loss. Runs on another number of records used other records, which have no ledger
    here.

    Raises:
      ValueError: lines are missing.
    """
    sizes = dict(event.clients)
    for spending in others:
        for run in spending.runs:
            charged = run.events[0] if run.events else None
            if not isinstance(charged, RecordEvent):
                continue
            for name, records in charged.clients:
                there = shared.lines_of(spending.run_id or run.run, name)
                if sizes.get(name) == records and there < len(run.entries):
                    raise ValueError(
                        f"{shared.path / ledger_name(name)} has {there} lines of the "
                        f"run in {spending.path.parent}, but the run's own ledger has "
                        f"{len(run.entries)}: lines were lost, so ε would be "
                        "understated; restore it from a copy"
                    )


def _committed(seed: int) -> int:
    """Computes a number of 128 bits that shows whether two seeds are equal."""
    digest = hashlib.sha256(b"ledger of a site %d" % seed).digest()
    return int.from_bytes(digest[:16], "big")
