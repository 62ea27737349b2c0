"""The arguments of scripts/privacy_ledger, and the event that a plan's describe."""

from __future__ import annotations

import argparse
import re
from typing import Any

from tfl_research import sampling
from tfl_research.privacy.accounting.events import ACCOUNTANTS, Event
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.ledger import spending

_SAMPLERS = (
    "poisson",
    "fixed",
    "shuffled",
    "full",
    "min_separation",
    "cyclic_poisson",
)
_MECHANISMS = (
    "gaussian",
    "adaptive_gaussian",
    "bounded_weight",
    "tree",
    "banded_matrix",
    "local_gaussian",
)
_EXAMPLES = """examples:
  privacy_ledger show results/shared_ledger.jsonl --plot=spent.png
  privacy_ledger verify results/shared_ledger.jsonl results/run_1 results/run_2
  privacy_ledger plan --cohort_size=50 --population=715 --target_epsilon=8 --rounds=200
  privacy_ledger plan --cohort_size=50 --population=715 --noise_multiplier=1 \\
      --ledger=results/shared_ledger.jsonl --budget_epsilon=8
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the command line; the subcommand is in `command`."""
    whole = argparse.ArgumentParser(
        prog="privacy_ledger",
        description="What was spent by runs over the same clients, and what is left.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    where = "a shared ledger, a run's ledger.jsonl, or the folder of a run"

    show = commands.add_parser(
        "show", help="what was spent: by run and in all", allow_abbrev=False
    )
    show.add_argument("ledgers", nargs="+", metavar="LEDGER", help=where)
    show.add_argument(
        "--delta",
        type=float,
        action="append",
        help="δ of ε, may be given several times; by default several, and runs' own "
        "default for so many clients",
    )
    _add_common(show)

    verify = commands.add_parser(
        "verify",
        help="find lost and edited lines; exit code 1",
        description="Checks that each line follows the one before it. A run's own "
        "ledger must also have the rounds of the metrics.csv and the checkpoints in "
        "its folder.",
        allow_abbrev=False,
    )
    verify.add_argument("ledger", metavar="LEDGER", help=where)
    verify.add_argument(
        "run_folders",
        nargs="*",
        metavar="RUN_FOLDER",
        help="folders of runs: a shared ledger must have their rounds, and what their "
        "checkpoints noted of it",
    )
    verify.add_argument(
        "--head",
        metavar="LINES:HASH",
        help="as an earlier verify printed it: the ledger must still begin so",
    )

    plan = commands.add_parser(
        "plan", help="what rounds would cost, and how many are left", allow_abbrev=False
    )
    _add_plan(plan, where)
    _add_common(plan)
    return whole


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--accountant",
        choices=("auto", *ACCOUNTANTS),
        default="auto",
        help="auto takes the tightest that applies (default)",
    )
    command.add_argument("--plot", metavar="PNG", help="draw ε by rounds to this file")


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
        help="plan rounds like the last one in this ledger, whatever its mechanism",
    )
    plan.add_argument("--mechanism", choices=_MECHANISMS, default="gaussian")
    plan.add_argument("--sampler", choices=_SAMPLERS, default="poisson")
    plan.add_argument("--cohort_size", type=float, help="clients in a round")
    plan.add_argument("--population", type=int, help="clients to sample from")
    plan.add_argument(
        "--sampling_rate", type=float, help="instead of the two, for poisson"
    )
    plan.add_argument("--min_separation", type=int, help="as in an experiment's flags")
    plan.add_argument("--restart_every", type=int, help="tree: rounds of one tree")
    plan.add_argument("--bands", type=int, help="banded_matrix: bands of the matrix")
    plan.add_argument("--noise_multiplier", type=float, help="z of the planned rounds")
    plan.add_argument(
        "--target_epsilon",
        type=float,
        help="find the least z for this ε after --rounds",
    )
    plan.add_argument("--rounds", type=int, help="planned rounds")
    plan.add_argument(
        "--budget_epsilon", type=float, help="tell how many rounds keep within this ε"
    )
    plan.add_argument(
        "--delta", type=float, help="δ; runs' default for so many clients if left out"
    )
    plan.add_argument(
        "--search_mean",
        type=float,
        help="plan a hyperparameter search of so many runs on average, of which the "
        "best is released (Papernot and Steinke 2022)",
    )
    plan.add_argument(
        "--search_shape",
        type=float,
        default=1.0,
        help="η of the search's truncated negative binomial; 1: geometric (default), "
        "0: logarithmic",
    )


