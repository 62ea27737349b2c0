"""Converts TFF's `ClientData` to client data of this package.

This module only calls methods of its arguments. So, like the rest of the package, it
imports neither TFF nor TensorFlow.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfl_research.data.arrays import structures
from tfl_research.data.client_data import ClientData, specs_of
from tfl_research.data.cohort import Examples

# Examples read at once from a tf.data dataset.
_BLOCK = 512
# Clients whose examples stay in memory: opening a client's dataset takes milliseconds,
# and training and evaluation load the same clients again and again.
_CACHED_CLIENTS = 256


def from_tff(
    client_data: Any,
    convert: Callable[[Mapping[str, np.ndarray]], Examples],
    *,
    maximum_examples: int | None = None,
) -> ClientData:
    """Adapts a `tff.simulation.datasets.ClientData` of flat elements.

    Args:
      client_data: elements are mappings from names to tensors of fixed shape.
      convert: (`{name: [n, ...]}`) -> `{"x": [n, ...], "y": [n, ...]}`, by flat names;
        must accept n = 0. Text arrives as bytes in an object array.
      maximum_examples: reads at most this many examples of each client, from the first
        on.

    Returns:
      The same clients in the same order. A client's examples are read on demand, and
      the examples of a few hundred clients stay in memory.
    """
    empty = {
        name: structures.blank((0, *spec.shape.as_list()), spec.dtype.as_numpy_dtype)
        for name, spec in client_data.element_type_structure.items()
    }

    @functools.lru_cache(maxsize=_CACHED_CLIENTS)
    def load(client_id: str) -> Examples:
        dataset = client_data.create_tf_dataset_for_client(client_id)
        if maximum_examples is not None:
            dataset = dataset.take(maximum_examples)
        blocks = [empty, *dataset.batch(_BLOCK).as_numpy_iterator()]
        return convert(
            {name: np.concatenate([block[name] for block in blocks]) for name in empty}
        )

    return ClientData(tuple(client_data.client_ids), load, specs_of(convert(empty)))


def union(parts: Sequence[ClientData], client_ids: Sequence[str]) -> ClientData:
    """Joins the examples of each client in all parts, one part after another.

    Args:
      parts: client data of the same specs; a part may lack a client.
      client_ids: the clients of the result; a client in no part has no examples.

    Raises:
      ValueError: there are no parts, or the parts disagree in their specs.
    """
    if not parts or any(part.specs != parts[0].specs for part in parts):
        raise ValueError(
            f"expected parts of the same specs, got {[part.specs for part in parts]}"
        )
    specs = parts[0].specs
    part_ids = [frozenset(part.client_ids) for part in parts]

    def load(client_id: str) -> Examples:
        pieces = [
            p.load(client_id) for p, ids in zip(parts, part_ids) if client_id in ids
        ]
        return {
            name: np.concatenate(
                [structures.blank((0, *spec.shape), spec.dtype)]
                + [e[name] for e in pieces]
            )
            for name, spec in specs.items()
        }

    return ClientData(tuple(client_ids), load, specs)


def renamed(data: ClientData, prefix: str) -> ClientData:
    """Returns the same clients under ids with a prefix."""
    original = {f"{prefix}{client_id}": client_id for client_id in data.client_ids}
    return ClientData(
        tuple(original), lambda i: data.load(original[i]), data.specs, data.batching
    )
