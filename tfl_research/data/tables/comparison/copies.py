"""Finds files that have the same rows, perhaps copies of one file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from tfl_research.data.tables.comparison.finding import SAID, Finding
from tfl_research.data.tables.files import Silo

# Fewer rows may be the same by chance.
_FEWEST_ROWS = 5


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()


def of_files(silos: Sequence[Silo], names: Sequence[str]) -> list[Finding]:
    """Finds files with the same rows, in any order.

    Args:
      silos: the files.
      names: the columns that are compared.
    """
    # The keys are digests: the rows of all files may not fit into memory twice.
    groups: dict[bytes, list[str]] = {}
    for silo in silos:
        if len(silo.frame) >= _FEWEST_ROWS:
            cells = (map(repr, silo.frame[name]) for name in names)
            texts = ("\n".join(row) for row in zip(*cells))
            rows = sorted(_digest(t.encode("utf-8", "surrogatepass")) for t in texts)
            if len(set(rows)) >= _FEWEST_ROWS:
                groups.setdefault(_digest(*rows), []).append(silo.path.name)
    return [
        Finding(
            names[0],
            f"{' and '.join(copies[:3])}{' and more' if copies[3:] else ''} have the "
            "same rows: test rows of one client are training rows of another; if they "
            "are copies, move all but one away",
            SAID,
        )
        for copies in groups.values()
        if len(copies) > 1
    ]
