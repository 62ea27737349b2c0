"""Parses scripts/privacy_ledger's arguments; `planned_event` makes an event of them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

from tfl_research import registry, sampling, settings
from tfl_research.cli.arguments import Parser
from tfl_research.privacy.accounting.events import ACCOUNTANTS
from tfl_research.privacy.ledger import ledger_plots
from tfl_research.privacy.mechanisms.catalogue.registry import MECHANISMS

_EXAMPLES = """examples:
  privacy_ledger show results/shared_ledger.jsonl --plot=spent.svg
  privacy_ledger verify results/shared_ledger.jsonl results/run_1 results/run_2
  privacy_ledger budget results/shared_ledger.jsonl --epsilon=8 --delta=1e-5
  privacy_ledger plan --cohort_size=50 --population=715 --target_epsilon=8 --rounds=200
  privacy_ledger plan --cohort_size=50 --population=715 --noise_multiplier=1 \\
      --ledger=results/shared_ledger.jsonl --budget_epsilon=8
  privacy_ledger plan --mechanism=skellam --sampler=fixed --cohort_size=50 \\
      --population=715 --dimension=820522 --noise_multiplier=1 --rounds=200
  privacy_ledger show results/run_3 --plugin=my_package.my_mechanism
"""


def load_plugins(arguments: Sequence[str]) -> None:
    """Imports the modules of all --plugin flags, before the parser is built.

    Raises:
      SettingError: a module cannot be imported.
    """
    early = Parser(add_help=False, allow_abbrev=False)
    _add_plugin(early)
    for module in early.parse_known_args(arguments)[0].plugin:
        registry.load_plugin(module)


def _add_plugin(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module that registers mechanisms or events, as "
        "my_package.my_module; may be given several times",
    )


def parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line; the subcommand is in `command`."""
    command_line = Parser(
        prog="privacy_ledger",
        description="Shows what runs over the same clients spent, and what is left.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = command_line.add_subparsers(
        dest="command", required=True, metavar="COMMAND"
    )
    where = "a shared ledger, a run's ledger.jsonl, or the folder of a run"

    show = commands.add_parser(
        "show", help="print what each run and all runs spent", allow_abbrev=False
    )
    show.add_argument("ledgers", nargs="+", metavar="LEDGER", help=where)
    show.add_argument(
        "--delta",
        type=float,
        action="append",
        help=(
            "δ at which ε is given; may be given several times; by default several, "
            "among them the δ that runs with this many clients take by default"
        ),
    )
    _add_common(show)

    verify = commands.add_parser(
        "verify",
        help="check that no line was lost or edited; if one was, exit code 1",
        description="Checks the hash of each line, and that the ledger has as many "
        "lines as its head file says. A run's own ledger must also have the rounds "
        "that the other files of its folder recorded.",
        allow_abbrev=False,
    )
    verify.add_argument("ledger", metavar="LEDGER", help=where)
    verify.add_argument(
        "run_folders",
        nargs="*",
        metavar="RUN_FOLDER",
        help=(
            "folders of runs: a shared ledger must have the rounds of these runs, and "
            "the lines that their checkpoints recorded"
        ),
    )
    verify.add_argument(
        "--head",
        metavar="LINES:HASH",
        help=(
            "LINES:HASH that an earlier verify printed: the ledger must still begin "
            "with these lines"
        ),
    )
    _add_plugin(verify)

    plan = commands.add_parser(
        "plan",
        help="print what rounds would cost, and how many are left",
        allow_abbrev=False,
    )
    _add_plan(plan, where)
    _add_common(plan)

    budget = commands.add_parser(
        "budget",
        help="write a budget into a shared ledger, which binds every run in it",
        description="Writes a budget into a shared ledger, and makes the ledger if it "
        "is missing. A run ends before a round that would raise ε of all runs together "
        "above the budget.",
        allow_abbrev=False,
    )
    budget.add_argument("ledger", metavar="LEDGER", help="a shared ledger")
    budget.add_argument(
        "--epsilon", type=float, required=True, help="ε of all runs together"
    )
    budget.add_argument(
        "--delta",
        type=float,
        required=True,
        help="δ of the budget's ε, whatever the δ of the runs",
    )
    _add_accountant(budget)
    budget.add_argument(
        "--raise",
        dest="may_raise",
        action="store_true",
        help=(
            "allow a budget above the present budget; a line of the ledger records this"
        ),
    )
    _add_plugin(budget)
    return command_line


def _add_accountant(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--accountant",
        choices=("auto", *ACCOUNTANTS),
        default="auto",
        help="auto takes the tightest accountant that applies (default)",
    )


def _add_common(command: argparse.ArgumentParser) -> None:
    _add_accountant(command)
    command.add_argument(
        "--plot",
        metavar="FILE",
        help="draw ε against rounds into a .svg, .png or .pdf file",
    )
    _add_plugin(command)


