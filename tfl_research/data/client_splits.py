"""Random splits of whole client data: examples within clients, and clients."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from tfl_research.data.batching import derived_generator
from tfl_research.data.client_data import ClientData
from tfl_research.data.cohort import Examples
from tfl_research.data.splits import check_fraction


def train_test_indices(
    num_examples: int, test_fraction: float, *, seed: int, client_id: str
) -> tuple[np.ndarray, np.ndarray]:
    """A random split of one client's examples, whatever their labels.

    Args:
      num_examples: how many the client holds; may be 0.
      test_fraction: share of them in the test split, rounded half up; at least
        one example stays in training.
      seed: of the draw.
      client_id: whose examples they are, so that clients draw independently.

    Returns:
      Ascending int64 index arrays (train, test), disjoint and complete.

    Raises:
      ValueError: `test_fraction` is not in [0, 1).
    """
    check_fraction("test_fraction", test_fraction)
    num_test = int(np.floor(test_fraction * num_examples + 0.5))
    num_test = max(0, min(num_test, num_examples - 1))
    generator = derived_generator("train_test_split", seed, client_id)
    order = generator.permutation(num_examples)
    return np.sort(order[num_test:]), np.sort(order[:num_test])


def split_each_client(
    data: ClientData, *, test_fraction: float, seed: int
) -> tuple[ClientData, ClientData]:
    """Splits every client's examples in two, when they are loaded.

    A client's split is a pure function of (seed, client id, its example count).

    Returns:
      (train, test), both of the same clients; a small client's test split may be
      empty.

    Raises:
      ValueError: `test_fraction` is not in [0, 1).
    """
    check_fraction("test_fraction", test_fraction)

    def part(client_id: str, which: int) -> Examples:
        examples = data.load(client_id)
        chosen = train_test_indices(
            len(examples["y"]), test_fraction, seed=seed, client_id=client_id
        )[which]
        return {name: examples[name][chosen] for name in ("x", "y")}

    def side(which: int) -> ClientData:
        return dataclasses.replace(data, load=lambda client_id: part(client_id, which))

    return side(0), side(1)


def hold_out(
    client_ids: Sequence[str], num_held_out: int, *, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sets a number of clients aside that are never trained on.

    Returns:
      (training ids, held-out ids), each in the given order; a pure function of
      the arguments.

    Raises:
      ValueError: `num_held_out` is negative or leaves no client to train on.
    """
    if not 0 <= num_held_out < max(1, len(client_ids)):
        raise ValueError(
            f"held-out clients must number from 0 to {len(client_ids) - 1} of "
            f"{len(client_ids)} clients, got {num_held_out}"
        )
    order = derived_generator("held_out", seed).permutation(len(client_ids))
    chosen = set(order[:num_held_out].tolist())
    return (
        tuple(c for i, c in enumerate(client_ids) if i not in chosen),
        tuple(c for i, c in enumerate(client_ids) if i in chosen),
    )


# Id of the only client of pooled data.
POOLED = "pooled"


def pooled(data: ClientData) -> ClientData:
    """One client that holds everybody's examples, in the clients' order."""

    @functools.cache
    def everything() -> Examples:
        held = [data.load(client_id) for client_id in data.client_ids]
        return {n: np.concatenate([e[n] for e in held]) for n in data.specs}

    return dataclasses.replace(
        data, client_ids=(POOLED,), load=lambda _: everything(), roles=None
    )
