"""Warns of ledgers of clients that a run does not have."""

from __future__ import annotations

from collections.abc import Sequence

from tfl_research.privacy.ledger.clients.client_ledgers import ClientLedgers


def beside_lines(ledgers: ClientLedgers) -> list[str]:
    """Warns if clients begin at ε = 0, and the folder has ledgers of other clients."""
    begun, beside = ledgers.others()
    if not begun:
        return []
    return [
        f"ε of {_listed(begun)} begins at 0, and {ledgers.path} also has ledgers of "
        f"clients that this run does not have: {_listed(beside)}. If records are the "
        "same under another client's name, what was charged there does not count "
        "here; give the client its old name."
    ]


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
