"""Splits client data into training, test and held-out clients; pools client data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np

from tfl_research.data import hold_out
from tfl_research.data.arrays import structures
from tfl_research.data.batching import ONE_EPOCH
from tfl_research.data.client_data import AnyBatching, ClientData
from tfl_research.data.cohort import Examples

# Number of clients whose rows stay in memory: training loads the same clients again and
# again, and hashing takes longer than loading.
_CACHED_CLIENTS = 10_000


def contents_of(examples: Examples) -> list[bytes]:
    """Returns the content of each example of a client, with weights, as bytes."""
    names = structures.ordered(examples)
    return hold_out.array_contents([examples[name] for name in names])


def split_each_client(
    data: ClientData,
    *,
    test_fraction: float,
    seed: int,
    unchanged: Optional[ClientData] = None,
) -> tuple[ClientData, ClientData]:
    """Splits every client's examples in two, when they are loaded.

    An added or removed example does not move other examples, see `hold_out.examples`.

    Args:
      data: the clients.
      test_fraction: the share of each client's test examples, in [0, 1).
      seed: the seed of the splits.
      unchanged: the clients before a skew changed their examples, in the same order.
        The unchanged examples then decide the split, so that the skew does not move
        examples.

    Returns:
      (train, test), both of the same clients; either split of a small client may be
      empty.

    Raises:
      ValueError: `test_fraction` is not in [0, 1).
    """
    hold_out.check_fraction("test_fraction", test_fraction)
    deciding = data if unchanged is None else unchanged

    @functools.lru_cache(maxsize=_CACHED_CLIENTS)
    def rows(client_id: str) -> tuple[np.ndarray, np.ndarray]:
        decides = deciding.load(client_id)
        contents = contents_of(decides)
        return hold_out.examples(
            contents, test_fraction, seed=seed, client_id=client_id
        )

    def part(client_id: str, index: int) -> Examples:
        mine, examples = rows(client_id)[index], data.load(client_id)
        return {name: examples[name][mine] for name in data.specs}

    def split(index: int) -> ClientData:
        return dataclasses.replace(
            data, load=lambda client_id: part(client_id, index), holders=None
        )

    return split(0), split(1)


def split_arrays(
    clients: Mapping[str, Examples],
    *,
    held_out: Sequence[str] = (),
    test_fraction: float,
    seed: int,
    batching: AnyBatching = ONE_EPOCH,
    contents: Optional[Mapping[str, Sequence[bytes]]] = None,
) -> tuple[ClientData, ClientData, Optional[ClientData]]:
    """Training, test and held-out clients of arrays, split at once.

    Args:
      clients: `{client id: {"x": [n, ...], "y": [n, ...]}}`, by flat names.
      held_out: ids of the held-out clients; may be empty.
      test_fraction: the share of each training client's examples, in [0, 1); see
        `hold_out.examples`.
      seed: the seed of the splits.
      batching: the batching of the training data.
      contents: the content of each client's examples, if their arrays depend on other
        examples; by default `contents_of`.

    Returns:
      The training splits, the test splits of the same clients, and the held-out
      clients with all their examples (None when none are held out).

    Raises:
      ValueError: a held-out id is unknown, all clients are held out, or the
        fraction is outside [0, 1).
    """
    unknown = [c for c in held_out if c not in clients]
    if unknown:
        raise ValueError(
            f"cannot hold out {unknown[0]!r}; the clients are {', '.join(clients)}"
        )
    train: dict[str, Examples] = {}
    test: dict[str, Examples] = {}
    for name, examples in clients.items():
        if name in held_out:
            continue
        parts = hold_out.examples(
            contents_of(examples) if contents is None else contents[name],
            test_fraction,
            seed=seed,
            client_id=name,
        )
        for split, rows in zip((train, test), parts):
            split[name] = {key: array[rows] for key, array in examples.items()}
    if not train:
        raise ValueError(
            f"all {len(clients)} clients are held out, so that none is left to train "
            "on; hold out fewer clients"
        )
    return (
        ClientData.from_arrays(train, batching),
        ClientData.from_arrays(test),
        ClientData.from_arrays({name: clients[name] for name in held_out})
        if held_out
        else None,
    )


# Id of the only client of pooled data.
POOLED = "pooled"


def pooled(data: ClientData) -> ClientData:
    """Returns a single client that holds the examples of all clients, in order."""

    @functools.cache
    def all_examples() -> Examples:
        parts = [data.load(client_id) for client_id in data.client_ids]
        return {n: np.concatenate([e[n] for e in parts]) for n in data.specs}

    return dataclasses.replace(
        data,
        client_ids=(POOLED,),
        load=lambda _: all_examples(),
        roles=None,
        holders=None,
    )
