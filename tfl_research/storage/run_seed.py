"""The secret seed of a run: its file, and keys that are derived from the seed."""

from __future__ import annotations

import hashlib
import hmac
import pathlib
import re

from tfl_research.errors import UserError
from tfl_research.storage.files import atomic

SEED_BITS = 128
_CONTENT = re.compile(rb"([0-9a-f]{32})\n")


def write(path: pathlib.Path, seed: int) -> None:
    """Writes the file, which only its owner can read."""
    atomic.write(path, b"%032x\n" % seed, mode=0o600)


def read(path: pathlib.Path) -> int:
    """Reads the seed in the file: 32 lower-case hexadecimal digits and a line end.

    Raises:
      UserError: the file is missing, or has another form. The message does not show
        the content.
    """
    try:
        found = _CONTENT.fullmatch(path.read_bytes())
    except OSError:
        found = None
    if found is None:
        raise UserError(
            f"{path} is missing or damaged (expected 32 lower-case hexadecimal digits "
            "and a line end), so the run's noise cannot be drawn again; restore the "
            "file or choose another --output_dir"
        )
    return int(found[1], 16)


def derived(seed: int, purpose: str, content: bytes = b"") -> bytes:
    """Derives 32 bytes that nobody without the seed can distinguish from random bytes.

    The bytes are HMAC-SHA256, keyed by the seed, of the purpose and the content.

    Args:
      seed: the seed of the run.
      purpose: the purpose of the bytes; different purposes give independent bytes.
      content: further bytes on which the result depends.
    """
    key = b"%032x" % seed
    return hmac.new(key, purpose.encode() + b"\0" + content, hashlib.sha256).digest()
