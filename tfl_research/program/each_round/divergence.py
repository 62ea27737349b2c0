"""Decides whether a run has diverged, by its model and the losses that it releases.

A private run decides by its releases only, including its noised model. So the decision
is a function of values that ε already covers, or that the user chose to release.
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
# The largest loss, as a multiple of max(1, loss of the untrained model).
LARGEST_LOSS = 1e6
_LOSSES = ("train_loss", "eval_loss", "held_out_loss")
_ADVICE = (
    "lower the client or server learning rate, or clip gradients or updates, in "
    "another --output_dir"
)


def check_weights(
    round_number: int, weights: Any, last_good: str, own_parts: str = ""
) -> None:
    """Checks that a model's weights are finite, and not too large to compute with.

    Args:
      round_number: the number of the round that gave the model.
      weights: the weights of the model.
      last_good: a text that says where a model is that has not diverged.
      own_parts: words for a user's own parts that got only finite updates, or "".

    Raises:
      TrainingDivergedError: weights are not finite or too large; the message names
        the weights.
    """
    path = nest.first_beyond(weights, LARGEST_WEIGHT)
    if path is None:
        return
    finite = nest.first_non_finite(weights) is None
    why = f"larger than {LARGEST_WEIGHT:.2g}" if finite else "not finite"
    advice = _ADVICE
    if own_parts and not finite:
        advice = (
            "clients whose update is not finite were left out, so first check what "
            f"{own_parts} returned; otherwise {_ADVICE}"
        )
    raise TrainingDivergedError(
        f"round {round_number}: the aggregated model is {why} (weights{path}); "
        f"{last_good}; {advice}"
    )


def check_losses(
    round_number: int,
    row: Mapping[str, Any],
    untrained: Mapping[str, float],
    last_good: str,
) -> None:
    """Checks that no loss is a million times the untrained model's loss.

    Losses that bad data can explain are not judged: an infinite training loss, or the
    training loss of a round that excluded clients, since one client is enough for
    that; and a loss that was not finite before training.

    Args:
      round_number: the number of the round.
      row: released cells of the round's row of metrics.csv.
      untrained: the known metrics of the untrained model, by column.
      last_good: see `check_weights`.

    Raises:
      TrainingDivergedError: a loss is too large; the message names the loss.
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
