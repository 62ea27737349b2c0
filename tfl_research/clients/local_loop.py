"""The loop over a client's local steps, which client work uses."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import autograph, stateless_random
from tfl_research.clients import loss_scale
from tfl_research.clients.client_work import (
    MODEL_STATE,
    for_training,
    masked_sum,
    masked_sums,
    minibatch_of,
    model_state_of,
    select,
    with_examples,
    without_failures_of_padding,
)
from tfl_research.clients.optimizer_states import (
    as_argument,
    at_scheduled_rate,
    initial_optimizer_state,
)
from tfl_research.data.arrays import structures
from tfl_research.models.functional_model import FunctionalModel
from tfl_research.tasks.objectives import Objective

# Examples of a local step: flat arrays [batch, ...] by name, mask bool [batch], seed
# int32 [2], and the model_state before the step, a tuple of tensors.
Minibatch = Mapping[str, Any]

# (gradient, weights, minibatch) -> gradient for the step; lists of tensors.
Adjust = Callable[[list[tf.Tensor], list[tf.Tensor], Minibatch], list[tf.Tensor]]

# (step int32 [], new weights, old weights) -> weights after the step.
Restrict = Callable[[tf.Tensor, list[tf.Tensor], list[tf.Tensor]], list[tf.Tensor]]


class LocalRun(NamedTuple):
    """The result of a client's local steps.

    Attributes:
      weights: weights after the last step.
      sums: the objective's sums over the examples, each computed before its step.
      num_steps: float32 scalar, number of steps with examples.
      model_state: the model's non-trainable weights after the last step.
    """

    weights: list[tf.Tensor]
    sums: collections.OrderedDict[str, tf.Tensor]
    num_steps: tf.Tensor
    model_state: tuple[tf.Tensor, ...] = ()


class _Step(NamedTuple):
    """The results of a minibatch: gradient, sums, and new model state."""

    gradient: list[tf.Tensor]
    sums: collections.OrderedDict[str, tf.Tensor]
    state: tuple[tf.Tensor, ...]


@dataclasses.dataclass(frozen=True)
class LocalSteps:
    """Settings of local steps, which all client work shares.

    Attributes:
      optimizer: the client optimizer, whose state is new in each round.
      gradient_clip_norm: each step's adjusted gradient is scaled to at most this
        global l2 norm; None for no clipping.
      learning_rate_schedule: (round number int32, from 0) -> float32 learning rate of
        the round; None for the optimizer's learning rate.

    Raises:
      ValueError: the clip norm is not positive.
    """

    optimizer: tff.learning.optimizers.Optimizer
    gradient_clip_norm: Optional[float] = None
    learning_rate_schedule: Optional[Callable[[tf.Tensor], tf.Tensor]] = None

    def __post_init__(self) -> None:
        if self.gradient_clip_norm is not None and self.gradient_clip_norm <= 0:
            raise ValueError(
                f"gradient_clip_norm must be positive, got {self.gradient_clip_norm}"
            )

    def loop(self, model: FunctionalModel, objective: Objective) -> LocalLoop:
        """Builds the loop over a client's steps for this model and objective."""
        return LocalLoop(model, objective, self)


