"""Gradients of a few examples: one gradient for each example, or their sum."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfl_research import stateless_random
from tfl_research.clients import loss_scale
from tfl_research.clients.client_work import (
    for_training,
    masked_sum,
    masked_sums,
    model_state_of,
    without_failures_of_padding,
)
from tfl_research.clients.record_privacy import outer_products
from tfl_research.data.arrays import structures
from tfl_research.models.execution import inlining
from tfl_research.models.functional_model import FunctionalModel
from tfl_research.tasks.objectives import Objective

Sums = collections.OrderedDict[str, tf.Tensor]


def example_gradients(
    model: FunctionalModel,
    objective: Objective,
    weights: Sequence[tf.Tensor],
    batch: Mapping[str, Any],
    seed: tf.Tensor,
    *,
    factored: bool = False,
) -> tuple[list[outer_products.Gradient], Sums]:
    """Computes the gradient of each example, vectorised over a row of examples.

    Args:
      model: pure function of the weights.
      objective: the objective. Each example's loss plus the model's penalty is
        differentiated.
      weights: the weights at which the gradients are computed.
      batch: x and y `[batch, ...]`, mask bool `[batch]`, and the model_state of models
        with non-trainable weights.
      seed: int32 `[2]`, seed of dropout; examples draw independently.
      factored: True keeps the gradients of dense layers as two vectors an example
        (`outer_products.OuterProducts`); False makes a matrix an example.

    Returns:
      Gradients `[batch, ...]` for each weight (undefined for masked examples), and the
      objective's sums over the examples.
    """

    state = model_state_of(model, batch)
    in_graph = None
    if factored and not model.scales_loss:
        in_graph = inlining.in_graph(model.forward)

    def with_tape(single: Any, seed: tf.Tensor) -> tuple[Any, list[tf.Tensor]]:
        with loss_scale.tape_of(model) as tape:
            tape.watch(weights)
            x = structures.packed(single, "x")
            forward = model.forward(weights, state, x, True, seed)
            loss = _loss(single, forward)
        return forward, loss_scale.gradient(tape, [(loss, None)], weights, model)

    def with_operations(
        operations: Callable[..., Any], single: Any, seed: tf.Tensor
    ) -> tuple[Any, list[tf.Tensor]]:
        # Tensors of this graph, which `tf.gradients` differentiates.
        own = [tf.identity(w) for w in weights]
        forward = operations(own, state, structures.packed(single, "x"), seed)
        gradient = tf.gradients(
            _loss(single, forward),
            own,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return forward, [tf.convert_to_tensor(g) for g in gradient]

    def _loss(single: Any, forward: Any) -> tf.Tensor:
        loss = objective.losses(single, forward.predictions)[0]
        return loss + forward.penalty if model.has_penalty else loss

    def example_gradient(example: Mapping[str, tf.Tensor]) -> Any:
        index = example["index"]
        single = {n: v[tf.newaxis] for n, v in example.items() if n != "index"}
        own = stateless_random.fold_in(seed, index) if model.is_random else seed
        if in_graph is None:
            forward, gradient = with_tape(single, own)
        else:
            forward, gradient = with_operations(in_graph, single, own)
        if factored:
            gradient = [outer_products.factors_of(g) for g in gradient]
        sums = objective.sums(single, forward.predictions)
        return gradient, tf.nest.map_structure(lambda s: s[0], sums)

    examples = structures.example_arrays(batch)
    examples["index"] = tf.range(batch["mask"].shape[0])
    gradients, sums = tf.vectorized_map(example_gradient, examples)
    return gradients, masked_sums(sums, batch["mask"])


def summed_gradient(
    model: FunctionalModel,
    objective: Objective,
    weights: Sequence[tf.Tensor],
    batch: Mapping[str, Any],
    seed: tf.Tensor,
) -> tuple[list[tf.Tensor], Sums]:
    """Computes the sum of a row's gradients, at the cost of an ordinary gradient.

    The arguments are as in `example_gradients`. The gradient has the weights' shapes,
    and is finite for a row of padding alone.
    """
    state = model_state_of(model, batch)
    batch = for_training(model, batch)
    with loss_scale.tape_of(model) as tape:
        tape.watch(weights)
        x = structures.packed(batch, "x")
        forward = model.forward(weights, state, x, True, seed)
        predictions = forward.predictions
        losses = objective.losses(batch, predictions)
        loss = masked_sum(losses, batch["mask"])
        if model.has_penalty:
            count = tf.reduce_sum(tf.cast(batch["mask"], tf.float32))
            loss += count * forward.penalty
    gradient = loss_scale.gradient(tape, [(loss, None)], weights, model)
    gradient = without_failures_of_padding(model, gradient, batch["mask"])
    sums = objective.sums(batch, predictions)
    return gradient, masked_sums(sums, batch["mask"])
