"""Checks of a shared ledger, which refuse other clients, other units, lost lines."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from tfl_research.privacy.accounting import relations
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.ledger.identity import Population
from tfl_research.privacy.ledger.lines.entries import Entry


class PopulationError(ValueError):
    """The ledger is about another population."""


def check_population(path: pathlib.Path, there: Population, own: Population) -> None:
    """Checks that a ledger is about the run's clients.

    Raises:
      PopulationError: the ledger is about another population.
    """
    if there != own:
        raise PopulationError(
            f"{path} is about another population (of {there.clients}, fingerprint "
            f"{there.fingerprint[:12]}; this run has {own.clients}, "
            f"{own.fingerprint[:12]}): what is spent on one does not add up with the "
            "other; give each population its own ledger"
        )


def check_recorded(
    where: tuple[str, str], shared: Sequence[Entry], own: Sequence[Entry]
) -> None:
    """Checks that a shared ledger has every line of a run's own ledger.

    Args:
      where: the names of the ledger and the run in messages.
      shared: the run's lines in the shared ledger.
      own: the lines of the run's own ledger.

    Raises:
      ValueError: lines are missing or differ.
    """
    ledger, run = where
    if len(shared) < len(own):
        raise ValueError(
            f"{ledger} {len(shared)} lines {run}, but the run's own ledger has "
            f"{len(own)}: lines were lost, so ε would be understated; restore it from "
            "a copy"
        )
    for shared_entry, entry in zip(shared, own):
        if shared_entry != entry:
            raise ValueError(
                f"{ledger} {shared_entry} {run}, but the run's own ledger has "
                f"{entry}; restore the changed file from a copy"
            )


def check_fits(where: str, recorded: Event, event: Event) -> None:
    """Checks that a charge can be composed with what is recorded.

    Args:
      where: the names of the ledger and of the run of the recorded event.
      recorded: an event in the ledger.
      event: the event of the charge.

    Raises:
      ValueError: the events have different units of privacy, or neighbouring relations
        that no theorem connects.
    """
    related = recorded.neighbouring_relation, event.neighbouring_relation
    for name, there, here, fits in (
        ("unit", recorded.unit, event.unit, recorded.unit == event.unit),
        ("neighbouring_relation", *related, relations.convertible(related)),
    ):
        if not fits:
            raise ValueError(
                f"{where} with {name} {there!r}, but this run has {here!r}: no ε "
                "covers both; use another ledger, or the sampler and mechanism of "
                "that run"
            )
