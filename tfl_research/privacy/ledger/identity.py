"""Which run, and which clients, a line of a shared ledger is about."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import secrets
from collections.abc import Iterable
from typing import Any

from tfl_research.privacy.ledger.hash_chain import sync_folder

RUN_DIGITS = 16
# For looking at a shared ledger without having a run.
NO_RUN = "0" * RUN_DIGITS


@dataclasses.dataclass(frozen=True)
class Population:
    """Which clients a ledger is about, without their ids.

    Attributes:
      clients: how many; of a client's ledger, how many records.
      fingerprint: SHA-256 over the sorted ids, hexadecimal.
    """

    clients: int
    fingerprint: str

    @classmethod
    def of(cls, client_ids: Iterable[str]) -> Population:
        """The population of these clients, in any order.

        Raises:
          ValueError: no clients, or an id twice.
        """
        ids = sorted(map(str, client_ids))
        if not ids or len(set(ids)) != len(ids):
            raise ValueError(
                f"client_ids must be distinct and at least one, got {len(ids)} of "
                f"which {len(set(ids))} differ"
            )
        text = json.dumps(ids, separators=(",", ":")).encode()
        return cls(len(ids), hashlib.sha256(text).hexdigest())


def run_id(folder: str | os.PathLike[str]) -> str:
    """The random id of the run in a folder: 16 hexadecimal digits.

    Drawn and put on disk (file `run_id`) at the first call. A folder that is deleted
    and filled anew is another run: its noise differs, so it is charged again.

    Raises:
      ValueError: the file holds something else.
    """
    path = pathlib.Path(folder) / "run_id"
    if not path.exists():
        temporary = path.with_name("run_id.tmp")
        with open(temporary, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(RUN_DIGITS // 2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    text = path.read_text(encoding="ascii", errors="replace").strip()
    if not is_hex(text, RUN_DIGITS):
        raise ValueError(
            f"{path} is damaged, so the run cannot be told from others; restore the "
            "file or start a new run"
        )
    return text


def is_hex(text: Any, digits: int) -> bool:
    """Whether it is text of so many lower-case hexadecimal digits."""
    return (
        isinstance(text, str)
        and len(text) == digits
        and set(text) <= set("0123456789abcdef")
    )
