"""Checks ledgers against run folders, which show lines lost at a ledger's end.

A round is written to the shared ledger, then to the run's own ledger, and only then to
`metrics.csv`. Each checkpoint notes the position of both ledgers, with their hashes.
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
    ledger: Spending, folders: Sequence[str], head: Mapping[str, Any] | None
) -> str:
    """Checks a ledger against run folders and an earlier position.

    Args:
      ledger: read, so that its lines follow each other.
      folders: of runs that share the ledger.
      head: an earlier position of the ledger, see `HashChain.position`.

    Returns:
      Lines that name what the ledger agrees with, and its position.

    Raises:
      DamageError: a line is missing or differs; names file and line.
      ValueError: folders for a ledger that is not shared, or a folder without a run.
    """
    if head is not None:
        ledger.check_position(head, "--head")
    if folders and not ledger.shared:
        raise ValueError(
            f"{ledger.path} is one run's own ledger: give a shared ledger to check "
            "folders of runs against"
        )
    noted = [
        f"{folder}: every round of run {check_run(ledger, folder)} is there\n"
        for folder in folders
    ]
    if not ledger.shared:
        noted += _check_run_ledger(ledger)
    position = ledger.chain.position
    whose = f"{len(ledger.runs)} runs share it" if ledger.shared else "of one run"
    noted.append(
        f"{ledger.path}: {position['lines']} lines, each follows the one before it; "
        f"{whose}\nhead: {position['lines']}:{position['hash']}\n"
    )
    if head is None and len(noted) == 1:
        noted.append(_CANNOT)
    return "".join(noted)


def check_run(shared: Spending, folder: str | os.PathLike[str]) -> str:
    """Checks that a shared ledger has every round that a run's folder shows.

    Args:
      shared: the shared ledger.
      folder: of the run.

    Returns:
      The run's id.

    Raises:
      DamageError: the run's own ledger is damaged or lost lines, or the shared ledger
        lacks rounds of the run or has other events for them.
      ValueError: no run was begun in the folder.
    """
    if not (pathlib.Path(folder) / "run_id").is_file():
        raise ValueError(
            f"{folder}: has no run_id; give the folder of a run that had --ledger"
        )
    run_ledger = spending.read(folder)
    run = identity.run_id(folder)
    in_shared = next((spent.events for spent in shared.runs if spent.run == run), ())
    in_run: Sequence[Event] = run_ledger.runs[0].events if run_ledger.runs else ()
    client = _client_of(shared)
    if client is not None:
        in_run = [_at_client(event, client, folder) for event in in_run]
    if len(in_shared) < len(in_run):
        raise DamageError(
            f"{shared.path}: has {len(in_shared)} rounds of the run in {folder} "
            f"({run}), whose own ledger has {len(in_run)}; lines were lost"
        )
    for number, (shared_event, event) in enumerate(zip(in_shared, in_run), start=1):
        if shared_event != event:
            raise DamageError(
                f"{shared.path}: has round {number} of the run in {folder} ({run}) as "
                f"{shared_event}, its own ledger as {event}"
            )
    # A kill between the two writes leaves a round in the shared ledger alone.
    if len(in_shared) > len(in_run) + 1:
        raise DamageError(
            f"{run_ledger.path}: has {len(in_run)} rounds, {shared.path} has "
            f"{len(in_shared)} of this run ({run}); lines were lost, or the folder is "
            "an older copy"
        )
    _check_folder(pathlib.Path(folder), run_ledger, shared)
    return run


def _check_run_ledger(ledger: Spending) -> list[str]:
    checked = _check_folder(ledger.path.parent, ledger, None)
    return [f"{ledger.path}: agrees with {' and '.join(checked)}\n"] if checked else []


def _check_folder(
    folder: pathlib.Path, run_ledger: Spending, shared: Spending | None
) -> list[str]:
    """Checks both ledgers of a run; names the files that they agree with."""
    from tfl_research.storage import checkpoints

    checked = []
    rows = _charged_in_metrics(folder / "metrics.csv", run_ledger)
    if rows:
        if rows > len(run_ledger.chain):
            raise DamageError(
                f"{run_ledger.path} has {len(run_ledger.chain)} rounds, but "
                f"{folder / 'metrics.csv'} has {rows}: its last lines were lost, so ε "
                "would be understated; restore it from a copy"
            )
        checked.append("metrics.csv")
    for path, progress in checkpoints.stored_progress(folder / "checkpoints"):
        noted = dict(progress.get("ledgers", {}))
        client = None if shared is None else _client_of(shared)
        if client is not None:
            noted["shared"] = noted.get("shared", {}).get(client)
        for name, ledger in (("own", run_ledger), ("shared", shared)):
            if ledger is not None and noted.get(name):
                ledger.check_position(noted[name], str(path))
        if "own" in noted and "the checkpoints" not in checked:
            checked.append("the checkpoints")
    return checked


def _client_of(shared: Spending) -> str | None:
    """The client whose records a ledger is about; None for a ledger about clients."""
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


def _charged_in_metrics(path: pathlib.Path, run_ledger: Spending) -> int:
    """Number of charged rounds up to the last row; 0 without rows.

    Abandoned rounds are charged only if clients noised their updates themselves.
    """
    if not path.is_file():
        return 0
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = [row.get("round") or "" for row in rows]
    last_round = max((int(text) for text in numbers if text.isdecimal()), default=0)
    events = run_ledger.runs[0].events if run_ledger.runs else ()
    if any(event.noised_by_clients for event in events):
        return last_round
    return last_round - sum(row.get("abandoned") == "1" for row in rows)
