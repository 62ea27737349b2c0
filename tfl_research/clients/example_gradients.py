"""Gradients of a few examples: one gradient for each example, or their sum."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfl_research import stateless_random
from tfl_research.clients.client_work import masked_sum
from tfl_research.models.functional_model import FunctionalModel
from tfl_research.tasks.objectives import Objective

Sums = collections.OrderedDict[str, tf.Tensor]


def example_gradients(
    model: FunctionalModel,
    objective: Objective,
    weights: Sequence[tf.Tensor],
    batch: Mapping[str, tf.Tensor],
    seed: tf.Tensor,
) -> tuple[list[tf.Tensor], Sums]:
    """Computes the gradient of each example, vectorised over a row of examples.

    Args:
      model: pure function of the weights.
      objective: the objective whose example losses are differentiated.
      weights: the weights at which the gradients are computed.
      batch: x and y `[batch, ...]`, mask bool `[batch]`.
      seed: int32 `[2]`, seed of dropout; examples draw independently.

    Returns:
      Gradients `[batch, ...]` for each weight (undefined for masked examples), and the
      objective's sums over the examples.
    """

    def example_gradient(example: Mapping[str, tf.Tensor]) -> Any:
        x, y = example["x"][tf.newaxis], example["y"][tf.newaxis]
        own = seed
        if model.is_random:
            own = stateless_random.fold_in(seed, example["index"])
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits = model.forward(weights, x, True, own)
            loss = objective.example_losses(y, logits)[0]
        gradient = tape.gradient(
            loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        gradient = [tf.convert_to_tensor(g) for g in gradient]
        sums = objective.example_sums(y, logits)
        return gradient, tf.nest.map_structure(lambda s: s[0], sums)

    examples = {"x": batch["x"], "y": batch["y"]}
    examples["index"] = tf.range(batch["mask"].shape[0])
    gradients, sums = tf.vectorized_map(example_gradient, examples)
    return gradients, tf.nest.map_structure(
        lambda s: masked_sum(s, batch["mask"]), sums
    )


def summed_gradient(
    model: FunctionalModel,
    objective: Objective,
    weights: Sequence[tf.Tensor],
    batch: Mapping[str, tf.Tensor],
    seed: tf.Tensor,
) -> tuple[list[tf.Tensor], Sums]:
    """Computes the sum of a row's gradients, at the cost of an ordinary gradient.

    The arguments are as in `example_gradients`. The gradient has the weights' shapes.
    """
    with tf.GradientTape() as tape:
        tape.watch(weights)
        logits = model.forward(weights, batch["x"], True, seed)
        losses = objective.example_losses(batch["y"], logits)
        loss = masked_sum(losses, batch["mask"])
    gradient = tape.gradient(
        loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    sums = objective.example_sums(batch["y"], logits)
    return [tf.convert_to_tensor(g) for g in gradient], tf.nest.map_structure(
        lambda s: masked_sum(s, batch["mask"]), sums
    )
