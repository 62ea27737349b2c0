"""Phrases of a privacy statement that do not depend on a run's numbers."""

from __future__ import annotations

from tfl_research.privacy.accounting.events import Event

UNITS = {
    "client": "one client with all of its examples (user-level privacy)",
    "record": "one record of one client (record-level privacy); a client with many "
    "records is protected less",
}
RELATIONS = {
    "add_or_remove_one": "add or remove one {unit}",
    "replace_one": "replace one {unit}'s data by any other; the number of {unit}s is "
    "public, and the sensitivity is twice the clip",
    "zero_out": "replace one {unit}'s contribution by zero (zero-out); when it takes "
    "part is public",
}
ACCOUNTANTS = {
    "pld": "privacy loss distributions (PLD)",
    "rdp": "Rényi differential privacy (RDP)",
}
TIMES = (
    "When lines were printed and files written: the time of a round depends on who "
    "took part."
)
WARNINGS = (
    "Warnings and error messages: they can quote clients' names and values. Show them "
    "only to those who may see the data."
)
LENGTH = (
    "The number of rounds is public, unless a metric, a callback or a divergence stops "
    "the run: then it follows from what is given out."
)
THRESHOLDS = (
    "Thresholds that are computed from clients' exact norms (adaptive zeroing), "
    "wherever an aggregator uses them."
)
SAMPLER_DELTA = (
    "δ has a second part because noise is made of finitely many random bits: this part "
    "bounds the effect of a number that is not an exact draw, rounded."
)
UNSEARCHED = {
    "client": "Hyperparameters that were chosen by runs on the same data: each such "
    "run costs as much again. Share one ledger between them (--ledger), or account for "
    "the search (scripts/privacy_ledger plan --search_mean).",
    "record": "Hyperparameters that were chosen by runs on the same data: each such "
    "run costs as much again. Share one folder of ledgers between them "
    "(--record_ledgers); scripts/privacy_ledger show, given the folders of all of "
    "them, bounds what they cost any record together.",
}


def unit(event: Event) -> str:
    """Describes the unit of privacy in words."""
    return UNITS.get(event.unit, f"one {event.unit}")


def relation(event: Event) -> str:
    """Describes the neighbouring relation in words."""
    sentence = RELATIONS.get(event.neighbouring_relation)
    if sentence is None:
        return event.neighbouring_relation.replace("_", " ")
    return sentence.format(unit=event.unit)
