"""Reads and checks the ledgers that a command of scripts/privacy_ledger names."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.ledger import head_file, spending
from tfl_research.privacy.ledger.checks import ledger_set, ledger_verify
from tfl_research.privacy.ledger.checks.ledger_set import LedgerSet
from tfl_research.privacy.ledger.spending import Spending


def read_one(path: str) -> Spending:
    """Reads a ledger; warns on standard error if its last line is cut off.

    Raises:
      ValueError: see `spending.read_ledger`.
    """
    ledger = spending.read_ledger(path)
    if ledger.torn:
        sys.stderr.write(
            f"privacy_ledger: {ledger.path}: the last line is cut off and not "
            "counted: the run was killed, or is writing a round\n"
        )
    return ledger


def say_if_end_is_unknown(ledger: Spending) -> None:
    """Warns on standard error if the end of the ledger could not be checked."""
    if not ledger.end_is_known and len(ledger.chain):
        sys.stderr.write(
            f"privacy_ledger: {ledger.path}: the end of the ledger could not be "
            f"checked, because {head_file.path_of(ledger.path).name} is not in the "
            "same folder\n"
        )


def read_all(paths: Sequence[str]) -> LedgerSet:
    """Reads ledgers and checks them as `verify` does; each run counts once.

    Run folders are checked against their files, and against those of the shared
    ledgers that have their run.

    Raises:
      DamageError: a ledger is damaged, or has less than a file recorded.
      ValueError: see `spending.read_ledger` and `ledger_set.joined`.
    """
    joined = ledger_set.joined([read_one(path) for path in paths])
    own = [one for one in joined.ledgers if not one.shared]
    for ledger in own:
        if not ledger_verify.check_own(ledger):
            say_if_end_is_unknown(ledger)
    for shared in (one for one in joined.ledgers if one.shared):
        runs = {run.run for run in shared.runs}
        of_runs = [ledger for ledger in own if ledger.run_id in runs]
        for ledger in of_runs:
            ledger_verify.check_run(shared, ledger)
        if not of_runs:
            say_if_end_is_unknown(shared)
    return joined


def check_same_population(
    planned: Event, named: str, ledgers: LedgerSet, like: Sequence[Spending] = ()
) -> None:
    """Checks that planned rounds are on the same clients as the ledgers.

    Args:
      planned: the event of a planned round.
      named: the argument that gives the planned population, for the message.
      ledgers: the ledgers with the spending.
      like: ledgers with rounds like the planned rounds.

    Raises:
      ValueError: the number of clients, the population or the unit differs.
    """
    for ledger in ledgers.ledgers:
        for other in like:
            both = ledger.population, other.population
            if None not in both and both[0] != both[1]:
                raise ValueError(
                    f"{named}: {other.path} is about another population than "
                    f"{ledger.path}, and what is spent on one does not add up with "
                    "the other; give ledgers of one population"
                )
        events = [event for run in ledger.runs for event, _ in run.groups]
        for event in events[:1]:
            if event.unit != planned.unit:
                raise ValueError(
                    f"{named}: the planned rounds have a {planned.unit} as the unit "
                    f"of privacy, but the rounds of {ledger.path} have a "
                    f"{event.unit}, and no ε covers both"
                )
        sizes = {event.num_clients for event in events}
        if ledger.population is not None:
            sizes.add(ledger.population.clients)
        known = sorted(size for size in sizes if size is not None)
        if known and planned.num_clients not in (None, *known):
            raise ValueError(
                f"{named}: the planned rounds are over {planned.num_clients} "
                f"{planned.unit}s, but {ledger.path} is about "
                f"{' or '.join(map(str, known))}, and what is spent on one population "
                "does not add up with another"
            )
