"""Writes the privacy statement of a run: its guarantee in words, from the events.

The order follows the advice for publications of Ponomareva et al. 2023 (How to DP-fy
ML, arXiv 2303.00654, section 5.3), and the statements of deployments (Xu et al. 2023,
arXiv 2305.18465): unit and relation, mechanism, numbers, accounting, and outputs that
the guarantee does not cover.
"""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Sequence

from tfl_research import outputs
from tfl_research.privacy.accounting import budget
from tfl_research.privacy.accounting.composition import composed_epsilon, composed_zcdp
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.privacy.ledger.statements import statement_words as words
from tfl_research.privacy.ledger.statements.statement_numbers import Numbers, table
from tfl_research.privacy.ledger.statements.statement_outputs import (
    GivenOut,
    given_lines,
    outside_lines,
)

# A statement mentions that two accountants differ if they differ by more than this
# share.
_CROSS_CHECK = 0.05
_WIDTH = 80


@dataclasses.dataclass(frozen=True)
class SharedTotal:
    """The spending of all runs in a shared ledger.

    Attributes:
      path: the path of the ledger.
      runs: number of runs with rounds in the ledger.
      rounds: the number of rounds of all runs.
      epsilon: ε of all rounds together, at the run's δ.
    """

    path: str
    runs: int
    rounds: int
    epsilon: float


def privacy_statement(
    event: Event,
    *,
    delta: float,
    accountant: str,
    spent: Sequence[tuple[Event, int]] = (),
    planned_rounds: int | None = None,
    budget_epsilon: float | None = None,
    shared: SharedTotal | None = None,
    outside: Sequence[str] = (),
    notes: Sequence[str] = (),
    rounds: int | None = None,
    planned_releases: Sequence[tuple[Event, int]] = (),
    given: GivenOut | None = None,
    assumptions: Sequence[str] = (),
    sampler_delta: float = 0.0,
) -> str:
    """Writes the text of a run's privacy statement.

    Args:
      event: the event of each round of the run.
      delta: the run's δ.
      accountant: "pld" or "rdp".
      spent: pairs (event, count) of the completed rounds, see
        `accounting.composed_epsilon`; empty for a statement before the first round.
      planned_rounds: number of planned rounds, or None.
      budget_epsilon: ε that no round may exceed, or None.
      shared: the total of a ledger shared with other runs, or None.
      outside: a sentence for each further output that the guarantee does not cover.
      notes: further sentences about the run.
      rounds: number of completed rounds, if `spent` also has further charged releases;
        by default, all charges in `spent` are rounds.
      planned_releases: charged releases that are planned in addition to the rounds.
      given: the outputs that the run releases; by default all outputs in the table of
        outputs.
      assumptions: a sentence for each fact that the guarantee assumes to be public.
      sampler_delta: the addition to δ because the noise comes from finitely many random
        bits, see `accounting.sampler_rest`.

    Returns:
      Lines of at most 80 characters, each with a line end.

    Raises:
      ValueError: δ is outside (0, 1), or the rounds cannot be composed.
    """
    charged = sum(count for _, count in spent)
    rounds_done = charged if rounds is None else rounds
    numbers = Numbers(list(spent), accountant, charged - rounds_done)
    if not rounds_done and planned_rounds:
        further = sum(count for _, count in planned_releases)
        planned = [(event, planned_rounds), *planned_releases]
        numbers = Numbers(planned, accountant, further)
    state = _state(rounds_done, planned_rounds)
    given = given or GivenOut(columns=[output.name for output in outputs.COLUMNS])
    sections = [
        ("Guarantee", _guarantee(event, numbers, delta, sampler_delta)),
        ("Mechanism", [*event.description(), *_noise(event, numbers.rounds)]),
        ("Rounds and budget", [state, *_budget(budget_epsilon, shared, delta)]),
        ("Accounting", _accounting(numbers, delta)),
        ("What was given out", given_lines(given)),
    ]
    if assumptions:
        sections.append(("Assumptions", [f"- {line}" for line in assumptions]))
    sections.append(("Outside the guarantee", outside_lines(event, given, outside)))
    if notes:
        sections.append(("Notes", list(notes)))
    parts = ["Privacy statement\n=================\n"]
    for number, (title, sentences) in enumerate(sections, start=1):
        parts.append(f"\n{number}. {title}\n")
        parts.extend(_paragraph(sentence) for sentence in sentences)
        if title == "Guarantee" and numbers.rounds:
            parts.append(table(numbers, delta))
    return "".join(parts)


def opening_lines(
    event: Event,
    *,
    delta: float,
    accountant: str,
    planned_rounds: int | None,
    budget_epsilon: float | None = None,
    planned_releases: Sequence[tuple[Event, int]] = (),
) -> tuple[str, ...]:
    """Writes a run's first lines: unit, relation, mechanism, sampling, ε and δ.

    See `privacy_statement` for the arguments.
    """
    lines = [
        f"Privacy unit: {words.unit(event)}. Neighbouring relation: "
        f"{words.relation(event)}.",
        *event.description(),
    ]
    if planned_rounds:
        planned = [(event, planned_rounds), *planned_releases]
        epsilon = composed_epsilon(planned, delta, accountant)
        further = sum(count for _, count in planned_releases)
        lines.append(
            f"Planned: ε = {rounded_up(epsilon)} at δ = {rounded_up(delta, 6)} after "
            f"{planned_rounds} rounds{_further(further)} ({accountant.upper()} "
            "accountant)."
        )
    else:
        lines.append(f"ε is told after each round at δ = {rounded_up(delta, 6)}.")
    if budget_epsilon is not None:
        lines.append(
            f"Budget: stops before the round that would exceed ε = {budget_epsilon:g}."
        )
    return tuple(lines)


