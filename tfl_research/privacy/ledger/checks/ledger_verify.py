"""Checks ledgers against run folders and earlier heads, which show lost lines."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tfl_research.privacy.accounting.events.record_event import RecordEvent
from tfl_research.privacy.ledger import spending
from tfl_research.privacy.ledger.checks import run_files
from tfl_research.privacy.ledger.checks.ledger_set import at_client, client_of
from tfl_research.privacy.ledger.lines.entries import (
    Entry,
    Restart,
)
from tfl_research.privacy.ledger.spending import DamageError, Spending

_CANNOT = (
    "Two changes are found only with more input. If the last lines and the head file "
    "were removed together: with the folder of a run or an earlier --head. If the "
    "whole file was rewritten with new hashes: with the checkpoints in such a folder "
    "or with --head.\n"
)


def report(
    ledger: Spending, folders: Sequence[str], head: Mapping[str, Any] | None
) -> str:
    """Checks a ledger against run folders and an earlier position.

    Args:
      ledger: the ledger, which was read and verified line by line.
      folders: the folders of runs that share the ledger.
      head: an earlier position of the ledger, see `HashChain.position`.

    Returns:
      Lines of text that name the files with which the ledger agrees, and the ledger's
      position.

    Raises:
      DamageError: a line is missing or differs; the message names file and line.
      ValueError: folders are given for a ledger that is not shared, or a folder has no
        run.
    """
    if head is not None:
        ledger.check_position(head, "--head")
    if folders and not ledger.shared:
        raise ValueError(
            f"{ledger.path} is one run's own ledger: give a shared ledger, against "
            "which folders of runs can be checked"
        )
    noted = []
    for folder in folders:
        own = spending.read_ledger(folder)
        noted.append(f"{folder}: every line of run {check_run(ledger, own)} is there\n")
    if not ledger.shared:
        checked = check_own(ledger)
        if checked:
            noted.append(f"{ledger.path}: agrees with {' and '.join(checked)}\n")
    position = ledger.chain.position
    whose = f"{len(ledger.runs)} runs share it" if ledger.shared else "of one run"
    noted.append(
        f"{ledger.path}: {position['lines']} lines, each follows the one before it; "
        f"{whose}\nhead: {position['lines']}:{position['hash']}\n"
    )
    if head is None and len(noted) == 1:
        noted.append(_CANNOT)
    return "".join(noted)


def check_own(own: Spending) -> list[str]:
    """Checks a run's own ledger against the files in its folder.

    Returns:
      Names of files that recorded how many lines the ledger had.

    Raises:
      DamageError: the ledger has fewer rounds than a file recorded, has other lines, or
        belongs to another run or run seed.
    """
    return run_files.check(own.path.parent, own)


def check_run(shared: Spending, own: Spending) -> str:
    """Checks that a shared ledger has every line that a run's own ledger has.

    Args:
      shared: the shared ledger.
      own: the run's own ledger, in the run's folder.

    Returns:
      The run's id.

    Raises:
      DamageError: the run's own ledger is damaged or lost lines, or the shared ledger
        lacks lines of the run or has other lines.
      ValueError: the folder does not say which run it holds.
    """
    folder, run = own.path.parent, own.run_id
    if run is None:
        raise ValueError(
            f"{folder}: has no run_id; give the folder of a run that had --ledger"
        )
    in_shared = next((spent.entries for spent in shared.runs if spent.run == run), ())
    in_run: Sequence[Entry] = own.runs[0].entries if own.runs else ()
    client = client_of(shared)
    if client is not None:
        _check_has_client(in_run, client, folder)
        in_run = [at_client(entry, client) for entry in in_run]
    if len(in_shared) < len(in_run):
        raise DamageError(
            f"{shared.path}: has {len(in_shared)} lines of the run in {folder} "
            f"({run}), whose own ledger has {len(in_run)}; lines were lost"
        )
    for shared_entry, entry in zip(in_shared, in_run):
        if shared_entry != entry:
            raise DamageError(
                f"{shared.path}: has {shared_entry} of the run in {folder} ({run}), "
                f"but its own ledger has {entry}; one of the two was changed"
            )
    # A kill between the two writes leaves one more line in the shared ledger.
    if len(in_shared) > len(in_run) + 1:
        raise DamageError(
            f"{own.path}: has {len(in_run)} lines after the first, but {shared.path} "
            f"has {len(in_shared)} of this run ({run}); lines were lost, or the "
            "folder is an older copy"
        )
    run_files.check(folder, own, shared, client)
    return run


def _check_has_client(
    entries: Sequence[Entry], client: str, folder: pathlib.Path
) -> None:
    for entry in entries:
        if isinstance(entry, Restart) or entry.event.unit == "record":
            if isinstance(entry, Restart) or not isinstance(entry.event, RecordEvent):
                continue
            if client in [name for name, _ in entry.event.clients]:
                continue
        raise ValueError(
            f"{folder}: is of a run that has no records of client {client!r}"
        )
