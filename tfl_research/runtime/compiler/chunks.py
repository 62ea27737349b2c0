"""Cohorts cut into chunks of bounded memory, padded to few distinct shapes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from tfl_research.data import Cohort

# Client data in flight per chunk; also what keeps memory flat in the cohort's size.
CHUNK_BYTES = 32 * 2**20
CHUNK_CLIENTS = 50


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def bucket(size: int) -> int:
    """The least of 1, 2, 3, 4, 6, 8, 12, 16, 24, ... that is at least `size`.

    Padded shapes come from this ladder, so that cohorts of every size meet few
    compiled programs and padding is at most half of the data.
    """
    power = 1
    while power < size:
        if power >= 2 and power * 3 // 2 >= size:
            return power * 3 // 2
        power *= 2
    return power


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some of a cohort's clients.

    Attributes:
      leaves: client leaves, arrays `[padded clients, ...]`, in the order of the
        process' client type.
      count: how many of the clients are real.
    """

    leaves: list[np.ndarray]
    count: int


class Shapes:
    """The padded shapes that an engine's chunks take.

    The first few are exact, so that cohorts of a fixed size are not padded at all;
    further ones come from the ladder, so that programs stay few. Padding changes no
    result, only time.
    """

    _EXACT = 2

    def __init__(self) -> None:
        self._exact: set[tuple[int, int]] = set()

    def padded(self, clients: int, steps: int) -> tuple[int, int]:
        """(clients, steps) to pad a chunk to."""
        shape = (clients, steps)
        if shape not in self._exact and len(self._exact) < self._EXACT:
            self._exact.add(shape)
        return shape if shape in self._exact else (bucket(clients), bucket(steps))


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which clients form which chunk.

    Attributes:
      groups: positions in the cohort, a group per chunk.
      shapes: (clients, steps) that each chunk is padded to.
    """

    groups: tuple[tuple[int, ...], ...]
    shapes: tuple[tuple[int, int], ...]


def plan(
    cohort: Cohort,
    *,
    chunk_size: Optional[int] = None,
    parallel: int = 1,
    shapes: Optional[Shapes] = None,
) -> Plan:
    """Cuts a cohort into chunks.

    Clients are taken by falling number of local steps, so that those of a chunk
    pad each other little; a cohort that fits into one chunk per core is dealt out
    evenly instead. Who is with whom is a function of the cohort alone: the order in
    which updates are added up never depends on timing.

    Args:
      cohort: the round's clients.
      chunk_size: clients in a chunk; by default as many as fit `CHUNK_BYTES`.
      parallel: how many chunks are computed at once.
      shapes: the engine's padded shapes; all from the ladder by default.

    Raises:
      ValueError: a chunk size below 1.
    """
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    steps = [len(order) for order in cohort.orders]
    order = sorted(range(len(cohort)), key=lambda i: (-steps[i], i))
    if not order:
        return Plan((), ())
    if chunk_size is None:
        row = sum(
            int(np.prod(spec.shape, dtype=np.int64)) * np.dtype(spec.dtype).itemsize
            for spec in cohort.specs.values()
        )
        client = max(1, bucket(cohort.max_steps) * cohort.batch_size * row)
        chunk_size = int(np.clip(CHUNK_BYTES // client, 1, CHUNK_CLIENTS))
    if len(order) <= chunk_size * parallel:
        groups = _dealt(order, steps, min(parallel, len(order)))
    else:
        groups = [order[i : i + chunk_size] for i in range(0, len(order), chunk_size)]
    largest = max(len(group) for group in groups)
    book = shapes or Shapes()
    padded = [
        book.padded(largest, max(1, *(steps[i] for i in group), 1)) for group in groups
    ]
    return Plan(tuple(tuple(g) for g in groups), tuple(padded))


def _dealt(order: Sequence[int], loads: Sequence[int], shares: int) -> list[list[int]]:
    """Longest first, each to the share with the least to do so far."""
    groups: list[list[int]] = [[] for _ in range(shares)]
    totals = [0] * shares
    for position in order:
        least = min(range(shares), key=lambda s: (totals[s], len(groups[s]), s))
        groups[least].append(position)
        totals[least] += loads[position]
    return groups


def gather(
    cohort: Cohort,
    group: Sequence[int],
    shape: tuple[int, int],
    names: Sequence[str],
) -> Chunk:
    """The arrays of one chunk, padded to `shape`, leaves in the order of `names`."""
    part = cohort.select(group)
    stacked: dict[str, Any] = part.stacked(num_clients=shape[0], num_steps=shape[1])
    return Chunk([stacked[name] for name in names], len(part))
