"""Client work with record-level differential privacy: DP-SGD as local training."""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional, cast

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import autograph, stateless_random
from tfl_research.clients.client_work import (
    MODEL_STATE,
    ClientFunction,
    ClientResult,
    ClientWork,
    minibatch_of,
    model_state_of,
    select,
)
from tfl_research.clients.local_loop import zero_sums
from tfl_research.clients.optimizer_states import initial_optimizer_state
from tfl_research.clients.record_privacy import record_noise
from tfl_research.clients.record_privacy.example_gradients import (
    example_gradients,
    summed_gradient,
)
from tfl_research.data import PoissonBatching
from tfl_research.data.client_data import AnyBatching
from tfl_research.data.poisson_batching import ROW_ENDS_NOTHING, ROW_ENDS_STEP
from tfl_research.models.functional_model import FunctionalModel
from tfl_research.tasks.objectives import Objective


@dataclasses.dataclass(frozen=True)
class RecordLevelTraining(ClientWork):
    """Trains by DP-SGD from the server's weights.

    Abadi et al. 2016 (arXiv 1607.00133), Algorithm 1, at every client. A local step
    takes each of the client's n examples with probability q (`PoissonBatching`), clips
    the gradient of each example to l2 norm C, adds noise N(0, (zC)^2) to every
    coordinate of the sum, and divides by the expected number of examples
    min(expected_batch_size, n). A step without examples adds noise too. With
    microbatches of more than one example, the step clips the mean gradient of each
    microbatch, and divides the sum by the expected number of microbatches.

    The seed of the cohort (`ClientData.cohort`) determines which examples take part,
    and the noise. The seed must be secret, and must differ between runs.

    Adding or removing one example changes the sum before noise by at most C. With
    microbatches, the change is at most 2C: the example's microbatch can exist in both
    cases, with two means of norm at most C each.

    Attributes:
      optimizer: the optimizer that takes the noised gradient; its state is new in each
        round.
      batching: the batching of the task's client data.
      l2_norm_clip: C, above 0.
      noise_multiplier: z, at least 0; 0 adds no noise.
      learning_rate_schedule: see `LocalTraining`.
      report_metrics: whether clients report the objective's sums over the drawn
        examples. The sums are exact, and no guarantee covers them. Without them, the
        round's train metrics are NaN.

    Raises:
      ValueError: an argument is outside its range, or the batching is no Poisson
        sampling.
    """

    optimizer: tff.learning.optimizers.Optimizer
    batching: PoissonBatching
    l2_norm_clip: float
    noise_multiplier: float
    learning_rate_schedule: Optional[Callable[[tf.Tensor], tf.Tensor]] = None
    report_metrics: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.batching, PoissonBatching):
            raise ValueError(
                "record-level training needs local steps that are drawn by Poisson "
                f"sampling: expected a data.PoissonBatching, got {self.batching!r}"
            )
        if not (self.l2_norm_clip > 0 and math.isfinite(self.l2_norm_clip)):
            raise ValueError(f"l2_norm_clip must be above 0, got {self.l2_norm_clip}")
        z = self.noise_multiplier
        if not (z >= 0 and math.isfinite(z)):
            raise ValueError(f"noise_multiplier must be at least 0, got {z}")

    def build(self, model: FunctionalModel, objective: Objective) -> ClientFunction:
        """Builds a client's function: DP-SGD steps for this model and objective.

        The local steps must also have `row_ends` and `noise_seed` (`Cohort.stacked`),
        so the task's batching must be `batching`.

        Raises:
          ValueError: the model mixes the examples of a batch, or has weights of half
            precision.
        """
        specs = model.weight_specs
        check_separate_examples(model)
        _check_precision(specs)
        # One gradient for each example, or for each microbatch.
        by_example = self.batching.microbatch_size == 1
        gradient_of_row: Callable[..., Any] = summed_gradient
        if by_example:
            gradient_of_row = functools.partial(example_gradients, factored=True)

        @autograph.function
        def client_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
        ) -> ClientResult:
            if "row_ends" not in batches:
                raise ValueError(
                    "record-level training got client data without Poisson sampling: "
                    "expected a task with_batching(data.PoissonBatching(...))"
                )
            start, model_state = list(server_weights), model_state_of(model, batches)
            num_examples = tf.cast(batches["num_examples"], tf.float32)
            # A client without examples takes no steps, so the divisor is not used.
            expected = tf.maximum(
                tf.minimum(num_examples, self.batching.expected_batch_size)
                / self.batching.microbatch_size,
                1e-30,
            )

            stddev = tf.constant(self.noise_multiplier * self.l2_norm_clip, tf.float32)

            def noised(total: list[tf.Tensor], step: tf.Tensor) -> list[tf.Tensor]:
                if self.noise_multiplier:
                    noise = record_noise.step_noise(batches["noise_seed"], step, specs)
                    total = [
                        t + tf.cast(stddev * n, t.dtype) for t, n in zip(total, noise)
                    ]
                return [t / tf.cast(expected, t.dtype) for t in total]

            def next_row(row: tf.Tensor, state: _State) -> tuple[tf.Tensor, _State]:
                batch = minibatch_of(batches, row)
                batch[MODEL_STATE] = model_state
                seed = batches["seed"]
                if model.is_random:
                    seed = stateless_random.fold_in(seed, row)
                gradient, row_sums = gradient_of_row(
                    model, objective, state.weights, batch, seed
                )
                ends = batches["row_ends"][row]
                step_ends = tf.equal(ends, ROW_ENDS_STEP)
                if by_example:
                    microbatch = state.microbatch
                    addition = record_noise.clipped_sum(
                        gradient, batch["mask"], self.l2_norm_clip
                    )
                else:
                    microbatch = _added(
                        state.microbatch, [*gradient, _count(batch["mask"])]
                    )
                    closes = tf.not_equal(ends, ROW_ENDS_NOTHING)
                    addition = self._clipped_mean(microbatch, closes)
                    microbatch = select(closes, _zeros_like(microbatch), microbatch)
                total = _added(state.total, addition)
                new_state, stepped = self.optimizer.next(
                    state.optimizer,
                    tuple(state.weights),
                    tuple(noised(total, state.step)),
                )
                new_weights = list(stepped)
                if model.constrain is not None:
                    new_weights = model.constrain(new_weights)
                sums = state.sums
                if self.report_metrics:
                    sums = tf.nest.map_structure(tf.add, sums, row_sums)
                return row + 1, _State(
                    state.step + tf.cast(step_ends, tf.int32),
                    select(step_ends, new_weights, state.weights),
                    select(step_ends, new_state, state.optimizer),
                    select(step_ends, _zeros_like(total), total),
                    microbatch,
                    sums,
                )

            zeros = [tf.zeros(s.shape, s.dtype) for s in specs]
            first = _State(
                tf.constant(0, tf.int32),
                start,
                initial_optimizer_state(
                    self.optimizer, model, self.learning_rate_schedule, round_number
                ),
                zeros,
                [] if by_example else [*zeros, tf.constant(0.0)],
                zero_sums(model, objective, batches),
            )
            _, last = tf.while_loop(
                lambda row, _: row < batches["num_steps"],
                next_row,
                (tf.constant(0, tf.int32), first),
            )
            return ClientResult(
                update=[w - w_t for w, w_t in zip(last.weights, start)],
                num_examples=num_examples,
                sums=last.sums,
                noise_stddev=stddev,
            )

        return client_function

    def _clipped_mean(
        self, microbatch: Sequence[tf.Tensor], closes: tf.Tensor
    ) -> list[tf.Tensor]:
        """Returns a microbatch's clipped mean gradient; zero before its end."""
        *total, count = microbatch
        count = tf.maximum(count, 1.0)
        means = [(t / tf.cast(count, t.dtype))[tf.newaxis] for t in total]
        clipped = record_noise.clipped_records(
            means, closes[tf.newaxis], self.l2_norm_clip
        )
        return [c[0] for c in clipped]


