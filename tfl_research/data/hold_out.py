"""Draws held-out clients, which are never trained on, and test examples.

Every draw uses a keyed hash. The key comes from the seed and the purpose of the draw.
The hash of a client's id, or of an example's content, decides about this client or this
example. So an added or removed client or example does not move any other, in any order,
and neighbouring data have neighbouring training splits. Every function is pure: equal
arguments give equal splits on every machine.
"""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Optional

import numpy as np

_HASH_BYTES = 8
_CONTENT_BYTES = 32


def check_fraction(name: str, fraction: float) -> None:
    """Raises ValueError unless the fraction is in [0, 1)."""
    if not 0.0 <= fraction < 1.0:
        raise ValueError(f"{name} must be at least 0 and below 1, got {fraction}")


def _bytes(text: str) -> bytes:
    # A file's name may have bytes that are not UTF-8.
    return text.encode("utf-8", "surrogateescape")


class _Draw:
    """Maps contents to numbers by a keyed hash (BLAKE2b); `parts` make the key."""

    def __init__(self, *parts: Any) -> None:
        self._key = hashlib.sha256(repr(parts).encode()).digest()

    def number(self, content: bytes) -> int:
        """Returns the content's number, from 0 to 2^64 - 1."""
        digest = hashlib.blake2b(content, key=self._key, digest_size=_HASH_BYTES)
        return int.from_bytes(digest.digest(), "big")

    def below(self, content: bytes, fraction: float) -> bool:
        """Whether the content's number is in the lowest `fraction` of all numbers."""
        return self.number(content) < fraction * 2.0 ** (8 * _HASH_BYTES)


def nearest_count(total: int, fraction: float) -> int:
    """Computes the number of held-out clients that is nearest to a share of `total`.

    The result depends on the number of all clients. It is for tasks with a public,
    fixed list of clients, which then call `clients` with this count.

    Returns:
      0 for a fraction of 0. A fraction above 0 holds out at least one client and leaves
      at least one training client.

    Raises:
      ValueError: the fraction is outside [0, 1), or above 0 with fewer than two
        clients.
    """
    check_fraction("held_out_fraction", fraction)
    if fraction == 0.0:
        return 0
    if total < 2:
        raise ValueError(
            f"cannot hold clients out of {total}; expected at least 2, or "
            "held_out_fraction=0"
        )
    return min(max(1, round(fraction * total)), total - 1)


