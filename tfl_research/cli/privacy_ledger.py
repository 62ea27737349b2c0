"""Shows spent and remaining budgets: `python -m tfl_research.cli.privacy_ledger`."""

from __future__ import annotations

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

import argparse
import math
import sys
import warnings
from collections.abc import Sequence

from tfl_research.cli import last_resort
from tfl_research.cli.ledger import (
    ledger_curves,
    ledger_reading,
    ledger_tables,
    plan_arguments,
    planned_event,
)
from tfl_research.errors import message_for_command_line
from tfl_research.privacy.accounting import planning
from tfl_research.privacy.accounting.budget import default_delta, delta_warning
from tfl_research.privacy.accounting.events import Event, check_delta
from tfl_research.privacy.accounting.relations import Total
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.privacy.ledger import ledger_budget
from tfl_research.privacy.ledger.checks import ledger_verify
from tfl_research.privacy.ledger.checks.ledger_set import LedgerSet
from tfl_research.privacy.ledger.lines.budget import LedgerBudget
from tfl_research.privacy.ledger.spending import DamageError

_DELTAS = (1e-5, 1e-6, 1e-8, 1e-10)


def _accountant(arguments: argparse.Namespace) -> str | None:
    return None if arguments.accountant == "auto" else str(arguments.accountant)


def _delta(delta: float | None, clients: int | None, default: float) -> float:
    """Returns `delta`, else the default for the clients, else `default`."""
    if delta is not None:
        check_delta(delta)
        return delta
    return default if clients is None else default_delta(clients)


def _show(arguments: argparse.Namespace) -> int:
    ledgers = ledger_reading.read_all(arguments.ledgers)
    accountant = _accountant(arguments)
    clients, groups = ledgers.clients, ledgers.groups
    deltas = arguments.delta or sorted(
        {*_DELTAS, _delta(None, clients, _DELTAS[0])}, reverse=True
    )
    for delta in deltas:
        check_delta(delta)
    main = _delta(arguments.delta[0] if arguments.delta else None, clients, _DELTAS[0])
    total = ledger_tables.total(groups, main, accountant)
    rows = [["run", "mechanism", "rounds", f"ε (δ={rounded_up(main)})"]]
    rounds = 0
    for run in ledgers.runs:
        of_run = ledger_tables.total(run.groups, main, accountant)
        kinds = "; then ".join(ledger_tables.short(event) for event, _ in run.groups)
        if total.theorem is not None:
            kinds += f" ({of_run.relation})"
        count = len(run.events)
        rounds += count
        rows.append([run.run, kinds, str(count), rounded_up(of_run.epsilon)])
    rows.append(["all", "together", str(rounds), rounded_up(total.epsilon)])
    text = [ledger_tables.table(rows)]
    if groups:
        event = groups[0][0]
        text.append(
            f"unit of privacy {event.unit}, neighbouring relation {total.relation}, "
            f"{clients or 'unknown'} {event.unit}s, accountant {_name(total)}"
        )
        if total.theorem is not None:
            text.append(f"ε of all is {total.words}")
        heads = [["δ", "", "ε of all"]]
        for delta in deltas:
            epsilon = ledger_tables.epsilon(groups, delta, accountant)
            heads.append([rounded_up(delta), "", rounded_up(epsilon)])
        text.append(ledger_tables.table(heads))
        warning = None if clients is None else delta_warning(main, clients)
        if warning is not None:
            text.append(f"warning: {warning}")
    text += _budget_lines(ledgers, groups)
    sys.stdout.write("\n\n".join(text) + "\n")
    if arguments.plot is not None:
        ledger_curves.plot_spent(arguments.plot, ledgers.runs, main, accountant)
    return 0


def _name(total: Total) -> str:
    return total.accountant.upper().replace("AND", "and")


def _budget_lines(ledgers: LedgerSet, groups: Sequence[tuple[Event, int]]) -> list[str]:
    """Says of each budget in the ledgers how much is spent and how much is left."""
    lines = []
    for ledger, budget in ledgers.budgets:
        spent = ledger_tables.epsilon(groups, budget.delta, budget.accountant)
        left = budget.epsilon - spent
        where = (
            f"{math.floor(left * 1000) / 1000:g} below the budget"
            if left >= 0
            else (
                f"{rounded_up(-left)} above the budget: no run can charge a further "
                "round"
            )
        )
        lines.append(
            f"budget of {ledger.path}: {budget}; spent ε = {rounded_up(spent)}, {where}"
        )
    return lines


def _verify(arguments: argparse.Namespace) -> int:
    head = None if arguments.head is None else plan_arguments.head(arguments.head)
    ledger = ledger_reading.read_one(arguments.ledger)
    text = ledger_verify.report(ledger, arguments.run_folders, head)
    if head is None and not arguments.run_folders:
        ledger_reading.say_if_end_is_unknown(ledger)
    sys.stdout.write(text)
    return 0


