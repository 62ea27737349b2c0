"""What else a run's folder says of its ledgers: a cut tail is not seen in the file.

A round is written to the shared ledger, then to the run's own, and only then to
`metrics.csv`; each checkpoint notes how far both ledgers went, with their hashes.
"""

from __future__ import annotations

import csv
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.events.record_event import RecordEvent
from tfl_research.privacy.ledger import identity, spending
from tfl_research.privacy.ledger.spending import DamageError, Spending

_CANNOT = (
    "A tail that was cut off is found only with a run's folder or an earlier --head; a "
    "file that was rewritten with new hashes throughout only with the checkpoints of "
    "such a folder or with --head.\n"
)


def report(
    found: Spending, folders: Sequence[str], head: Mapping[str, Any] | None
) -> str:
    """Checks a ledger against whatever else is known of it.

    Args:
      found: the ledger, whose lines follow each other.
      folders: of runs that share it.
      head: a position that it had, see `HashChain.position`.

    Returns:
      Lines that say what it agrees with, and how far it goes.

    Raises:
      DamageError: something is missing or otherwise; names file and place.
      ValueError: folders are given for a ledger that is not shared, or hold no run.
    """
    if head is not None:
        found.check_position(head, "--head")
    if folders and not found.shared:
        raise ValueError(
            f"{found.path} is one run's own ledger: give a shared one to check folders "
            "of runs against"
        )
    noted = [
        f"{folder}: every round of run {check_run(found, folder)} is there\n"
        for folder in folders
    ]
    if not found.shared:
        noted += _check_own(found)
    position = found.chain.position
    whose = f"{len(found.runs)} runs share it" if found.shared else "of one run"
    noted.append(
        f"{found.path}: {position['lines']} lines, each follows the one before it; "
        f"{whose}\nhead: {position['lines']}:{position['hash']}\n"
    )
    if head is None and len(noted) == 1:
        noted.append(_CANNOT)
    return "".join(noted)


def check_run(shared: Spending, folder: str | os.PathLike[str]) -> str:
    """Checks that a shared ledger has all that a run's folder says it should have.

    Args:
      shared: the shared ledger.
      folder: of the run.

    Returns:
      The run's id.

    Raises:
      DamageError: the run's own ledger is damaged or lost lines, or the shared one
        lacks rounds of it or has them otherwise.
      ValueError: no run was begun in the folder.
    """
    if not (pathlib.Path(folder) / "run_id").is_file():
        raise ValueError(
            f"{folder}: has no run_id; give the folder of a run that had --ledger"
        )
    own = spending.read(folder)
    run = identity.run_id(folder)
    here = next((one.events for one in shared.runs if one.run == run), ())
    there: Sequence[Event] = own.runs[0].events if own.runs else ()
    client = _client_of(shared)
    if client is not None:
        there = [_at_client(event, client, folder) for event in there]
    if len(here) < len(there):
        raise DamageError(
            f"{shared.path}: has {len(here)} rounds of the run in {folder} ({run}), "
            f"whose own ledger has {len(there)}; lines were lost"
        )
    for number, (one, other) in enumerate(zip(here, there), start=1):
        if one != other:
            raise DamageError(
                f"{shared.path}: has round {number} of the run in {folder} ({run}) as "
                f"{one}, its own ledger as {other}"
            )
    # One round more is what a kill between the two leaves.
    if len(here) > len(there) + 1:
        raise DamageError(
            f"{own.path}: has {len(there)} rounds, {shared.path} has {len(here)} of "
            f"this run ({run}); lines were lost, or the folder is an older copy"
        )
    _check_folder(pathlib.Path(folder), own, shared)
    return run


def _check_own(own: Spending) -> list[str]:
    checked = _check_folder(own.path.parent, own, None)
    return [f"{own.path}: agrees with {' and '.join(checked)}\n"] if checked else []


def _check_folder(
    folder: pathlib.Path, own: Spending, shared: Spending | None
) -> list[str]:
    """Names what a run's own ledger, and the shared one, were found to agree with."""
    from tfl_research.storage import checkpoints

    checked = []
    rows = _charged_in_metrics(folder / "metrics.csv", own)
    if rows:
        if rows > len(own.chain):
            raise DamageError(
                f"{own.path} has {len(own.chain)} rounds, but {folder / 'metrics.csv'} "
                f"has {rows}: its last lines were lost, so ε would be understated; "
                "restore it from a copy"
            )
        checked.append("metrics.csv")
    for path, progress in checkpoints.stored_progress(folder / "checkpoints"):
        noted = dict(progress.get("ledgers", {}))
        client = None if shared is None else _client_of(shared)
        if client is not None:
            noted["shared"] = noted.get("shared", {}).get(client)
        for name, ledger in (("own", own), ("shared", shared)):
            if ledger is not None and noted.get(name):
                ledger.check_position(noted[name], str(path))
        if "own" in noted and "the checkpoints" not in checked:
            checked.append("the checkpoints")
    return checked


def _client_of(shared: Spending) -> str | None:
    """The client whose records a ledger is about; None where it is about clients."""
    for run in shared.runs:
        for event in run.events[:1]:
            if isinstance(event, RecordEvent):
                return event.clients[0][0]
    return None


def _at_client(event: Event, client: str, folder: str | os.PathLike[str]) -> Event:
    clients = event.clients if isinstance(event, RecordEvent) else ()
    names = [name for name, _ in clients]
    if not isinstance(event, RecordEvent) or client not in names:
        raise ValueError(f"{folder}: is of a run without records of client {client!r}")
    return event.of_client(names.index(client))


def _charged_in_metrics(path: pathlib.Path, own: Spending) -> int:
    """How many rounds were charged up to the last row; 0 for no row.

    Abandoned ones were not, unless clients noised what they sent in them.
    """
    if not path.is_file():
        return 0
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = [row.get("round") or "" for row in rows]
    last = max((int(text) for text in numbers if text.isdecimal()), default=0)
    events = own.runs[0].events if own.runs else ()
    if any(event.noised_by_clients for event in events):
        return last
    return last - sum(row.get("abandoned") == "1" for row in rows)