def _state(rounds_done: int, planned: int | None) -> str:
    if not rounds_done:
        return f"Planned: {planned} rounds; none was done when this was written."
    if planned is None or rounds_done == planned:
        return f"Done: {rounds_done} rounds."
    if rounds_done > planned:
        return f"Done: {rounds_done} rounds, {planned} were planned."
    return (
        f"Done: {rounds_done} of {planned} planned rounds when this was written; the "
        "numbers are of those done."
    )


def _further(releases: int) -> str:
    """Writes words for the charges in addition to the rounds."""
    if not releases:
        return ""
    return f" and {releases} further {'charge' if releases == 1 else 'charges'}"


def _guarantee(
    event: Event, numbers: Numbers, delta: float, sampler_delta: float
) -> list[str]:
    lines = []
    if numbers.rounds:
        epsilon = numbers.epsilon(delta, numbers.accountant)
        stated = rounded_up(delta, 6)
        rounds = f"{numbers.rounds} rounds{_further(numbers.releases)}"
        if math.isinf(epsilon):
            lines.append(f"None: ε is infinite at δ = {stated} after {rounds}.")
        else:
            rest = f" + {rounded_up(sampler_delta, 2)}" if sampler_delta else ""
            lines.append(
                f"(ε = {rounded_up(epsilon)}, δ = {stated}{rest})-differential privacy "
                f"of all that {rounds} release together and section 5 calls private, "
                "whatever is done with it."
            )
            if sampler_delta:
                lines.append(words.SAMPLER_DELTA)
    lines += [
        f"Unit of privacy: {words.unit(event)}.",
        f"Neighbouring relation: {words.relation(event)}.",
    ]
    if (event.unit, event.neighbouring_relation) == ("client", "add_or_remove_one"):
        lines.append(
            "The number of clients, and with it the sampling rate and the denominator, "
            "is taken to be public and stays as it is when a client is added or "
            "removed."
        )
    if event.num_clients is not None:
        warning = budget.delta_warning(delta, event.num_clients)
        if warning is not None:
            lines.append(f"Warning: {warning}.")
    return lines


def _noise(event: Event, rounds: int) -> list[str]:
    lines = []
    if event.noise is not None:
        lines.append(f"Noise multiplier: z = {event.noise:g}.")
    total_noise = event.effective_noise_multiplier(rounds) if rounds else None
    if total_noise is not None:
        together = f"All {rounds} rounds together are"
        if event.rate is not None:
            # The accountant's bound for sampled clients is tighter than this noise.
            together = (
                f"If it were known who took part, all {rounds} rounds together would be"
            )
        lines.append(
            f"{together} one Gaussian whose noise is {total_noise:.4g} times its "
            "sensitivity."
        )
    return lines


def _budget(
    budget_epsilon: float | None, shared: SharedTotal | None, delta: float
) -> list[str]:
    lines = []
    if budget_epsilon is not None:
        whose = "this run's ε" if shared is None else "the ε of all runs in the ledger"
        lines.append(
            f"Budget: the run stops before the round that would put {whose} above "
            f"{budget_epsilon:g}."
        )
    if shared is not None:
        lines.append(
            f"Shared ledger {shared.path}: {shared.runs} "
            f"{'run' if shared.runs == 1 else 'runs'} with {shared.rounds} rounds in "
            f"all, together ε = {rounded_up(shared.epsilon)} at δ = "
            f"{rounded_up(delta, 6)}. For whoever sees the models of all these runs, "
            "this ε holds, not the ε of this run."
        )
    return lines


def _accounting(numbers: Numbers, delta: float) -> list[str]:
    accountant = numbers.accountant
    lines = [
        f"Accountant: {words.ACCOUNTANTS[accountant]}; rounds are composed together, "
        "and their ε are not added."
    ]
    if not numbers.rounds:
        return lines
    cross_check = numbers.cross_check
    if cross_check is not None:
        epsilon = numbers.epsilon(delta, accountant)
        cross_epsilon = numbers.epsilon(delta, cross_check)
        differ = (
            "they differ by more than 5%, and the accountant's bound is the smaller"
            if abs(cross_epsilon - epsilon) > _CROSS_CHECK * epsilon
            else "they agree within 5%"
        )
        lines.append(
            f"Cross-check by {words.ACCOUNTANTS[cross_check]}: ε = "
            f"{rounded_up(cross_epsilon)} at δ = {rounded_up(delta, 6)}; {differ}."
        )
    rho = composed_zcdp(numbers.groups)
    if rho is not None and math.isfinite(rho):
        lines.append(
            f"Zero-concentrated differential privacy: ρ = {rounded_up(rho)}. ρ does "
            "not count amplification by sampling, so it also holds against those who "
            "know who took part."
        )
    return lines


def _paragraph(sentence: str) -> str:
    dash = "- " if sentence.startswith("- ") else ""
    return (
        textwrap.fill(
            sentence,
            _WIDTH,
            initial_indent="   ",
            subsequent_indent="   " + " " * len(dash),
            break_long_words=False,
            break_on_hyphens=False,
        )
        + "\n"
    )