@dataclasses.dataclass(frozen=True)
class LocalLoop:
    """Minibatch steps of an optimizer on one client's examples.

    A minibatch's loss is the mean over its examples without padding, plus the model's
    penalty. After a step the weights' constraints are applied, as Keras does. A step
    with only padding changes neither the weights nor the states.

    Attributes:
      model: the model that is trained.
      objective: the loss.
      steps: optimizer, clipping and learning rate.
    """

    model: FunctionalModel
    objective: Objective
    steps: LocalSteps

    def gradient_and_sums(
        self, weights: list[tf.Tensor], batch: Minibatch
    ) -> tuple[list[tf.Tensor], collections.OrderedDict[str, tf.Tensor]]:
        """Computes the gradient of a minibatch's mean loss, and the objective's sums.

        The loss includes the model's penalty, but the sums do not. Gradients are finite
        even for a minibatch of padding alone, where they do not count.
        """
        step = self._step(weights, batch)
        gradient = without_failures_of_padding(self.model, step.gradient, batch["mask"])
        return gradient, step.sums

    def _step(self, weights: list[tf.Tensor], batch: Minibatch) -> _Step:
        batch = for_training(self.model, batch)
        mask = batch["mask"]
        count = tf.reduce_sum(tf.cast(mask, tf.float32))
        with loss_scale.tape_of(self.model) as tape:
            tape.watch(weights)
            forward = self.model.forward(
                weights,
                batch[MODEL_STATE],
                structures.packed(batch, "x"),
                True,
                batch["seed"],
            )
            losses = self.objective.losses(batch, forward.predictions)
            total = masked_sum(losses, mask)
        terms = [(total, tf.maximum(count, 1.0))]
        if self.model.has_penalty:
            terms.append((forward.penalty, None))
        gradient = loss_scale.gradient(tape, terms, weights, self.model)
        sums = self.objective.sums(batch, forward.predictions)
        return _Step(gradient, masked_sums(sums, mask), forward.state)

    def run(
        self,
        start: Sequence[tf.Tensor],
        batches: Mapping[str, tf.Tensor],
        round_number: tf.Tensor,
        *,
        adjust: Optional[Adjust] = None,
        restrict: Optional[Restrict] = None,
        frozen_state: Any = None,
    ) -> LocalRun:
        """Takes all local steps of a client.

        Args:
          start: weights before the first step.
          batches: see `client_work.ClientFunction`.
          round_number: int32 `[]`, from 0.
          adjust: changes each step's gradient; by default gradients do not change.
          restrict: decides which weights a step may change; by default all weights.
          frozen_state: an optimizer state from which every step begins. By default
            the state is new in each round, and steps change it.
        """
        optimizer, clip_norm = self.steps.optimizer, self.steps.gradient_clip_norm
        frozen = frozen_state is not None
        first_state, changing = self.model_state(batches), self.model.changing

        def joined(changed: Sequence[tf.Tensor]) -> tuple[tf.Tensor, ...]:
            state = list(first_state)
            for index, value in zip(changing, changed):
                state[index] = value
            return tuple(state)

        def local_step(
            step: tf.Tensor,
            weights: list,
            optimizer_state: Any,
            sums: Any,
            taken: Any,
            changed: list,
        ) -> tuple:
            batch = self._minibatch(batches, step, joined(changed))
            gradient, step_sums, state = self._step(weights, batch)
            if adjust is not None:
                gradient = adjust(gradient, weights, batch)
            if clip_norm is not None:
                gradient, _ = tf.clip_by_global_norm(gradient, clip_norm)
            new_state, stepped = optimizer.next(
                optimizer_state, tuple(weights), tuple(gradient)
            )
            new = list(stepped)
            if self.model.constrain is not None:
                new = self.model.constrain(new)
            if restrict is not None:
                new = restrict(step, new, weights)
            active = tf.reduce_any(batch["mask"])
            return (
                step + 1,
                select(active, new, weights),
                optimizer_state
                if frozen
                else select(active, new_state, optimizer_state),
                tf.nest.map_structure(tf.add, sums, step_sums),
                taken + tf.cast(active, tf.float32),
                select(active, [state[index] for index in changing], changed),
            )

        num_steps = batches["num_steps"]
        _, weights, _, sums, taken, changed = tf.while_loop(
            lambda step, *_: step < num_steps,
            local_step,
            (
                0,
                list(start),
                frozen_state if frozen else self.optimizer_state(round_number),
                zero_sums(self.model, self.objective, batches),
                tf.constant(0.0),
                [first_state[index] for index in changing],
            ),
        )
        return LocalRun(weights, sums, taken, joined(changed))

    def mean_gradient(
        self, weights: Sequence[tf.Tensor], batches: Mapping[str, tf.Tensor]
    ) -> tuple[list[tf.Tensor], collections.OrderedDict[str, tf.Tensor]]:
        """Computes the gradient of the mean loss over all examples, and the sums.

        An example in several epochs counts several times. The gradient is zero if there
        are no examples. The model's non-trainable weights do not change between steps.
        """
        fixed, state = list(weights), self.model_state(batches)

        def add_step(
            step: tf.Tensor, total: list, count: tf.Tensor, sums: Any
        ) -> tuple:
            batch = self._minibatch(batches, step, state)
            gradient, step_sums = self.gradient_and_sums(fixed, batch)
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

    def model_state(self, batches: Mapping[str, Any]) -> tuple[tf.Tensor, ...]:
        """The model's non-trainable weights before the first step."""
        return model_state_of(self.model, batches)

    def _minibatch(
        self,
        batches: Mapping[str, tf.Tensor],
        step: tf.Tensor,
        state: tuple[tf.Tensor, ...],
    ) -> Minibatch:
        batch = with_examples(self.model, minibatch_of(batches, step), batches)
        batch[MODEL_STATE] = state
        batch["seed"] = batches["seed"]
        if self.model.is_random:
            batch["seed"] = stateless_random.fold_in(batches["seed"], step)
        return batch

    def optimizer_state(self, round_number: tf.Tensor) -> Any:
        """Creates an optimizer state with the round's learning rate."""
        return initial_optimizer_state(
            self.steps.optimizer,
            self.model,
            self.steps.learning_rate_schedule,
            round_number,
        )

    def at_rate_of(self, optimizer_state: Any, round_number: tf.Tensor) -> Any:
        """Sets the round's learning rate in an existing optimizer state."""
        return at_scheduled_rate(
            self.steps.optimizer,
            optimizer_state,
            self.steps.learning_rate_schedule,
            round_number,
        )

    def learning_rate(self, round_number: tf.Tensor) -> tf.Tensor:
        """Returns the optimizer's learning rate in a round, float32 `[]`."""
        if self.steps.learning_rate_schedule is not None:
            return tf.cast(self.steps.learning_rate_schedule(round_number), tf.float32)
        state = self.steps.optimizer.initialize(self.model.weight_specs)
        key = tff.learning.optimizers.LEARNING_RATE_KEY
        rate = self.steps.optimizer.get_hparams(state)[key]
        return tf.cast(as_argument(rate), tf.float32)


