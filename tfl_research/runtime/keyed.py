"""An engine that gives the noise its secret key in each round."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import tensorflow as tf

from tfl_research.runtime.engine import ClientValues, ClosedOnExit, Engine
from tfl_research.storage import nest


class KeyedEngine(ClosedOnExit):
    """Executes a process that was built with a public seed, with noise of a secret key.

    Mechanisms keep the seed of their noise in the state. For each round, this engine
    replaces the public seed by the key, and afterwards the key by the public seed. So
    the digest of the process depends on no secret, and its states, which checkpoints
    keep, contain no secret.

    Args:
      engine: the engine of a process that was built with the public seed.
      public: the public seed as int64 `[2]`; leaves of the state that are equal to
        this are the seeds of noise.
      key: the secret key as int64 `[2]`.
    """

    def __init__(self, engine: Engine, public: Any, key: Any):
        self._engine = engine
        self._public = np.asarray(public, np.int64)
        self._key = np.asarray(key, np.int64)
        # Made once: TensorFlow does not free all of a tensor.
        self._tensors = tf.constant(self._public), tf.constant(self._key)
        # Where the state has seeds; the same in each round.
        self._paths: Optional[frozenset[str]] = None

    def initialize(self) -> Any:
        """Returns the initial server state, which has the public seed, not the key.

        Raises:
          ValueError: the state has no seed of noise.
        """
        state = self._engine.initialize()
        self._paths = self._seeds_of(state)
        return state

    def _seeds_of(self, state: Any) -> frozenset[str]:
        """Returns the paths of the seeds; raises ValueError if there is no seed."""
        found = frozenset(
            path for path, leaf in nest.flatten(state) if _is(leaf, self._public)
        )
        if not found:
            raise ValueError(
                "the state of the process has no seed of noise; keep the noise seed "
                "in the state, as the toolkit's mechanisms do"
            )
        return found

    def next(self, state: Any, cohort: ClientValues) -> tuple[Any, Any]:
        """Executes a round with noise of the secret key.

        Args:
          state: the server state, with the public seed.
          cohort: the clients' values.

        Returns:
          The server state after the round, with the public seed, and the round's
          metrics.

        Raises:
          ValueError: the state has no seed of noise.
        """
        if self._paths is None:
            self._paths = self._seeds_of(state)
        public, key = self._tensors
        new, metrics = self._engine.next(nest.put(state, self._paths, key), cohort)
        return nest.put(new, self._paths, public), metrics

    def close(self) -> None:
        self._engine.close()


def replaced(state: Any, old: np.ndarray, new: np.ndarray) -> Any:
    """Returns the state with the seed `new` in the place of every seed `old`."""

    def one(_: str, leaf: Any) -> Any:
        if not _is(leaf, old):
            return leaf
        return tf.constant(new) if tf.is_tensor(leaf) else new.copy()

    return nest.map_with_path(one, state)


def holds(state: Any, seed: np.ndarray) -> bool:
    """Whether some leaf of a state is the seed."""
    return any(_is(leaf, seed) for _, leaf in nest.flatten(state))


def _is(leaf: Any, seed: np.ndarray) -> bool:
    if tuple(np.shape(leaf)) != (2,):
        return False
    array = np.asarray(leaf)
    return array.dtype == np.int64 and bool((array == seed).all())
