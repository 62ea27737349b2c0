"""Draws of held-out clients, which are never trained on, and of test examples.

All draws work alike: candidates are put in a random order, and the first candidates
are held out. The order depends on a seed and on the purpose of the draw. Every function
is pure: equal arguments give equal splits on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from tfl_research.data.batching import derived_generator


def check_fraction(name: str, fraction: float) -> None:
    """Raises ValueError unless the fraction is in [0, 1)."""
    if not 0.0 <= fraction < 1.0:
        raise ValueError(f"{name} must be at least 0 and below 1, got {fraction}")


def _draw(size: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """Indices of `count` of `size` candidates, in random order."""
    return generator.permutation(size)[:count]


def _nearest_count(total: int, fraction: float) -> int:
    """The number of held-out clients for a fraction of `total` clients."""
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

    The draw depends on the set of ids, the number and the seed, but not on the order of
    the ids.

    Args:
      client_ids: all clients; both parts keep their order.
      seed: of the draw.
      count: number of clients to hold out.
      fraction: share of the clients to hold out, instead of `count`; rounded to the
        nearest number of clients. A fraction above 0 holds out at least one client and
        leaves at least one training client.

    Returns:
      The training clients and the held-out clients.

    Raises:
      ValueError: neither or both of `count` and `fraction`; a count that is negative
        or leaves no training client; a fraction outside [0, 1), or above 0 with fewer
        than two clients.
    """
    total = len(client_ids)
    if count is None and fraction is not None:
        count = _nearest_count(total, fraction)
    elif count is None or fraction is not None:
        raise ValueError(
            f"give either count or fraction, got count={count} and fraction={fraction}"
        )
    if not 0 <= count < max(1, total):
        raise ValueError(
            f"held-out clients must number from 0 to {total - 1} of {total} clients, "
            f"got {count}"
        )
    ranked = sorted(client_ids)
    order = _draw(total, count, derived_generator("held_out", seed))
    held_out = {ranked[i] for i in order}
    return (
        tuple(c for c in client_ids if c not in held_out),
        tuple(c for c in client_ids if c in held_out),
    )


def examples(
    num_examples: int,
    fraction: float,
    *,
    seed: int,
    client_id: str,
    labels: Optional[np.ndarray] = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Splits one client's examples at random into training and test examples.

    Clients draw independently. At least one example stays in training, and with
    `labels` at least one example of each class.

    Args:
      num_examples: number of examples that the client holds; may be 0.
      fraction: of the examples to test on, in [0, 1), rounded to the nearest number
        of examples. A half is rounded up; with `labels`, to the even number.
      seed: of the draw.
      client_id: the client that holds the examples.
      labels: classes, integers `[num_examples]`. If given, the fraction applies to
        each class separately, so that the split keeps the client's class balance.

    Returns:
      Ascending int64 indices of the training and of the test examples, disjoint and
      complete.

    Raises:
      ValueError: the fraction is outside [0, 1), or there is not one label for each
        example.
    """
    check_fraction("test_fraction", fraction)
    is_test = np.zeros(num_examples, bool)
    if labels is None:
        count = int(np.floor(fraction * num_examples + 0.5))
        count = max(0, min(count, num_examples - 1))
        generator = derived_generator("train_test_split", seed, client_id)
        is_test[_draw(num_examples, count, generator)] = True
    else:
        if len(labels) != num_examples:
            raise ValueError(
                f"client {client_id!r} has {num_examples} examples, but "
                f"{len(labels)} labels"
            )
        generator = derived_generator("split", seed, client_id)
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            count = min(round(fraction * len(members)), len(members) - 1)
            is_test[members[_draw(len(members), count, generator)]] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def groups(
    group_of: np.ndarray, fraction: float, *, seed: int, purpose: Any
) -> np.ndarray:
    """Draws groups of examples for testing, such as all flights of a day.

    Args:
      group_of: the group of each example, `[n]`, of any comparable type.
      fraction: of the groups to test on, in [0, 1), rounded to the nearest number of
        groups.
      seed: of the draw.
      purpose: tells independent draws of one seed apart.

    Returns:
      Whether each example belongs to a drawn group, bool `[n]`.

    Raises:
      ValueError: the fraction is outside [0, 1).
    """
    check_fraction("test_fraction", fraction)
    distinct = np.unique(group_of)
    count = round(fraction * len(distinct))
    test_groups = _draw(len(distinct), count, derived_generator(purpose, seed))
    return np.isin(group_of, distinct[test_groups])


def latest(length: int, fraction: float) -> int:
    """The index at which a sequence in time is cut: `[:cut]` trains, `[cut:]` tests.

    As in LEAF (Caldas et al. 2018, arXiv 1812.01097), the later part is the test split,
    so that no client is tested on its past.

    Raises:
      ValueError: the fraction is outside [0, 1).
    """
    check_fraction("test_fraction", fraction)
    return length - round(fraction * length)
