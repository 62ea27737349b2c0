"""What was spent and what is left: `python -m tfl_research.cli.privacy_ledger`."""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import sys
from collections.abc import Iterable, Sequence

from tfl_research.cli import plan_arguments, planned_event
from tfl_research.errors import UserError
from tfl_research.privacy.accounting import planning
from tfl_research.privacy.accounting.budget import default_delta, delta_warning
from tfl_research.privacy.accounting.events import Event, check_delta
from tfl_research.privacy.accounting.events.search_event import (
    HyperparameterSearchEvent,
)
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.privacy.ledger import ledger_verify, spending
from tfl_research.privacy.ledger.spending import DamageError, Spending

_DELTAS = (1e-5, 1e-6, 1e-8, 1e-10)


def _table(rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they need; numbers, after the first two, to the right."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = []
    for row in cells:
        shown = [
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(shown).rstrip())
    return "\n".join(lines)


def _short(event: Event) -> str:
    """An event in a few words."""
    words, base = [event.kind], event
    while isinstance(base, HyperparameterSearchEvent):
        base = base.base
        words.append(f"of {base.kind}")
    for value, symbol in ((base.noise, "z"), (base.rate, "q")):
        if value is not None:
            words.append(f"{symbol}={value:.4g}")
    return " ".join(words)


@functools.cache
def _composed(
    groups: tuple[tuple[Event, int], ...], delta: float, accountant: str | None
) -> float:
    # Takes long to import.
    from tfl_research.privacy.accounting.composition import composed_epsilon

    return composed_epsilon(groups, delta, accountant)


def _epsilon(
    groups: Sequence[tuple[Event, int]], delta: float, accountant: str | None
) -> float:
    """`composed_epsilon`; tables and plots ask for the same values."""
    return _composed(tuple(groups), delta, accountant)


def _number(epsilon: float) -> str:
    return rounded_up(epsilon)


def _accountant(arguments: argparse.Namespace) -> str | None:
    return None if arguments.accountant == "auto" else str(arguments.accountant)


def _delta(given: float | None, clients: int | None, else_use: float) -> float:
    if given is not None:
        check_delta(given)
        return given
    return else_use if clients is None else default_delta(clients)


def _read(paths: Sequence[str]) -> list[Spending]:
    found = [spending.read(path) for path in paths]
    for one in found:
        if one.torn:
            sys.stderr.write(
                f"privacy_ledger: {one.path}: the last line is cut off and not "
                "counted: a kill, or a round being written\n"
            )
    populations = {one.population for one in found if one.population is not None}
    if len(populations) > 1:
        raise ValueError(
            "the ledgers are about different populations, whose ε do not add up; show "
            "them one by one"
        )
    return found


def _show(arguments: argparse.Namespace) -> int:
    found = _read(arguments.ledgers)
    accountant = _accountant(arguments)
    clients = next((one.clients for one in found if one.clients is not None), None)
    deltas = arguments.delta or sorted(
        {*_DELTAS, _delta(None, clients, _DELTAS[0])}, reverse=True
    )
    for delta in deltas:
        check_delta(delta)
    main = _delta(arguments.delta[0] if arguments.delta else None, clients, _DELTAS[0])
    rows = [["run", "mechanism", "rounds", f"ε (δ={rounded_up(main)})"]]
    groups: list[tuple[Event, int]] = []
    for run in itertools.chain.from_iterable(one.runs for one in found):
        groups += run.groups
        kinds = "; then ".join(_short(event) for event, _ in run.groups)
        epsilon = _epsilon(run.groups, main, accountant)
        rows.append([run.run, kinds, str(len(run.events)), _number(epsilon)])
    rounds = sum(count for _, count in groups)
    total = _epsilon(groups, main, accountant)
    rows.append(["all", "together", str(rounds), _number(total)])
    text = [_table(rows)]
    if groups:
        first = groups[0][0]
        text.append(
            f"unit of privacy {first.unit}, neighbouring relation "
            f"{first.neighbouring_relation}, {clients or 'unknown'} {first.unit}s"
        )
        heads = [["δ", "", "ε of all"]]
        for delta in deltas:
            epsilon = _epsilon(groups, delta, accountant)
            heads.append([rounded_up(delta), "", _number(epsilon)])
        text.append(_table(heads))
        warning = None if clients is None else delta_warning(main, clients)
        if warning is not None:
            text.append(f"warning: {warning}")
    sys.stdout.write("\n\n".join(text) + "\n")
    if arguments.plot is not None:
        _plot_spent(arguments.plot, found, main, accountant)
    return 0


def _plot_spent(
    path: str, found: Sequence[Spending], delta: float, accountant: str | None
) -> None:
    from tfl_research.privacy.ledger import ledger_plots

    runs = [run for one in found for run in one.runs]
    if not runs:
        raise ValueError("--plot: no rounds were recorded, so there is nothing to plot")
    # Each run's curve goes on where the last one ended; many runs are one curve.
    separate = len(runs) <= ledger_plots.POINTS
    every = -(-len(runs) // ledger_plots.POINTS)
    curves: list[tuple[str, list[float], list[float]]] = []
    done: list[tuple[Event, int]] = []
    offset, last = 0, (0.0, 0.0)
    for index, run in enumerate(runs):
        if separate:
            shown = ledger_plots.rounds_shown(len(run.events), len(runs))
        else:
            shown = [len(run.events)] if (len(runs) - 1 - index) % every == 0 else []
        if separate or not curves:
            name = run.run if separate else f"all {len(runs)} runs"
            curves.append((name, [last[0]], [last[1]]))
        for number in shown:
            part = spending.RunSpent(run.run, run.events[:number]).groups
            last = (offset + number, _epsilon([*done, *part], delta, accountant))
            curves[-1][1].append(last[0])
            curves[-1][2].append(last[1])
        done += run.groups
        offset += len(run.events)
    ledger_plots.save(
        path,
        curves,
        x_label="rounds, one run after the other",
        y_label=f"ε at δ = {rounded_up(delta)}",
        title="ε of all rounds so far",
    )
    sys.stdout.write(f"plot: {path}\n")


def _verify(arguments: argparse.Namespace) -> int:
    head = None if arguments.head is None else plan_arguments.head(arguments.head)
    (found,) = _read([arguments.ledger])
    sys.stdout.write(ledger_verify.report(found, arguments.run_folders, head))
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    event, with_noise = planned_event.event(arguments)
    found = _read(arguments.ledger)
    spent = [group for one in found for group in one.groups]
    clients = next((one.clients for one in found if one.clients is not None), None)
    if clients is None and arguments.sampling_rate is None:
        clients = event.num_clients
    if arguments.delta is None and clients is None:
        raise ValueError("--delta is missing; give it, or --population")
    delta = _delta(arguments.delta, clients, math.nan)
    accountant = _accountant(arguments)
    text = []
    if arguments.target_epsilon is not None:
        noise = planning.noise_for(
            with_noise,
            arguments.target_epsilon,
            arguments.rounds,
            delta,
            accountant,
            spent,
        )
        event = with_noise(noise)
        text.append(
            f"noise multiplier z = {noise:g}: the least that keeps ε at most "
            f"{arguments.target_epsilon:g}"
        )
    text.insert(0, _described(event, arguments))
    rows = [["", "", "rounds", f"ε (δ={rounded_up(delta)})"]]
    if arguments.rounds is not None:
        cost = planning.cost(event, arguments.rounds, delta, accountant, spent)
        if spent:
            before = sum(count for _, count in spent)
            rows.append(["spent before", "", str(before), _number(cost.before)])
        rows.append(
            ["planned", _short(event), str(arguments.rounds), _number(cost.alone)]
        )
        if spent:
            rows.append(
                ["together", "", str(before + arguments.rounds), _number(cost.together)]
            )
        text.append(_table(rows))
    budget = arguments.budget_epsilon
    if budget is not None:
        left = planning.rounds_within(event, budget, delta, accountant, spent)
        most = "at least " if left >= planning.MOST_ROUNDS else ""
        text.append(f"budget ε = {budget:g}: {most}{left} rounds are left")
    text.append(
        f"unit of privacy {event.unit}, neighbouring relation "
        f"{event.neighbouring_relation}, accountant: "
        + ("the tightest that applies" if accountant is None else accountant)
    )
    warning = None if clients is None else delta_warning(delta, clients)
    if warning is not None:
        text.append(f"warning: {warning}")
    sys.stdout.write("\n\n".join(text) + "\n")
    if arguments.plot is not None:
        rounds = arguments.rounds or left
        _plot_plan(arguments.plot, event, rounds, delta, accountant, spent, budget)
    return 0


def _described(event: Event, arguments: argparse.Namespace) -> str:
    if arguments.sampling_rate is None:
        return "\n".join(event.description())
    # A rate alone says nothing of how many clients there are.
    return (
        f"Planned: {_short(event)}; every client joins a round independently with "
        f"probability {arguments.sampling_rate:g}."
    )


def _plot_plan(
    path: str,
    event: Event,
    rounds: int,
    delta: float,
    accountant: str | None,
    spent: Sequence[tuple[Event, int]],
    budget: float | None,
) -> None:
    from tfl_research.privacy.ledger import ledger_plots

    curves: list[tuple[str, Sequence[float], Sequence[float]]] = []
    for label, before in (("planned rounds alone", []), ("with what was spent", spent)):
        if before or not curves:
            # Many settings take longer to compose: as few as three points.
            sharing = min(5, 1 + bool(spent) + len(before) // 4)
            shown = ledger_plots.rounds_shown(rounds, sharing)
            values = [
                _epsilon([*before, (event, number)], delta, accountant)
                for number in shown
            ]
            curves.append((label, shown, values))
    ledger_plots.save(
        path,
        curves,
        x_label="planned rounds",
        y_label=f"ε at δ = {rounded_up(delta)}",
        title=_short(event),
        limit=budget,
    )
    sys.stdout.write(f"plot: {path}\n")


_COMMANDS = {"show": _show, "verify": _verify, "plan": _plan}


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Returns:
      The exit code: 0, 1 when a ledger is damaged, 2 when something was mistyped.
    """
    try:
        plan_arguments.load_plugins(arguments)
        parsed = plan_arguments.parser().parse_args(arguments)
        plan_arguments.check(parsed)
        return _COMMANDS[parsed.command](parsed)
    except DamageError as error:
        sys.stderr.write(f"privacy_ledger: {error}\n")
        return 1
    except UserError as error:
        sys.stderr.write(f"privacy_ledger: {error.for_command_line}\n")
        return 2
    except (ValueError, OSError) as error:
        sys.stderr.write(f"privacy_ledger: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