def check(arguments: argparse.Namespace) -> None:
    """Checks what belongs together.

    Raises:
      ValueError: names the argument.
    """
    if arguments.command != "plan":
        return
    given = arguments.noise_multiplier is not None, arguments.target_epsilon is not None
    if arguments.event_of is not None:
        for name in ("cohort_size", "population", "sampling_rate", "noise_multiplier"):
            if getattr(arguments, name) is not None:
                raise ValueError(f"--{name}: --event_of says it already; leave it out")
    elif sum(given) != 1:
        raise ValueError("give one of --noise_multiplier and --target_epsilon")
    if arguments.target_epsilon is not None and arguments.rounds is None:
        raise ValueError("--target_epsilon: needs --rounds too")
    if arguments.rounds is None and arguments.budget_epsilon is None:
        raise ValueError("give --rounds, or --budget_epsilon to be told how many fit")
    if arguments.rounds is not None and arguments.rounds < 1:
        raise ValueError(f"--rounds must be at least 1, got {arguments.rounds}")
    for name, mechanism in (("restart_every", "tree"), ("bands", "banded_matrix")):
        if getattr(arguments, name) is not None and arguments.mechanism != mechanism:
            raise ValueError(f"--{name}: goes with --mechanism={mechanism}")


def event(arguments: argparse.Namespace) -> Event:
    """The event of each planned round; its noise is 1 where it is to be found.

    Raises:
      ValueError: arguments that are missing, out of range, or do not fit.
    """
    if arguments.event_of is not None:
        found = spending.read(arguments.event_of)
        if not found.runs:
            raise ValueError(f"--event_of={arguments.event_of}: has no rounds yet")
        planned = found.runs[-1].events[-1]
    else:
        planned = _event(arguments, 1.0)
        if arguments.noise_multiplier is not None:
            planned = _event(arguments, arguments.noise_multiplier)
    if arguments.search_mean is None:
        return planned
    from tfl_research.privacy.accounting.events.search_event import (
        HyperparameterSearchEvent,
    )

    return HyperparameterSearchEvent(
        planned, arguments.search_mean, arguments.search_shape
    )


def _event(arguments: argparse.Namespace, noise: float) -> Event:
    mechanism = arguments.mechanism
    if arguments.sampling_rate is not None:
        if arguments.cohort_size is not None or arguments.population is not None:
            raise ValueError(
                "--sampling_rate: stands for --cohort_size and --population; leave it "
                "or them out"
            )
        if arguments.sampler != "poisson" or mechanism in _WHOLE_RUN:
            raise ValueError(
                "--sampling_rate: is for --sampler=poisson and independent noise; give "
                "--cohort_size and --population"
            )
        return GaussianEvent.poisson(noise, arguments.sampling_rate)
    amplification = _sampler(arguments).amplification
    if mechanism == "local_gaussian":
        from tfl_research.privacy.accounting.events.local_gaussian_event import (
            LocalGaussianEvent,
        )

        return LocalGaussianEvent(
            noise, amplification.population, amplification.cohort_size
        )
    if mechanism not in _WHOLE_RUN:
        return GaussianEvent.of(noise, amplification)
    rounds = arguments.rounds
    if rounds is None:
        raise ValueError(f"--mechanism={mechanism}: needs --rounds, its noise does")
    if mechanism == "tree":
        from tfl_research.privacy.accounting.events.tree_event import TreeEvent

        return TreeEvent.of(
            noise, amplification, restart_every=arguments.restart_every or rounds
        )
    from tfl_research.privacy.accounting.events.matrix_event import MatrixEvent

    bands = arguments.bands or min(amplification.min_separation, rounds)
    return MatrixEvent.of(noise, amplification, rounds=rounds, bands=bands)


_WHOLE_RUN = ("tree", "banded_matrix")


def _sampler(arguments: argparse.Namespace) -> sampling.Sampler:
    """The experiment's sampler over as many clients; it only tells its amplification.

    Raises:
      ValueError: numbers that are missing or that it refuses.
    """
    name, size = arguments.sampler, arguments.cohort_size
    if arguments.population is None:
        raise ValueError("--population is missing (or --sampling_rate)")
    if arguments.population < 1:
        raise ValueError(f"--population must be at least 1, got {arguments.population}")
    clients: Any = range(arguments.population)
    separates = name in ("min_separation", "cyclic_poisson")
    if arguments.min_separation is not None and not separates:
        raise ValueError(f"--min_separation: does not go with --sampler={name}")
    if name == "full":
        if size is not None:
            raise ValueError("--cohort_size: --sampler=full takes every client")
        return sampling.Full(clients)
    if size is None:
        raise ValueError("--cohort_size is missing (or --sampling_rate)")
    if name == "poisson":
        return sampling.Poisson(clients, size, 0)
    if name == "fixed":
        return sampling.FixedSize(clients, size, 0)
    if name == "shuffled":
        return sampling.Shuffled(clients, size, 0)
    if name == "min_separation":
        return sampling.MinSeparation(clients, size, 0, arguments.min_separation)
    if arguments.min_separation is None:
        raise ValueError("--sampler=cyclic_poisson: needs --min_separation too")
    return sampling.CyclicPoisson(clients, size, 0, arguments.min_separation)


def head(text: str) -> dict[str, Any]:
    """A position, see `HashChain.position`, from LINES:HASH.

    Raises:
      ValueError: the text is none.
    """
    found = re.fullmatch(r"(\d+):([0-9a-f]{64})", text)
    if found is None:
        raise ValueError(
            f"--head={text}: expected LINES:HASH with 64 hexadecimal digits, as verify "
            "prints it"
        )
    return {"lines": int(found[1]), "hash": found[2]}