def _budget(arguments: argparse.Namespace) -> int:
    budget = LedgerBudget(arguments.epsilon, arguments.delta, _accountant(arguments))
    before = ledger_budget.write_budget(
        arguments.ledger, budget, may_raise=arguments.may_raise
    )
    was = "none before" if before is None else f"before it {before}"
    ledgers = ledger_reading.read_all([arguments.ledger])
    lines = _budget_lines(ledgers, ledgers.groups)
    sys.stdout.write("\n".join([*lines, was]) + "\n")
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    like = _like(arguments)
    event, with_noise = planned_event.event(arguments, like)
    ledgers = ledger_reading.read_all(arguments.ledger)
    spent, clients = ledgers.groups, ledgers.clients
    if arguments.sampling_rate is None:
        named = "--population" if like is None else "--event_of"
        others = [] if like is None else like.ledgers
        ledger_reading.check_same_population(event, named, ledgers, others)
    if clients is None and arguments.sampling_rate is None:
        clients = event.num_clients if like is None else like.clients
    if arguments.delta is None and clients is None:
        other = "" if like is not None else ", or --population"
        raise ValueError(f"--delta is missing; give it{other}")
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
            before = sum(len(run.events) for run in ledgers.runs)
            rows.append(["spent before", "", str(before), rounded_up(cost.before)])
        rows.append(
            [
                "planned",
                ledger_tables.short(event),
                str(arguments.rounds),
                rounded_up(cost.alone),
            ]
        )
        if spent:
            rows.append(
                [
                    "together",
                    "",
                    str(before + arguments.rounds),
                    rounded_up(cost.together),
                ]
            )
        text.append(ledger_tables.table(rows))
    budget = arguments.budget_epsilon
    if budget is not None:
        rounds_left = planning.rounds_within(event, budget, delta, accountant, spent)
        most = "at least " if rounds_left >= planning.MOST_ROUNDS else ""
        text.append(f"budget ε = {budget:g}: {most}{rounds_left} rounds are left")
    for ledger, bound in ledgers.budgets:
        fit = planning.rounds_within(
            event, bound.epsilon, bound.delta, bound.accountant, spent
        )
        most = "at least " if fit >= planning.MOST_ROUNDS else ""
        text.append(f"{most}{fit} rounds are left of the budget of {ledger.path}")
    text += _budget_lines(ledgers, spent)
    rounds = arguments.rounds or rounds_left
    total = ledger_tables.total([*spent, (event, rounds)], delta, accountant)
    text.append(
        f"unit of privacy {event.unit}, neighbouring relation "
        f"{total.relation or event.neighbouring_relation}, accountant: {_name(total)}"
        + (" (the tightest that applies)" if accountant is None else "")
    )
    if total.theorem is not None:
        text.append(f"ε together is {total.words}")
    warning = None if clients is None else delta_warning(delta, clients)
    if warning is not None:
        text.append(f"warning: {warning}")
    sys.stdout.write("\n\n".join(text) + "\n")
    if arguments.plot is not None:
        ledger_curves.plot_plan(
            arguments.plot, event, rounds, delta, accountant, spent, budget
        )
    return 0


def _like(arguments: argparse.Namespace) -> LedgerSet | None:
    """Returns the ledger of --event_of, or None."""
    if arguments.event_of is None:
        return None
    ledgers = ledger_reading.read_all([arguments.event_of])
    if not any(run.events for run in ledgers.runs):
        raise ValueError(
            f"--event_of={arguments.event_of}: the ledger has no rounds yet; give "
            "--mechanism and its flags"
        )
    return ledgers


def _described(event: Event, arguments: argparse.Namespace) -> str:
    if arguments.sampling_rate is None:
        return "\n".join(event.description())
    # A rate alone does not tell the number of clients.
    return (
        f"Planned: {ledger_tables.short(event)}; every client joins a round "
        f"independently with probability {arguments.sampling_rate:g}."
    )


_PROGRAM = "privacy_ledger"
_COMMANDS = {"show": _show, "verify": _verify, "plan": _plan, "budget": _budget}


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Returns:
      The exit code: 0; 1 for a damaged ledger; 2 for wrong arguments.
    """
    with warnings.catch_warnings():
        warnings.showwarning = _say
        return last_resort.guarded(_PROGRAM, lambda: _run(arguments))


def _say(message: Warning | str, *_: object, **__: object) -> None:
    last_resort.say(_PROGRAM, str(message), 0)


def _run(arguments: Sequence[str]) -> int:
    try:
        plan_arguments.load_plugins(arguments)
        parsed = plan_arguments.parser().parse_args(arguments)
        plan_arguments.check(parsed)
        return _COMMANDS[parsed.command](parsed)
    except DamageError as error:
        return last_resort.say(_PROGRAM, str(error), 1)
    except ValueError as error:
        message = message_for_command_line(error)
        return last_resort.say(_PROGRAM, message, last_resort.USAGE_ERROR)


if __name__ == "__main__":
    last_resort.exit_with(_PROGRAM, main)
