"""The evaluated examples of all clients, one after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import numpy as np

from tfl_research.data import ClientData, Examples, derived_generator
from tfl_research.data.arrays import structures


class FlatExamples:
    """The evaluated examples of all clients, one after another.

    Attributes:
      arrays: flat arrays by name (`data.arrays.structures`), `[examples, ...]` each,
        in the order of the clients.
      counts: int64 `[clients]`, number of examples.

    Args:
      clients: the clients.
      max_examples: largest number of examples, drawn at random; None for all.
      seed: the seed of the draw.
      check: a function that is called with each client's id and examples.
    """

    def __init__(
        self,
        clients: ClientData,
        max_examples: Optional[int],
        seed: int,
        check: Callable[[str, Examples], None],
    ):
        chosen: Optional[np.ndarray] = None
        if max_examples is not None:
            sizes = np.array([clients.num_examples(c) for c in clients.client_ids])
            if sizes.sum() > max_examples:
                generator = derived_generator("evaluation", seed)
                chosen = np.sort(
                    generator.choice(sizes.sum(), max_examples, replace=False)
                )
        names = [name for name in clients.specs if structures.is_example_array(name)]
        parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
        counts = []
        start = 0
        for client_id, examples in clients.items():
            check(client_id, examples)
            size = len(examples[names[0]])
            rows: Any = slice(None)
            if chosen is not None:
                first, last = np.searchsorted(chosen, [start, start + size])
                rows = chosen[first:last] - start
            for name in names:
                parts[name].append(examples[name][rows])
            counts.append(len(parts[names[0]][-1]))
            start += size
        self.arrays = {name: np.concatenate(held) for name, held in parts.items()}
        self.counts = np.array(counts, np.int64)

    def padded_batch(self, start: int, real: int, size: int) -> dict[str, np.ndarray]:
        """Returns `real` examples from `start` on, with rows of zeros up to `size`."""
        batch = {}
        for name, array in self.arrays.items():
            # Text is padded with empty texts, numbers with zeros.
            batch[name] = structures.blank((size, *array.shape[1:]), array.dtype)
            batch[name][:real] = array[start : start + real]
        return batch
