"""The loop over a client's local steps, of which client work is made."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import stateless_random
from tfl_research.clients.client_work import masked_sum, select
from tfl_research.clients.functional_model import FunctionalModel
from tfl_research.tasks.objectives import Objective

# (gradient, weights) -> gradient that is stepped along; lists of tensors.
Adjust = Callable[[list[tf.Tensor], list[tf.Tensor]], list[tf.Tensor]]

# (step int32 [], new weights, old weights) -> weights after the step.
Restrict = Callable[[tf.Tensor, list[tf.Tensor], list[tf.Tensor]], list[tf.Tensor]]


class LocalRun(NamedTuple):
    """What local steps lead to.

    Attributes:
      weights: after the last step.
      sums: the objective's sums over the examples seen, each before its step.
      num_steps: float32 scalar, steps that had examples.
    """

    weights: list[tf.Tensor]
    sums: collections.OrderedDict[str, tf.Tensor]
    num_steps: tf.Tensor


@dataclasses.dataclass(frozen=True)
class LocalLoop:
    """Minibatch steps of an optimizer on one client's examples.

    A minibatch's loss is the mean over its real examples. A step whose examples
    are all padding changes nothing: neither weights nor optimizer state.

    Attributes:
      model: whose weights are trained.
      objective: the loss.
      optimizer: its state is new each round.
      gradient_clip_norm: each step's adjusted gradient is scaled to at most this
        global l2 norm; None leaves it as it is.
      learning_rate_schedule: (round number int32, from 0) -> float32 learning rate
        of the round; None keeps the optimizer's own.

    Raises:
      ValueError: a clip norm that is not positive.
    """

    model: FunctionalModel
    objective: Objective
    optimizer: tff.learning.optimizers.Optimizer
    gradient_clip_norm: Optional[float] = None
    learning_rate_schedule: Optional[Callable[[tf.Tensor], tf.Tensor]] = None

    def __post_init__(self) -> None:
        check_clip_norm(self.gradient_clip_norm)

    def gradient_and_sums(
        self, weights: list[tf.Tensor], batch: Mapping[str, tf.Tensor], seed: tf.Tensor
    ) -> tuple[list[tf.Tensor], collections.OrderedDict[str, tf.Tensor]]:
        """The mean loss' gradient, and the objective's sums, of one minibatch."""
        mask = batch["mask"]
        count = tf.reduce_sum(tf.cast(mask, tf.float32))
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits = self.model.forward(weights, batch["x"], True, seed)
            losses = self.objective.example_losses(batch["y"], logits)
            loss = masked_sum(losses, mask) / tf.maximum(count, 1.0)
        gradient = tape.gradient(
            loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        sums = self.objective.example_sums(batch["y"], logits)
        return [tf.convert_to_tensor(g) for g in gradient], collections.OrderedDict(
            (name, masked_sum(value, mask)) for name, value in sums.items()
        )

    def run(
        self,
        start: Sequence[tf.Tensor],
        batches: Mapping[str, tf.Tensor],
        round_number: tf.Tensor,
        *,
        adjust: Optional[Adjust] = None,
        restrict: Optional[Restrict] = None,
    ) -> LocalRun:
        """Takes all local steps of a client.

        Args:
          start: weights before the first step.
          batches: see `client_work.ClientFunction`.
          round_number: int32 `[]`, from 0.
          adjust: changes each step's gradient; nothing by default.
          restrict: decides which weights a step may change; all by default.
        """

        def local_step(
            step: tf.Tensor, weights: list, optimizer_state: Any, sums: Any, taken: Any
        ) -> tuple:
            batch = _batch(batches, step)
            seed = self._seed(batches, step)
            gradient, step_sums = self.gradient_and_sums(weights, batch, seed)
            if adjust is not None:
                gradient = adjust(gradient, weights)
            if self.gradient_clip_norm is not None:
                gradient, _ = tf.clip_by_global_norm(gradient, self.gradient_clip_norm)
            new_state, stepped = self.optimizer.next(
                optimizer_state, tuple(weights), tuple(gradient)
            )
            new = list(stepped)
            if restrict is not None:
                new = restrict(step, new, weights)
            active = tf.reduce_any(batch["mask"])
            return (
                step + 1,
                select(active, new, weights),
                select(active, new_state, optimizer_state),
                tf.nest.map_structure(tf.add, sums, step_sums),
                taken + tf.cast(active, tf.float32),
            )

        num_steps = batches["num_steps"]
        _, weights, _, sums, taken = tf.while_loop(
            lambda step, *_: step < num_steps,
            local_step,
            (
                0,
                list(start),
                self.optimizer_state(round_number),
                zero_sums(self.model, self.objective, batches),
                tf.constant(0.0),
            ),
        )
        return LocalRun(weights, sums, taken)

    def mean_gradient(
        self, weights: Sequence[tf.Tensor], batches: Mapping[str, tf.Tensor]
    ) -> tuple[list[tf.Tensor], collections.OrderedDict[str, tf.Tensor]]:
        """The mean loss' gradient over all examples of the local steps, and sums.

        An example that comes in several epochs counts as often; zero where there are
        none.
        """
        fixed = list(weights)

        def add_step(
            step: tf.Tensor, total: list, count: tf.Tensor, sums: Any
        ) -> tuple:
            batch = _batch(batches, step)
            seed = self._seed(batches, step)
            gradient, step_sums = self.gradient_and_sums(fixed, batch, seed)
            size = tf.reduce_sum(tf.cast(batch["mask"], tf.float32))
            return (
                step + 1,
                [t + size * g for t, g in zip(total, gradient)],
                count + size,
                tf.nest.map_structure(tf.add, sums, step_sums),
            )

        num_steps = batches["num_steps"]
        _, total, count, sums = tf.while_loop(
            lambda step, *_: step < num_steps,
            add_step,
            (
                0,
                [tf.zeros_like(w) for w in fixed],
                tf.constant(0.0),
                zero_sums(self.model, self.objective, batches),
            ),
        )
        return [t / tf.maximum(count, 1.0) for t in total], sums

    def _seed(self, batches: Mapping[str, tf.Tensor], step: tf.Tensor) -> tf.Tensor:
        seed = batches["seed"]
        if self.model.is_random:
            seed = stateless_random.fold_in(seed, step)
        return seed

    def optimizer_state(self, round_number: tf.Tensor) -> Any:
        """A new optimizer state with the round's learning rate."""
        return initial_optimizer_state(
            self.optimizer, self.model, self.learning_rate_schedule, round_number
        )

    def learning_rate(self, round_number: tf.Tensor) -> tf.Tensor:
        """float32 scalar, the optimizer's learning rate in a round."""
        if self.learning_rate_schedule is not None:
            return tf.cast(self.learning_rate_schedule(round_number), tf.float32)
        state = self.optimizer.initialize(self.model.weight_specs)
        key = tff.learning.optimizers.LEARNING_RATE_KEY
        return tf.cast(self.optimizer.get_hparams(state)[key], tf.float32)


