"""What a contender gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Optional

import numpy as np


class Running(NamedTuple):
    """A contender that is ready to run.

    Attributes:
      run: runs the round of a number.
      weights: the global model's trainable weights; None where nobody asks.
    """

    run: Callable[[int], None]
    weights: Optional[Callable[[], list[np.ndarray]]] = None
