"""Checks a run's ledgers against what the other files in its folder recorded.

A round is written to the shared ledger, then to the run's own ledger, and only then to
`metrics.csv`; `summary.json` and `privacy.txt` follow. Each checkpoint notes the
position of both ledgers, with their hashes. So the ledgers never have fewer rounds than
these files.
"""

from __future__ import annotations

import csv
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfl_research.privacy.accounting.events import ACCOUNTANTS, Event
from tfl_research.privacy.accounting.events.record_event import RecordEvent
from tfl_research.privacy.ledger import identity
from tfl_research.privacy.ledger.lines.run_record import RunRecord
from tfl_research.privacy.ledger.spending import DamageError, Spending
from tfl_research.storage.files import json_file

# Allowed relative difference of ε: files have nine digits, and an accountant's last
# digits can differ.
_SLACK = 1e-3
_DONE = re.compile(r"Done: (\d+) ")


def check(
    folder: pathlib.Path,
    own: Spending,
    shared: Spending | None = None,
    client: str | None = None,
) -> list[str]:
    """Checks the ledgers of a run against the files in its folder.

    Args:
      folder: the folder of the run.
      own: the run's own ledger.
      shared: a ledger that the run shares, or None.
      client: the client whose records the shared ledger is about, or None.

    Returns:
      Names of the files that recorded how many lines the run's own ledger had.

    Raises:
      DamageError: a ledger has fewer rounds than a file recorded, has other lines, or
        belongs to another run or run seed.
    """
    _check_header(folder, own)
    record = RunRecord(own.runs[0].entries if own.runs else ())
    plan = _plan(folder)
    checked = []
    rows = _rows(folder / "metrics.csv")
    charged = _charged(rows, record)
    if charged:
        _check_rounds(own, record, charged, folder / "metrics.csv")
        checked.append("metrics.csv")
    _check_epsilon(own, record, _last_epsilon(rows), plan, folder / "metrics.csv")
    summary = _json(folder / "summary.json")
    if isinstance(summary.get("final"), Mapping):
        checked.append("summary.json")
        noted = _numbers(summary["final"])
        _check_epsilon(own, record, noted, plan, folder / "summary.json")
    done = _statement_rounds(folder / "privacy.txt")
    if done:
        _check_rounds(own, record, done, folder / "privacy.txt")
        checked.append("privacy.txt")
    if _check_positions(folder, own, shared, client):
        checked.append("the checkpoints")
    return checked