def _batch(batches: Mapping[str, tf.Tensor], step: tf.Tensor) -> dict[str, tf.Tensor]:
    return {name: batches[name][step] for name in ("x", "y", "mask")}


def check_clip_norm(norm: Optional[float]) -> None:
    """Raises ValueError for a clip norm of gradients that is not positive."""
    if norm is not None and norm <= 0:
        raise ValueError(f"gradient_clip_norm must be positive, got {norm}")


def initial_optimizer_state(
    optimizer: tff.learning.optimizers.Optimizer,
    model: FunctionalModel,
    learning_rate_schedule: Optional[Callable[[tf.Tensor], tf.Tensor]],
    round_number: tf.Tensor,
) -> Any:
    """A new optimizer state with the round's learning rate (None: its own)."""
    state = optimizer.initialize(model.weight_specs)
    if learning_rate_schedule is not None:
        hparams = optimizer.get_hparams(state)
        key = tff.learning.optimizers.LEARNING_RATE_KEY
        hparams[key] = learning_rate_schedule(round_number)
        state = optimizer.set_hparams(state, hparams)
    return tf.nest.map_structure(tf.convert_to_tensor, state)


def zero_sums(
    model: FunctionalModel, objective: Objective, batches: Mapping[str, tf.Tensor]
) -> collections.OrderedDict[str, tf.Tensor]:
    """The objective's sums over no examples."""
    x, y = batches["x"], batches["y"]

    def shapes(x: tf.Tensor, y: tf.Tensor) -> object:
        weights = [tf.zeros(s.shape, s.dtype) for s in model.weight_specs]
        logits = model.forward(weights, x, False, tf.zeros([2], tf.int32))
        return objective.example_sums(y, logits)

    traced = tf.function(shapes).get_concrete_function(
        tf.TensorSpec(x.shape[1:], x.dtype), tf.TensorSpec(y.shape[1:], y.dtype)
    )
    return collections.OrderedDict(
        (name, tf.zeros(spec.shape[1:], spec.dtype))
        for name, spec in traced.structured_outputs.items()
    )
