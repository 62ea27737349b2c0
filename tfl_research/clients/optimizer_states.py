"""States of optimizers of `tff.learning`, with a round's learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.models.functional_model import FunctionalModel
from tfl_research.runtime.graphs.constants import argument


def initial_optimizer_state(
    optimizer: tff.learning.optimizers.Optimizer,
    model: FunctionalModel,
    learning_rate_schedule: Optional[Callable[[tf.Tensor], tf.Tensor]],
    round_number: tf.Tensor,
) -> Any:
    """Creates an optimizer state, with the learning rate of a schedule if given."""
    state = optimizer.initialize(model.weight_specs)
    if learning_rate_schedule is None:
        hparams = optimizer.get_hparams(state)
        key = tff.learning.optimizers.LEARNING_RATE_KEY
        if key in hparams:
            hparams[key] = as_argument(hparams[key])
            state = optimizer.set_hparams(state, hparams)
    state = at_scheduled_rate(optimizer, state, learning_rate_schedule, round_number)
    return tf.nest.map_structure(tf.convert_to_tensor, state)


def as_argument(rate: Any) -> Any:
    """Makes a learning rate an argument of programs, which the points of a sweep share.

    Args:
      rate: a Python number; other values are returned unchanged.
    """
    return argument(rate) if type(rate) is float else rate


def at_scheduled_rate(
    optimizer: tff.learning.optimizers.Optimizer,
    state: Any,
    learning_rate_schedule: Optional[Callable[[tf.Tensor], tf.Tensor]],
    round_number: tf.Tensor,
) -> Any:
    """Sets a round's learning rate in an optimizer state, if there is a schedule."""
    if learning_rate_schedule is None:
        return state
    hparams = optimizer.get_hparams(state)
    key = tff.learning.optimizers.LEARNING_RATE_KEY
    hparams[key] = learning_rate_schedule(round_number)
    return optimizer.set_hparams(state, hparams)
