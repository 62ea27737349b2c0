"""Local steps of a client's examples: minibatches, epochs, shuffles."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Batching:
    """The division of a client's examples into local steps.

    Each local epoch visits every example once, in minibatches of `batch_size`;
    the last minibatch of an epoch may be smaller (McMahan et al. 2017,
    arXiv 1602.05629, Algorithm 1, ClientUpdate).

    Attributes:
      batch_size: examples in a full minibatch (B in the paper), at least 1.
      epochs: local epochs (E in the paper), at least 1; ignored when `steps`
        is given.
      steps: a fixed number of local steps instead of epochs.
      max_examples: at most this many examples of a client are used in a round: with
        `shuffle` a new random subset in each round, else the first examples.
      shuffle: whether each epoch visits the examples in a new order.

    Raises:
      ValueError: a number is below 1.
    """

    batch_size: int = 20
    epochs: int = 1
    steps: int | None = None
    max_examples: int | None = None
    shuffle: bool = True

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "steps", "max_examples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


# One epoch of shuffled minibatches of 20 examples.
ONE_EPOCH = Batching()


def derived_generator(*parts: Any) -> np.random.Generator:
    """Makes a NumPy generator that is a pure function of `parts` (ints or strings).

    Equal parts give equal streams on every machine; different parts give independent
    streams (the key is the SHA-256 of the parts).
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return np.random.Generator(
        np.random.Philox(key=np.frombuffer(digest[:16], dtype=np.uint64))
    )


def step_order(
    num_examples: int, batching: Batching, generator: np.random.Generator
) -> np.ndarray:
    """Draws example indices of local steps, int64 `[steps, batch]`, -1 = padding."""
    if num_examples == 0:
        return np.zeros((0, batching.batch_size), np.int64)
    pool = np.arange(num_examples)
    if batching.max_examples is not None and num_examples > batching.max_examples:
        if batching.shuffle:
            pool = generator.permutation(num_examples)
        pool = pool[: batching.max_examples]
    steps_per_epoch = -(-len(pool) // batching.batch_size)
    steps = batching.steps or batching.epochs * steps_per_epoch
    epochs = -(-steps // steps_per_epoch)
    order = np.full((epochs, steps_per_epoch * batching.batch_size), -1, np.int64)
    for epoch in range(epochs):
        visit = generator.permutation(pool) if batching.shuffle else pool
        order[epoch, : len(pool)] = visit
    return order.reshape(-1, batching.batch_size)[:steps]