def _check_header(folder: pathlib.Path, own: Spending) -> None:
    if own.header is None:
        return
    run = identity.recorded_run_id(folder)
    if run is not None and run != own.header.run:
        raise DamageError(
            f"{own.path}, line 1: is of run {own.header.run}, but {folder / 'run_id'} "
            f"says {run}"
        )
    try:
        text = (folder / "run_seed").read_text(encoding="ascii").strip()
        seed = int(text, 16)
        fits = own.header.commits_to(seed)
    except FileNotFoundError:
        return
    except (OSError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise DamageError(
            f"{own.path}, line 1: was begun with another run seed than the seed in "
            f"{folder / 'run_seed'}; one of the two files was changed"
        )


def _check_rounds(
    own: Spending, record: RunRecord, rounds: int, noted_in: pathlib.Path
) -> None:
    if rounds > record.furthest:
        raise DamageError(
            f"{own.path} has {record.furthest} rounds, but {noted_in} has {rounds}: "
            "its last lines were lost, so ε would be understated; restore it from a "
            "copy"
        )


def _check_positions(
    folder: pathlib.Path, own: Spending, shared: Spending | None, client: str | None
) -> bool:
    """Checks the ledgers against checkpoints; returns whether one noted a position."""
    from tfl_research.storage import checkpoints

    found = False
    for path, progress in checkpoints.stored_progress(folder / "checkpoints"):
        noted = dict(progress.get("ledgers", {}))
        if client is not None:
            noted["shared"] = noted.get("shared", {}).get(client)
        for name, ledger in (("own", own), ("shared", shared)):
            if ledger is not None and noted.get(name):
                ledger.check_position(noted[name], str(path))
        found = found or "own" in noted
    return found


def _rows(path: pathlib.Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _charged(rows: Sequence[Mapping[str, Any]], record: RunRecord) -> int:
    """Counts the charged rounds up to the last row; 0 without rows.

    Abandoned rounds are charged only if clients noised their updates themselves.
    """
    numbers = [row.get("round") or "" for row in rows]
    last_round = max((int(text) for text in numbers if text.isdecimal()), default=0)
    if any(event.noised_by_clients for event in record.charged):
        return last_round
    return last_round - sum(row.get("abandoned") == "1" for row in rows)


def _last_epsilon(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    """Returns ε and δ of the last row that has them."""
    for row in reversed(rows):
        numbers = _numbers(row)
        if numbers is not None:
            return numbers
    return None


def _numbers(fields: Mapping[str, Any]) -> tuple[float, float] | None:
    try:
        epsilon, delta = float(fields["epsilon"]), float(fields["delta"])
    except (KeyError, TypeError, ValueError):
        return None
    usable = math.isfinite(epsilon) and epsilon > 0 and 0 < delta < 1
    return (epsilon, delta) if usable else None


def _statement_rounds(path: pathlib.Path) -> int:
    try:
        found = _DONE.search(" ".join(path.read_text(encoding="utf-8").split()))
    except (OSError, ValueError):
        return 0
    return int(found[1]) if found is not None else 0


def _json(path: pathlib.Path) -> dict[str, Any]:
    try:
        fields = json_file.read(path)
    except (OSError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _plan(folder: pathlib.Path) -> Mapping[str, Any]:
    plan = _json(folder / "hparams.json").get("privacy_plan")
    return plan if isinstance(plan, Mapping) else {}


def _check_epsilon(
    own: Spending,
    record: RunRecord,
    noted: tuple[float, float] | None,
    plan: Mapping[str, Any],
    noted_in: pathlib.Path,
) -> None:
    """Checks that all lines together cost at least the ε that a file recorded."""
    if noted is None:
        return
    least = noted[0] * (1 - _SLACK)
    names = [plan["accountant"]] if plan.get("accountant") in ACCOUNTANTS else None
    found = 0.0
    # Rényi DP is tried only if it is needed, since its import takes long.
    for name in names or ACCOUNTANTS:
        for groups, delta in _groups(record, noted[1], plan):
            from tfl_research.privacy.accounting.composition import composed_epsilon

            found = max(found, composed_epsilon(groups, delta, name))
            if found >= least:
                return
    raise DamageError(
        f"{own.path}: its lines cost ε = {found:.4g} at δ = {noted[1]:g}, but "
        f"{noted_in} has ε = {noted[0]:.4g}: lines were changed or lost, so ε would be "
        "understated; restore it from a copy"
    )


def _groups(
    record: RunRecord, delta: float, plan: Mapping[str, Any]
) -> list[tuple[list[tuple[Event, int]], float]]:
    """Returns events to compose and their δ, by client in record-level runs."""
    groups = [(event, count) for (_, event), count in record.counts.items()]
    deltas = plan.get("deltas")
    events = [event for event, _ in groups if isinstance(event, RecordEvent)]
    if not events:
        return [(groups, delta)]
    names = [name for name, _ in events[0].clients]
    found: dict[Any, tuple[list[tuple[Event, int]], float]] = {}
    for index, name in enumerate(names):
        own_delta = delta
        if isinstance(deltas, Mapping):
            own_delta = float(deltas.get(name, delta))
        rate = events[0].sampling_rates[index]
        if events[0].clients[index][1] > 0:
            found[rate, own_delta] = (
                [
                    (
                        event.of_client(index)
                        if isinstance(event, RecordEvent)
                        else event,
                        count,
                    )
                    for event, count in groups
                ],
                own_delta,
            )
    # The client with the largest ε is likely the client that is sampled most.
    return [found[key] for key in sorted(found, reverse=True)]
