"""Finds the lengths to which sequences are padded, if the longest sequence decides."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from tfl_research.data.arrays import structures
from tfl_research.data.arrays.sequences import LONGEST, Sequences
from tfl_research.tasks.pooled import Pooled


def resolved(
    sequences: Mapping[str, Sequences], populations: Iterable[Mapping[str, Any]]
) -> tuple[dict[str, Sequences], tuple[Pooled, ...]]:
    """Replaces open lengths by numbers; returns also the facts read off all clients.

    Args:
      sequences: the sequences by flat name of array.
      populations: arrays by client, for each split.

    Raises:
      ValueError: the longest row decides, but there is no row.
    """
    result = dict(sequences)
    facts = []
    for name, sequence in sequences.items():
        if sequence.length != LONGEST:
            continue
        longest = max(
            (
                len(row)
                for clients in populations
                for arrays in clients.values()
                for row in _rows(arrays, name)
            ),
            default=0,
        )
        if not longest:
            raise ValueError(
                f"sequences: {name} has no row with an element, so the longest row "
                "has no length; give a length"
            )
        result[name] = dataclasses.replace(sequence, length=longest)
        facts.append(
            Pooled(
                f"the length of {name}",
                f"the longest {name} of all clients",
                remedy="give sequences=tasks.Sequences(length)",
            )
        )
    return result, tuple(facts)


def _rows(arrays: Any, name: str) -> Iterable[Any]:
    """Returns the rows of an array; no rows if it is missing, which fails later."""
    if not isinstance(arrays, Mapping):
        return ()
    whole, part = structures.of(name), name.partition("/")[2]
    value = arrays.get(name, arrays.get(whole))
    if isinstance(value, Mapping):
        value = value.get(part)
    if value is None:
        return ()
    return value if isinstance(value, (list, tuple)) else iter(value)