def _add_plan(plan: argparse.ArgumentParser, where: str) -> None:
    plan.add_argument(
        "--ledger",
        action="append",
        default=[],
        help=f"count what was spent before: {where}; may be given several times",
    )
    plan.add_argument(
        "--event_of",
        metavar="LEDGER",
        help="plan rounds like the last round in this ledger, whatever its mechanism",
    )
    plan.add_argument(
        "--mechanism",
        choices=MECHANISMS.names(),
        default="gaussian",
        help="mechanism of the planned rounds, gaussian by default",
    )
    plan.add_argument(
        "--sampler",
        choices=sampling.names(),
        default="poisson",
        help="sampler of the planned rounds, poisson by default",
    )
    plan.add_argument("--cohort_size", type=float, help="number of clients in a round")
    plan.add_argument("--population", type=int, help="number of clients to sample from")
    plan.add_argument(
        "--sampling_rate",
        type=float,
        help="probability with which a client joins a round; with --sampler=poisson, "
        "instead of --cohort_size and --population",
    )
    plan.add_argument(
        "--min_separation",
        type=int,
        help="smallest number of rounds from one participation of a client to its next",
    )
    plan.add_argument(
        "--dimension",
        type=int,
        help="number of scalars in an update, if the noise depends on it",
    )
    _add_parameters(plan)
    plan.add_argument(
        "--noise_multiplier",
        type=float,
        help="noise multiplier z of the planned rounds",
    )
    plan.add_argument(
        "--target_epsilon",
        type=float,
        help="find the smallest z for this ε after --rounds",
    )
    plan.add_argument("--rounds", type=int, help="number of planned rounds")
    plan.add_argument(
        "--budget_epsilon", type=float, help="print how many rounds this ε allows"
    )
    plan.add_argument(
        "--delta",
        type=float,
        help="δ at which ε is given; when not given, the δ that runs with this many "
        "clients use",
    )
    plan.add_argument(
        "--search_mean",
        type=float,
        help=(
            "plan a hyperparameter search of this many runs on average, which "
            "releases the best run (Papernot and Steinke 2022)"
        ),
    )
    plan.add_argument(
        "--search_shape",
        type=float,
        default=1.0,
        help="η of the search's truncated negative binomial; 1: geometric (default), "
        "0: logarithmic",
    )


def _add_parameters(plan: argparse.ArgumentParser) -> None:
    """Adds an argument for each parameter of a mechanism, which checks the value."""
    for name, owners in MECHANISMS.parameters().items():
        field = _parameter(name, owners[0])
        kind = settings.kind_of(field)
        words = f"{', '.join(owners)}: {settings.help_of(field)}".replace("%", "%%")
        how: dict[str, Any] = {"default": None}
        if isinstance(kind, settings.Switch):
            how["action"] = argparse.BooleanOptionalAction
        elif isinstance(kind, settings.Repeated):
            how["action"] = "append"
        plan.add_argument(f"--{name}", help=words, **how)


def _parameter(name: str, owner: str) -> Any:
    mechanism = MECHANISMS.get(owner)
    return next(
        field
        for field in settings.declared(mechanism)
        if mechanism.PREFIX + field.name == name
    )


def check(arguments: argparse.Namespace) -> None:
    """Checks arguments against each other.

    Raises:
      ValueError: two arguments do not go together; the message names the argument.
    """
    if arguments.command in ("show", "plan") and arguments.plot is not None:
        try:
            ledger_plots.format_of(arguments.plot)
        except ValueError as error:
            raise ValueError(f"--plot: {error}") from None
    if arguments.command != "plan":
        return
    noises = (arguments.noise_multiplier, arguments.target_epsilon)
    if arguments.event_of is not None:
        for name in ("cohort_size", "population", "sampling_rate", "noise_multiplier"):
            if getattr(arguments, name) is not None:
                raise ValueError(
                    f"--{name}: --event_of already says this; leave --{name} out"
                )
    elif sum(noise is not None for noise in noises) != 1:
        raise ValueError("give exactly one of --noise_multiplier and --target_epsilon")
    if arguments.target_epsilon is not None and arguments.rounds is None:
        raise ValueError("--target_epsilon: needs --rounds too")
    if arguments.rounds is None and arguments.budget_epsilon is None:
        raise ValueError(
            "give --rounds, or --budget_epsilon to see how many rounds fit"
        )
    if arguments.rounds is not None and arguments.rounds < 1:
        raise ValueError(f"--rounds must be at least 1, got {arguments.rounds}")


def head(text: str) -> dict[str, Any]:
    """Parses LINES:HASH into a position, see `HashChain.position`.

    Raises:
      ValueError: the text has another form.
    """
    match = re.fullmatch(r"(\d+):([0-9a-f]{64})", text)
    if match is None:
        raise ValueError(
            f"--head={text}: expected LINES:HASH with 64 hexadecimal digits, as verify "
            "prints it"
        )
    return {"lines": int(match[1]), "hash": match[2]}