def clients(
    client_ids: Sequence[str],
    *,
    seed: int,
    count: Optional[int] = None,
    fraction: Optional[float] = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Splits clients into training clients and held-out clients.

    By `count`, the clients whose ids have the lowest hashes are held out: if a client
    is added or removed, the training clients differ by at most one client. By
    `fraction`, each client is held out if the hash of its id is below the fraction,
    whoever the others are; the number of held-out clients then varies about the
    fraction, and may be 0.

    Args:
      client_ids: all clients; both parts keep their order.
      seed: the seed of the draw.
      count: number of clients to hold out.
      fraction: probability of each client to be held out, instead of `count`.

    Returns:
      The training clients and the held-out clients.

    Raises:
      ValueError: neither or both of `count` and `fraction` are given; the count is
        negative; the fraction is outside [0, 1); or no training client is left.
    """
    if (count is None) == (fraction is None):
        raise ValueError(
            f"give either count or fraction, got count={count} and fraction={fraction}"
        )
    total = len(client_ids)
    draw = _Draw("held_out", seed)
    if count is not None:
        if not 0 <= count < max(1, total):
            raise ValueError(
                f"the number of held-out clients must be from 0 to {total - 1} of "
                f"{total} clients, got {count}"
            )
        ranked = sorted(client_ids, key=lambda c: (draw.number(_bytes(c)), c))
        held_out = set(ranked[:count])
    elif fraction is not None:
        check_fraction("held_out_fraction", fraction)
        held_out = {c for c in client_ids if draw.below(_bytes(c), fraction)}
        if total and len(held_out) == total:
            raise ValueError(
                f"held_out_fraction={fraction} with seed {seed} holds out each of "
                f"{total} clients; give a smaller fraction or another seed"
            )
    return (
        tuple(c for c in client_ids if c not in held_out),
        tuple(c for c in client_ids if c in held_out),
    )


def examples(
    contents: Iterable[bytes], fraction: float, *, seed: int, client_id: str
) -> tuple[np.ndarray, np.ndarray]:
    """Splits one client's examples at random into training and test examples.

    An example is a test example if the hash of its content is below the fraction. Equal
    examples are numbered, so that their hashes differ. So an added or removed example
    does not move any other example, in any order of the examples. The share of test
    examples varies about the fraction, as with independent coins: a client may have no
    test example, or no training example.

    Args:
      contents: the content of each of the client's examples, see `array_contents`; may
        be empty.
      fraction: probability of each example to be a test example, in [0, 1).
      seed: the seed of the draw.
      client_id: the client that holds the examples; clients draw independently.

    Returns:
      Ascending int64 indices of the training and of the test examples, disjoint and
      complete.

    Raises:
      ValueError: the fraction is outside [0, 1).

    Example:
      >>> from tfl_research.data import hold_out
      >>> train, test = hold_out.examples(
      ...     [b"a", b"b", b"c", b"d"], 0.5, seed=0, client_id="ward"
      ... )
      >>> sorted([*train, *test])
      [0, 1, 2, 3]
    """
    check_fraction("test_fraction", fraction)
    draw = _Draw("test_examples", seed, client_id)
    copies: collections.Counter[bytes] = collections.Counter()
    is_test = []
    for content in contents:
        digest = hashlib.blake2b(content, digest_size=_CONTENT_BYTES).digest()
        number = copies[digest].to_bytes(8, "big")
        copies[digest] += 1
        is_test.append(draw.below(digest + number, fraction))
    tested = np.array(is_test, bool)
    return np.flatnonzero(~tested), np.flatnonzero(tested)


def array_contents(arrays: Sequence[np.ndarray]) -> list[bytes]:
    """Returns the content of each example as bytes: its values, types and shapes.

    Args:
      arrays: arrays `[n, ...]`, such as a client's x and y.

    Returns:
      n byte strings, equal for equal examples and different otherwise, on every
      machine.
    """
    columns = []
    for array in arrays:
        if array.dtype.kind in "OSU":
            # Bytes of such arrays depend on the longest text among the examples.
            columns.append([repr(value).encode() for value in array.tolist()])
            continue
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        header = f"{array.dtype.str}{array.shape[1:]}".encode()
        columns.append([header + row.tobytes() for row in array])
    # Lengths separate the end of x from the beginning of y.
    return [
        b"".join(len(part).to_bytes(8, "big") + part for part in row)
        for row in zip(*columns)
    ]


def groups(
    group_of: np.ndarray, fraction: float, *, seed: int, purpose: str
) -> np.ndarray:
    """Draws groups of examples for testing, such as all flights of a day.

    A group is drawn if the hash of its name is below the fraction. Other groups do not
    matter, so the share of drawn groups varies about the fraction.

    Args:
      group_of: the group of each example, `[n]`, of any comparable type.
      fraction: probability of each group to be drawn, in [0, 1).
      seed: the seed of the draw.
      purpose: names the draw; draws with different purposes are independent.

    Returns:
      Whether each example belongs to a drawn group, bool `[n]`.

    Raises:
      ValueError: the fraction is outside [0, 1).
    """
    check_fraction("test_fraction", fraction)
    draw = _Draw("test_groups", purpose, seed)
    distinct, group = np.unique(group_of, return_inverse=True)
    drawn = [draw.below(_bytes(str(name)), fraction) for name in distinct]
    return np.array(drawn, bool)[group]


def latest(length: int, fraction: float) -> int:
    """Returns the index `cut` of a sequence in time: `[:cut]` trains, `[cut:]` tests.

    As in LEAF (Caldas et al. 2018, arXiv 1812.01097), the later part is the test split,
    so that no client is tested on its past. The cut depends on the length: an added or
    removed element can move another element across the cut.

    Raises:
      ValueError: the fraction is outside [0, 1).
    """
    check_fraction("test_fraction", fraction)
    return length - round(fraction * length)
