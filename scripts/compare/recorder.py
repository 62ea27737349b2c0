"""What a program tells the driver: that a round is done, and the model after it.

Needs NumPy alone. A round is a line of rounds.jsonl with the times at which the program
came here and at which it went on, so that what is done here counts for no round. The
model is kept before the line is written.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from compare import federated_task

LINES = "rounds.jsonl"
# Names the round after which the program waits here for `kill -9`.
WAIT = "COMPARE_WAIT_AFTER"
_WITHOUT_END = 3600.0


def ordered(arrays: Sequence[Any]) -> list[np.ndarray]:
    """Kernels as `[inputs, outputs]`, whichever way round a framework keeps them."""
    weights = [np.asarray(array, np.float32) for array in arrays]
    if weights[0].shape == (federated_task.HIDDEN, federated_task.PIXELS):
        weights = [array.T if array.ndim == 2 else array for array in weights]
    return weights


def round_done(number: int, arrays: Sequence[Any]) -> None:
    """Says that a round is done.

    Args:
      number: of the round, from 1.
      arrays: the global model after it: kernel, bias, kernel, bias.
    """
    came = time.time()
    folder = federated_task.output()
    named = {f"{index}": array for index, array in enumerate(ordered(arrays))}
    part = folder / f".model.{os.getpid()}.npz"
    np.savez(part, **named)
    part.replace(folder / f"model{number}.npz")
    line = {"round": number, "came": came, "went": time.time()}
    with (folder / LINES).open("a") as file:
        file.write(json.dumps(line) + "\n")
    if os.environ.get(WAIT) == str(number):
        time.sleep(_WITHOUT_END)
