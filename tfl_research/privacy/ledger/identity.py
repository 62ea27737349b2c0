"""Ids of runs and fingerprints of populations in shared ledgers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import secrets
from collections.abc import Iterable
from typing import Any

from tfl_research.storage.files import atomic

RUN_DIGITS = 16
# Stands for the run's id when a shared ledger is read without a run.
NO_RUN = "0" * RUN_DIGITS


@dataclasses.dataclass(frozen=True)
class Population:
    """The clients that a ledger is about, without their ids.

    Attributes:
      clients: number of clients; in a client's ledger, number of records.
      fingerprint: SHA-256, hexadecimal, of the sorted ids. If the ids do not identify
        the clients' data, it also covers `drawn_by`, see `of`.
    """

    clients: int
    fingerprint: str

    @classmethod
    def of(cls, client_ids: Iterable[str], drawn_by: str | None = None) -> Population:
        """Makes the population of these clients, in any order.

        Args:
          client_ids: distinct ids.
          drawn_by: values that decide which data a client with this id has, such as
            options and a seed; None if the id identifies the data.

        Raises:
          ValueError: there are no clients, or an id occurs twice.
        """
        ids = sorted(map(str, client_ids))
        if not ids or len(set(ids)) != len(ids):
            raise ValueError(
                f"client_ids must be distinct and at least one, got {len(ids)} of "
                f"which {len(set(ids))} differ"
            )
        named = ids if drawn_by is None else {"clients": ids, "drawn_by": drawn_by}
        text = json.dumps(named, separators=(",", ":")).encode()
        return cls(len(ids), hashlib.sha256(text).hexdigest())


def run_id(folder: str | os.PathLike[str]) -> str:
    """Returns the random id of the run in a folder, 16 hexadecimal digits.

    The first call draws the id and writes it to the file `run_id`. A folder that is
    deleted and filled again is another run: its noise differs, so its rounds are
    charged again.

    Raises:
      ValueError: the file `run_id` is damaged.
    """
    path = pathlib.Path(folder) / "run_id"
    if not path.exists():
        atomic.write(path, f"{secrets.token_hex(RUN_DIGITS // 2)}\n".encode())
    text = path.read_text(encoding="ascii", errors="replace").strip()
    if not is_hex(text, RUN_DIGITS):
        raise ValueError(
            f"{path} is damaged, so this run cannot be told from others; restore the "
            "file or start a new run"
        )
    return text


def recorded_run_id(folder: pathlib.Path) -> str | None:
    """Reads the id in a folder's file `run_id`; None without a readable id."""
    try:
        text = (folder / "run_id").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    return text if is_hex(text, RUN_DIGITS) else None


def check_run(run: Any) -> None:
    """Checks that `run` has the form of a run's id.

    Raises:
      ValueError: `run` has another form.
    """
    if not is_hex(run, RUN_DIGITS):
        raise ValueError(f"run must be {RUN_DIGITS} hexadecimal digits, got {run!r}")


def is_hex(text: Any, digits: int) -> bool:
    """Whether `text` is a string of `digits` lower-case hexadecimal digits."""
    return (
        isinstance(text, str)
        and len(text) == digits
        and set(text) <= set("0123456789abcdef")
    )
