"""Plots of scripts/privacy_ledger: ε by rounds."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tfl_research.cli.ledger import ledger_tables
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.privacy.ledger.lines.entries import (
    Entry,
    Round,
)
from tfl_research.privacy.ledger.shared.shared_rounds import RunSpent


def plot_spent(
    path: str, runs: Sequence[RunSpent], delta: float, accountant: str | None
) -> None:
    """Draws ε of all recorded rounds to `path`, one run after the other.

    Raises:
      ValueError: the ledgers have no rounds.
    """
    from tfl_research.privacy.ledger import ledger_plots

    if not runs:
        raise ValueError(
            "--plot: the ledger has no rounds, so there is nothing to plot; leave "
            "--plot out"
        )
    # A run's curve begins where the previous run's ended; many runs are one curve.
    separate = len(runs) <= ledger_plots.POINTS
    every = -(-len(runs) // ledger_plots.POINTS)
    curves: list[tuple[str, list[float], list[float]]] = []
    composed: list[tuple[Event, int]] = []
    offset, end = 0, (0.0, 0.0)
    for index, run in enumerate(runs):
        if separate:
            shown = ledger_plots.rounds_shown(len(run.events), len(runs))
        else:
            shown = [len(run.events)] if (len(runs) - 1 - index) % every == 0 else []
        if separate or not curves:
            name = run.run if separate else f"all {len(runs)} runs"
            curves.append((name, [end[0]], [end[1]]))
        for number in shown:
            part = _first_rounds(run, number).groups
            end = (
                offset + number,
                ledger_tables.epsilon([*composed, *part], delta, accountant),
            )
            curves[-1][1].append(end[0])
            curves[-1][2].append(end[1])
        composed += run.groups
        offset += len(run.events)
    ledger_plots.save(
        path,
        curves,
        x_label="rounds, one run after the other",
        y_label=f"ε at δ = {rounded_up(delta)}",
        title="ε of all rounds so far",
    )
    sys.stdout.write(f"plot: {path}\n")


def _first_rounds(run: RunSpent, rounds: int) -> RunSpent:
    """Returns the spending of a run in its first charged rounds."""
    entries: list[Entry] = []
    for entry in run.entries:
        rounds -= isinstance(entry, Round)
        if rounds < 0:
            break
        entries.append(entry)
    return RunSpent(run.run, tuple(entries))


def plot_plan(
    path: str,
    event: Event,
    rounds: int,
    delta: float,
    accountant: str | None,
    spent: Sequence[tuple[Event, int]],
    budget: float | None,
) -> None:
    """Draws ε of planned rounds to `path`, alone and with the earlier spending."""
    from tfl_research.privacy.ledger import ledger_plots

    curves: list[tuple[str, Sequence[float], Sequence[float]]] = []
    for label, before in (("planned rounds alone", []), ("with what was spent", spent)):
        if before or not curves:
            # Each group of `before` makes a point slower to compose.
            sharing = min(5, 1 + bool(spent) + len(before) // 4)
            shown = ledger_plots.rounds_shown(rounds, sharing)
            values = [
                ledger_tables.epsilon([*before, (event, number)], delta, accountant)
                for number in shown
            ]
            curves.append((label, shown, values))
    ledger_plots.save(
        path,
        curves,
        x_label="planned rounds",
        y_label=f"ε at δ = {rounded_up(delta)}",
        title=ledger_tables.short(event),
        limit=budget,
    )
    sys.stdout.write(f"plot: {path}\n")
