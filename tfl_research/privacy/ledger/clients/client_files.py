"""Names a client's ledger, and the population of the client's records."""

from __future__ import annotations

import hashlib
import json
import pathlib
import urllib.parse
from collections.abc import Iterable

from tfl_research.privacy.ledger.identity import Population

_ENDING = ".jsonl"


def population_of(client: str, records: int, drawn_by: str | None = None) -> Population:
    """Returns the population of a client's records.

    The fingerprint is made from the client's name and number of records. See
    `Population.of` for `drawn_by`.
    """
    named = [client, records] if drawn_by is None else [client, records, drawn_by]
    text = json.dumps(named, separators=(",", ":")).encode()
    return Population(records, hashlib.sha256(text).hexdigest())


def ledger_name(client: str) -> str:
    """Returns the file name of a client's ledger."""
    return urllib.parse.quote(client, safe=" ") + _ENDING


def other_clients(folder: pathlib.Path, clients: Iterable[str]) -> list[str]:
    """Returns whose ledgers in a folder are of no given client, sorted by name."""
    own = {ledger_name(client) for client in clients}
    return sorted(
        urllib.parse.unquote(path.stem)
        for path in folder.glob(f"*{_ENDING}")
        if path.name not in own
    )
