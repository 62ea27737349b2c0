"""When a run counts as diverged: by its model, and by the losses that it releases.

A private run decides by what it releases, including its noised model. So the decision
is a function of what ε covers already, or of what the user chose to release.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfl_research.errors import TrainingDivergedError
from tfl_research.storage import nest

# The square of a larger weight is infinite in float32, and so is the model's norm.
LARGEST_WEIGHT = math.sqrt(float(np.finfo(np.float32).max))
# Times the loss of the untrained model, or 1 if that is larger.
LARGEST_LOSS = 1e6
_LOSSES = ("train_loss", "eval_loss", "held_out_loss")
_ADVICE = (
    "lower the client or server learning rate, or clip gradients or updates, in "
    "another --output_dir"
)


def check_weights(round_number: int, weights: Any, last_good: str) -> None:
    """Refuses a model with weights that are not finite, or too large to compute with.

    Args:
      round_number: the number of the round that gave the model.
      weights: the weights of the model.
      last_good: says where a model is that has not diverged.

    Raises:
      TrainingDivergedError: names the weights.
    """
    path = nest.first_beyond(weights, LARGEST_WEIGHT)
    if path is None:
        return
    finite = nest.first_non_finite(weights) is None
    why = f"larger than {LARGEST_WEIGHT:.2g}" if finite else "not finite"
    raise TrainingDivergedError(
        f"round {round_number}: the aggregated model is {why} (weights{path}); "
        f"{last_good}; {_ADVICE}"
    )


def check_losses(
    round_number: int,
    row: Mapping[str, Any],
    untrained: Mapping[str, float],
    last_good: str,
) -> None:
    """Refuses a round with a loss that is a million times the untrained model's loss.

    Losses that are of the data are not judged: the loss of training if it is infinite,
    or if the round excluded clients, since one client is enough for that; and a loss
    that was not finite before training.

    Args:
      round_number: the number of the round.
      row: cells that are released.
      untrained: metrics of the untrained model, as far as they are known.
      last_good: see `check_weights`.

    Raises:
      TrainingDivergedError: names the loss.
    """
    known = [abs(untrained[name]) for name in _LOSSES if name in untrained]
    usual = max([1.0, *(loss for loss in known if math.isfinite(loss))])
    for name in _LOSSES:
        loss = row.get(name)
        of_clients = row.get("excluded_clients") or loss == math.inf
        if name == "train_loss" and of_clients:
            continue
        if not math.isfinite(untrained.get(name, 0.0)):
            continue
        if loss is not None and loss > LARGEST_LOSS * usual:
            raise TrainingDivergedError(
                f"round {round_number}: {name} is {loss:.3g}, more than "
                f"{LARGEST_LOSS:.0e} times the untrained model's; {last_good}; "
                f"{_ADVICE}"
            )