class _State(
    collections.namedtuple("_State", "step weights optimizer total microbatch sums")
):
    """The state of the loop over rows.

    Attributes:
      step: int32, number of completed local steps.
      weights: the model's weights.
      optimizer: the optimizer state.
      total: sum of the clipped gradients of this step so far.
      microbatch: sums of the gradients of this microbatch so far, and the number of its
        examples; empty for microbatches of one example.
      sums: the objective's sums.
    """


def _added(first: Sequence[tf.Tensor], second: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    return [a + b for a, b in zip(first, second)]


def _zeros_like(tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    return [tf.zeros_like(t) for t in tensors]


def _count(mask: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(mask, tf.float32))


def check_separate_examples(model: FunctionalModel) -> None:
    """Checks that each example has its own gradient.

    Raises:
      ValueError: the model mixes the examples of a batch.
    """
    if model.changing:
        name = model.state_names[model.changing[0]]
        raise ValueError(
            "record-level privacy clips each example's gradient, but the layer of "
            f"{name} mixes the examples of a batch; expected GroupNormalization, or "
            "non_trainable='frozen'"
        )
    if model.mixes_examples:
        raise ValueError(
            "record-level privacy clips each example's gradient, but a layer or a "
            "penalty of the model mixes the examples of a batch; expected layers and "
            "penalties that treat each example alone"
        )


def _check_precision(specs: Sequence[tf.TensorSpec]) -> None:
    """Checks that no clipped gradient exceeds the clip in the dtype of the weights.

    Rounding to float16 can increase a norm by 1/2000, and rounding to bfloat16 by
    1/250.

    Raises:
      ValueError: a weight is in half precision.
    """
    for spec in specs:
        if spec.dtype not in (tf.float32, tf.float64):
            raise ValueError(
                "record-level privacy clips gradients in the type of the weights, and "
                f"{spec.dtype.name} rounds above the clip; expected float32 or float64 "
                f"weights: the policy 'mixed_{spec.dtype.name}' has float32 weights"
            )


def record_level_training(
    *,
    optimizer: tff.learning.optimizers.Optimizer,
    batching: AnyBatching,
    l2_norm_clip: float,
    noise_multiplier: float,
    learning_rate_schedule: Optional[Callable[[tf.Tensor], tf.Tensor]] = None,
    report_metrics: bool = False,
) -> RecordLevelTraining:
    """Makes DP-SGD client work (Abadi et al. 2016, arXiv 1607.00133, Algorithm 1).

    See `RecordLevelTraining` for the arguments and the errors.
    """
    return RecordLevelTraining(
        optimizer,
        cast(PoissonBatching, batching),  # the class refuses any other
        l2_norm_clip,
        noise_multiplier,
        learning_rate_schedule,
        report_metrics,
    )
