"""Refuses rounds that an account cannot add to its ledger."""

from __future__ import annotations

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.ledger.ledger import Ledger


def check_ledger(ledger: Ledger, event: Event) -> None:
    """Checks that a run's rounds can continue the rounds in its ledger.

    Args:
      ledger: the ledger of the run.
      event: the event of the run's rounds.

    Raises:
      ValueError: the ledger has another neighbouring relation or unit of privacy, or
        has rounds of another event whose noise is correlated.
    """
    for _, recorded in ledger.record_of_run.counts:
        if recorded.neighbouring_relation != event.neighbouring_relation:
            raise ValueError(
                f"{ledger.path} was begun under {recorded.neighbouring_relation!r}, "
                f"but this run is under {event.neighbouring_relation!r}: resume with "
                "the same sampler"
            )
        if recorded.unit != event.unit:
            raise ValueError(
                f"{ledger.path} was begun with a {recorded.unit} as the unit of "
                f"privacy, but this run has a {event.unit}: choose another ledger"
            )
    for recorded in dict.fromkeys(ledger.events):
        by_round = recorded.composes_by_round and event.composes_by_round
        if recorded != event and not by_round:
            raise ValueError(
                f"{ledger.path} has rounds of {recorded}, whose noise cannot continue "
                f"in rounds of {event}: resume with the same privacy settings and "
                "number of rounds, or start a new run"
            )


def check_restart(ledger: Ledger, event: Event) -> None:
    """Checks that rounds can be repeated with new noise, and charged again.

    Raises:
      ValueError: the noise of the rounds is correlated.
    """
    if not event.composes_by_round:
        raise ValueError(
            f"{ledger.path}: the noise of a {event.kind} mechanism is correlated over "
            "the rounds, so no round can be repeated with new noise: start a new run"
        )
