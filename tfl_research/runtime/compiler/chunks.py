"""Divides cohorts into chunks of bounded memory, padded to few distinct shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from tfl_research.data import Cohort

# Bytes of client data in a chunk, so that memory does not grow with the cohort's size.
CHUNK_BYTES = 32 * 2**20
CHUNK_CLIENTS = 50
# Bytes of padding that take no noticeable time; compiling another shape takes a second.
SPARE_BYTES = 512 * 2**10
# Bytes of a small chunk with padding for further clients; copying takes 0.13 ms.
ROOM_BYTES = 256 * 2**10


def bucket(size: int) -> int:
    """The least of 1, 2, 3, 4, 6, 8, 12, 16, 24, ... that is at least `size`.

    Padded shapes have these sizes. So cohorts of all sizes need few compiled programs,
    and padding is at most half of the data.
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
      names: what error messages call them.
    """

    leaves: list[np.ndarray]
    count: int
    names: Sequence[str] = ()


class Shapes:
    """The padded shapes that an engine's chunks take.

    The first few shapes have as many clients as the chunk, so that cohorts of a fixed
    size need no padding. Further shapes have sizes of `bucket`. A chunk takes a shape
    that another chunk had, if little of it would be padding; then no program is
    compiled. Padding does not change results.

    If clients are executed one after another, padding clients take no time. Small
    chunks then have room for further clients, so that cohorts of varying size, as under
    Poisson sampling, need only one shape.

    Args:
      known: shapes of earlier chunks, of engines that share their programs with this
        engine; new shapes are added.
      one_by_one: whether clients are executed one after another.
    """

    _EXACT = 2

    def __init__(
        self,
        known: Optional[set[tuple[int, int]]] = None,
        *,
        one_by_one: bool = False,
    ) -> None:
        self._known = set() if known is None else known
        self._number = 0
        self._one_by_one = one_by_one

    def padded(
        self,
        clients: int,
        steps: int,
        cell: int = CHUNK_BYTES,
        *,
        client_bytes: Optional[int] = 0,
    ) -> tuple[int, int]:
        """The shape (clients, steps) to which a chunk is padded.

        Args:
          clients, steps: the numbers of clients and steps of the chunk.
          cell: bytes of a client's step.
          client_bytes: bytes of a client's further values; None if unknown.
        """
        known = sorted(self._known, key=lambda shape: (shape[0] * shape[1], shape))
        has_room = self._one_by_one and client_bytes is not None

        def is_near(shape: tuple[int, int], most_clients: int, most_steps: int) -> bool:
            spare = (shape[0] * shape[1] - clients * steps) * cell
            if clients > shape[0] or steps > shape[1]:
                return False
            if shape[0] > most_clients:
                # Programs for all clients at once also compute for padding clients.
                further = (shape[0] - clients) * (client_bytes or 0)
                return has_room and spare + further <= SPARE_BYTES
            return shape[1] <= most_steps or spare <= SPARE_BYTES

        # The longest shape first, so that a process with other constants compiles only
        # for this shape.
        for shape in reversed(known):
            if is_near(shape, clients, steps):
                return shape
        for shape in known:
            if is_near(shape, bucket(clients), bucket(steps)):
                return shape
        shape = clients, steps
        if self._number >= self._EXACT:
            shape = bucket(clients), bucket(steps)
        # The new shape is as long as the longest, so that the next chunk may fit too.
        longest = shape[0], max((steps for _, steps in known), default=0)
        if is_near(longest, shape[0], shape[1]):
            shape = longest
        if has_room:
            shape = _with_room(shape, cell, client_bytes or 0)
        self._number += 1
        self._known.add(shape)
        return shape


def _with_room(shape: tuple[int, int], cell: int, client_bytes: int) -> tuple[int, int]:
    """Returns the shape of a small chunk, with room for longer and more clients."""
    clients, steps = shape
    for longer in (bucket(2 * steps), bucket(steps)):
        if clients * (longer * cell + client_bytes) <= ROOM_BYTES:
            steps = longer
            break
    room = ROOM_BYTES // max(1, steps * cell + client_bytes)
    return max(clients, min(room, CHUNK_CLIENTS)), steps


@dataclasses.dataclass(frozen=True)
class Division:
    """The division of a cohort into chunks.

    Attributes:
      groups: for each chunk, the positions of its clients in the cohort.
      shapes: for each chunk, the shape (clients, steps) to which it is padded.
    """

    groups: tuple[tuple[int, ...], ...]
    shapes: tuple[tuple[int, int], ...]


def divide(
    cohort: Cohort,
    *,
    chunk_size: Optional[int] = None,
    parallel: int = 1,
    shapes: Optional[Shapes] = None,
) -> Division:
    """Divides a cohort into chunks.

    Clients are sorted by decreasing number of local steps, so that a chunk needs little
    padding. A cohort that fits into one chunk per core is divided evenly instead. The
    division is a function of the cohort only, so that the order in which updates are
    added up does not depend on timing.

    Args:
      cohort: the round's clients.
      chunk_size: number of clients in a chunk; by default as many as fit into
        `CHUNK_BYTES`.
      parallel: number of chunks that are computed at the same time.
      shapes: the engine's padded shapes; by default all sizes come from `bucket`.

    Raises:
      ValueError: the chunk size is below 1.
    """
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    steps = [len(order) for order in cohort.orders]
    order = sorted(range(len(cohort)), key=lambda i: (-steps[i], i))
    if not order:
        return Division((), ())
    row = sum(
        int(np.prod(spec.shape, dtype=np.int64)) * np.dtype(spec.dtype).itemsize
        for spec in cohort.specs.values()
    )
    cell = cohort.batch_size * row
    if chunk_size is None:
        client = max(1, bucket(cohort.max_steps) * cell)
        chunk_size = int(np.clip(CHUNK_BYTES // client, 1, CHUNK_CLIENTS))
    if len(order) <= chunk_size * parallel:
        groups = _dealt(order, steps, min(parallel, len(order)))
    else:
        groups = [order[i : i + chunk_size] for i in range(0, len(order), chunk_size)]
    largest = max(len(group) for group in groups)
    book = shapes or Shapes()
    further = sum(value.nbytes for value in cohort.members.values()) // len(order)
    padded = [
        book.padded(
            largest,
            max(1, *(steps[i] for i in group), 1),
            cell,
            client_bytes=None if cohort.loaders else further,
        )
        for group in groups
    ]
    return Division(tuple(tuple(g) for g in groups), tuple(padded))


def _dealt(order: Sequence[int], loads: Sequence[int], shares: int) -> list[list[int]]:
    """Gives clients, longest first, to the share with the least work so far."""
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
    leaves = [stacked[name] for name in names]
    return Chunk(leaves, len(part), [f"client {i}" for i in part.client_ids])
