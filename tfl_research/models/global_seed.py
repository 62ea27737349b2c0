"""Sets TensorFlow's global seed when a model is built, or later if this saves time.

After the seed is set, TensorFlow prepares each function again before executing it,
which takes 0.1 CPU seconds or more. While only the toolkit's own code runs, the seed
has no effect: models are built from their own seeds, and all other random numbers are
functions of integers. So if a model is reused from an earlier point of a sweep, the
seed is set later.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Optional

import numpy as np

# Whether only the toolkit's own code runs, and the seed that is still to be set.
_runs_alone = False
_left: Optional[int] = None


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Sets the seeds of TensorFlow, Python and NumPy.

    At the end of the block, Python's and NumPy's generators are as they were before.
    TensorFlow keeps the new seed, since it cannot restore an earlier one.
    """
    import tensorflow as tf

    global _left
    with _restored():
        _left = None
        tf.keras.utils.set_random_seed(seed)
        yield


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """Restores Python's and NumPy's generators at the end of the block."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextlib.contextmanager
def left(seed: int) -> Iterator[None]:
    """Leaves the same seeds behind as `seeded`, for a model whose weights nobody uses.

    Inside the block, the seeds may have any value.
    """
    if not _runs_alone:
        with seeded(seed):
            yield
        return
    with _restored():
        yield
    leave(seed)


@contextlib.contextmanager
def own_code_alone() -> Iterator[None]:
    """Declares that only the toolkit's own code runs inside the block.

    After the block, no other code may run before `settle` is called.
    """
    global _runs_alone
    _runs_alone = True
    try:
        yield
    finally:
        _runs_alone = False


def leave(seed: int) -> None:
    """Sets the seed that building a model would leave; later if only own code runs."""
    global _left
    _left = seed
    if not _runs_alone:
        settle()


def settle() -> None:
    """Sets the seed that `leave` has postponed; call this before other code runs."""
    if _left is not None:
        with seeded(_left):
            pass
