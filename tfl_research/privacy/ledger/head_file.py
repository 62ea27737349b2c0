"""The file beside a ledger that records its head: number of lines and last hash.

It is written after each line, and so never has more lines than the ledger. A ledger
with fewer lines lost its end. It guards against accidents: whoever can write the ledger
can write this file too.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

SUFFIX = ".head"


def path_of(ledger: pathlib.Path) -> pathlib.Path:
    """The head file of a ledger: its name with `SUFFIX`."""
    return ledger.with_name(ledger.name + SUFFIX)


def write(ledger: pathlib.Path, position: Mapping[str, Any]) -> None:
    """Replaces the head file, in one step and without fsync.

    The ledger's lock must be held. A file that cannot be written is left alone: the
    ledger itself is what counts, and an older head is still one that it had.
    """
    target = path_of(ledger)
    temporary = target.with_name(target.name + ".tmp")
    text = f'{{"lines":{position["lines"]},"hash":"{position["hash"]}"}}\n'
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644
        )
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
        os.replace(temporary, target)
    except OSError:
        return


def read(ledger: pathlib.Path) -> dict[str, Any] | None:
    """The recorded position, see `HashChain.position`; None if there is none.

    A file without a position, which a power failure can leave, counts as none.
    """
    try:
        position = json.loads(path_of(ledger).read_text(encoding="ascii"))
        lines, digest = position["lines"], position["hash"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    if type(lines) is not int or lines < 0 or not isinstance(digest, str):
        return None
    return {"lines": lines, "hash": digest}
