"""What was spent and what is left: `python -m tfl_research.cli.privacy_ledger`."""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Sequence

from tfl_research.cli import ledger_curves, ledger_tables, plan_arguments, planned_event
from tfl_research.errors import UserError
from tfl_research.privacy.accounting import planning
from tfl_research.privacy.accounting.budget import default_delta, delta_warning
from tfl_research.privacy.accounting.events import Event, check_delta
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.privacy.ledger import ledger_verify, spending
from tfl_research.privacy.ledger.spending import DamageError, Spending

_DELTAS = (1e-5, 1e-6, 1e-8, 1e-10)


def _accountant(arguments: argparse.Namespace) -> str | None:
    return None if arguments.accountant == "auto" else str(arguments.accountant)


def _delta(delta: float | None, clients: int | None, default: float) -> float:
    """`delta`, or the default for so many clients, or `default` if both are None."""
    if delta is not None:
        check_delta(delta)
        return delta
    return default if clients is None else default_delta(clients)


def _read(paths: Sequence[str]) -> list[Spending]:
    spendings = [spending.read(path) for path in paths]
    for ledger in spendings:
        if ledger.torn:
            sys.stderr.write(
                f"privacy_ledger: {ledger.path}: the last line is cut off and not "
                "counted: a kill, or a round being written\n"
            )
    populations = {
        ledger.population for ledger in spendings if ledger.population is not None
    }
    if len(populations) > 1:
        raise ValueError(
            "the ledgers are about different populations, whose ε do not add up; show "
            "them one by one"
        )
    return spendings


def _clients(spendings: Sequence[Spending]) -> int | None:
    """The size of the population, if a ledger has it."""
    sizes = (ledger.clients for ledger in spendings if ledger.clients is not None)
    return next(sizes, None)


def _show(arguments: argparse.Namespace) -> int:
    spendings = _read(arguments.ledgers)
    accountant = _accountant(arguments)
    clients = _clients(spendings)
    deltas = arguments.delta or sorted(
        {*_DELTAS, _delta(None, clients, _DELTAS[0])}, reverse=True
    )
    for delta in deltas:
        check_delta(delta)
    main = _delta(arguments.delta[0] if arguments.delta else None, clients, _DELTAS[0])
    rows = [["run", "mechanism", "rounds", f"ε (δ={rounded_up(main)})"]]
    groups: list[tuple[Event, int]] = []
    for run in itertools.chain.from_iterable(ledger.runs for ledger in spendings):
        groups += run.groups
        kinds = "; then ".join(ledger_tables.short(event) for event, _ in run.groups)
        epsilon = ledger_tables.epsilon(run.groups, main, accountant)
        rows.append([run.run, kinds, str(len(run.events)), rounded_up(epsilon)])
    rounds = sum(count for _, count in groups)
    total = ledger_tables.epsilon(groups, main, accountant)
    rows.append(["all", "together", str(rounds), rounded_up(total)])
    text = [ledger_tables.table(rows)]
    if groups:
        event = groups[0][0]
        text.append(
            f"unit of privacy {event.unit}, neighbouring relation "
            f"{event.neighbouring_relation}, {clients or 'unknown'} {event.unit}s"
        )
        heads = [["δ", "", "ε of all"]]
        for delta in deltas:
            epsilon = ledger_tables.epsilon(groups, delta, accountant)
            heads.append([rounded_up(delta), "", rounded_up(epsilon)])
        text.append(ledger_tables.table(heads))
        warning = None if clients is None else delta_warning(main, clients)
        if warning is not None:
            text.append(f"warning: {warning}")
    sys.stdout.write("\n\n".join(text) + "\n")
    if arguments.plot is not None:
        ledger_curves.plot_spent(arguments.plot, spendings, main, accountant)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    head = None if arguments.head is None else plan_arguments.head(arguments.head)
    (ledger,) = _read([arguments.ledger])
    sys.stdout.write(ledger_verify.report(ledger, arguments.run_folders, head))
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    event, with_noise = planned_event.event(arguments)
    spendings = _read(arguments.ledger)
    spent = [group for ledger in spendings for group in ledger.groups]
    clients = _clients(spendings)
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
        rounds = arguments.rounds or rounds_left
        ledger_curves.plot_plan(
            arguments.plot, event, rounds, delta, accountant, spent, budget
        )
    return 0


def _described(event: Event, arguments: argparse.Namespace) -> str:
    if arguments.sampling_rate is None:
        return "\n".join(event.description())
    # A rate alone does not tell the number of clients.
    return (
        f"Planned: {ledger_tables.short(event)}; every client joins a round "
        f"independently with probability {arguments.sampling_rate:g}."
    )


_COMMANDS = {"show": _show, "verify": _verify, "plan": _plan}


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Returns:
      The exit code: 0, or 1 for a damaged ledger, or 2 for wrong arguments.
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