def zero_sums(
    model: FunctionalModel, objective: Objective, batches: Mapping[str, tf.Tensor]
) -> collections.OrderedDict[str, tf.Tensor]:
    """The objective's sums over no examples."""
    return collections.OrderedDict(
        (name, tf.zeros(spec.shape, spec.dtype))
        for name, spec in sum_specs(model, objective, batches).items()
    )


def sum_specs(
    model: FunctionalModel, objective: Objective, batches: Mapping[str, tf.Tensor]
) -> collections.OrderedDict[str, tf.TensorSpec]:
    """The specs of the objective's sums over a client's examples, by name."""

    def shapes(examples: Mapping[str, tf.Tensor]) -> object:
        weights = [tf.zeros(s.shape, s.dtype) for s in model.weight_specs]
        state = [tf.zeros(s.shape, s.dtype) for s in model.state_specs]
        x = structures.packed(examples, "x")
        return objective.sums(examples, model.predict(weights, state, x))

    traced = autograph.function(shapes).get_concrete_function(
        {
            name: tf.TensorSpec(values.shape[1:], values.dtype)
            for name, values in structures.example_arrays(batches).items()
        }
    )
    return collections.OrderedDict(
        (name, tf.TensorSpec(spec.shape[1:], spec.dtype))
        for name, spec in traced.structured_outputs.items()
    )
