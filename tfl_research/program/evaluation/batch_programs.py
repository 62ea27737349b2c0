"""Traced functions that evaluations with the same model and shapes share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfl_research import _tff_compat, autograph
from tfl_research.data.arrays import structures
from tfl_research.models import FunctionalModel, known_builders
from tfl_research.tasks.objectives import Objective, by_row
from tfl_research.tasks.task import Task


class BatchPrograms:
    """Computes the sums of a batch by client, and the metrics of each client's sums.

    Args:
      model: computes the predictions.
      objective: computes the sums and the metrics.
    """

    def __init__(self, model: FunctionalModel, objective: Objective):
        @autograph.function(reduce_retracing=True)
        def batch_sums(
            weights: Sequence[tf.Tensor],
            state: Sequence[tf.Tensor],
            examples: Mapping[str, tf.Tensor],
            segments: tf.Tensor,
            num_segments: tf.Tensor,
        ) -> tuple[Mapping[str, tf.Tensor], Any]:
            x = structures.packed(examples, "x")
            predictions = model.predict(weights, state, x)
            sums = {
                name: tf.math.unsorted_segment_sum(
                    tf.cast(value, tf.float64), segments, num_segments
                )
                for name, value in objective.sums(examples, predictions).items()
            }
            return sums, predictions if objective.of_examples else ()

        self.batch_sums = batch_sums
        self._objective = objective
        self._calls: dict[Any, Callable[[Sequence[tf.Tensor]], Any]] = {}
        self._finalizing: dict[Any, Any] = {}

    def prepared(
        self,
        weights: Sequence[tf.Tensor],
        state: Sequence[tf.Tensor],
        examples: Mapping[str, np.ndarray],
        segments: np.ndarray,
        num_segments: int,
    ) -> Callable[[], tuple[Mapping[str, tf.Tensor], Any]]:
        """Makes a function that computes a batch; any thread may call the function.

        The function returns the sums of the batch's examples by segment, and the
        predictions. Tracing for the batch's shapes happens here, not in the function:
        traces depend on the order of the shapes.

        An evaluation makes hundreds of calls with equal shapes. A call by TensorFlow's
        public interface would take as long as a small model's batch.

        Args:
          weights, state: the model's trainable and non-trainable weights.
          examples: arrays with a row for each example.
          segments: int32 `[rows]`, the segment of each example.
          num_segments: number of segments.
        """
        given = (weights, state, examples, segments, np.int32(num_segments))
        flat = [
            value if isinstance(value, tf.Tensor) else tf.convert_to_tensor(value)
            for value in tf.nest.flatten(given)
        ]
        arguments = tf.nest.pack_sequence_as(given, flat)
        if tf.config.functions_run_eagerly():
            # A user who debugs a model by eager functions wants to see every call.
            return lambda: self.batch_sums(*arguments)
        key = tuple((tuple(tensor.shape), tensor.dtype) for tensor in flat)
        if key not in self._calls:
            traced = self.batch_sums.get_concrete_function(*arguments)
            self._calls[key] = _tff_compat.structured_call(traced)
        return functools.partial(self._calls[key], flat)

    def finalize_each(self, sums: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        """Computes metrics of each row of sums; one trace serves all splits."""
        specs = {
            name: tf.TensorSpec([None if len(v) else 0, *v.shape[1:]], v.dtype)
            for name, v in sums.items()
        }
        key = tuple(specs.items())
        if key not in self._finalizing:
            of_one, function = self._objective.finalize, autograph.function
            self._finalizing[key] = function(
                lambda rows: by_row.mapped(lambda row: dict(of_one(row)), rows)
            ).get_concrete_function(specs)
        return self._finalizing[key](dict(sums))


def programs_for(
    task: Task,
    model: FunctionalModel,
    objective: Objective,
    clients: Mapping[str, Any],
    batch_size: int,
    *,
    padded: bool,
) -> BatchPrograms:
    """Makes programs, or returns an earlier evaluation's with equal model and shapes.

    After TensorFlow has seen several shapes, it may trace a function for general
    shapes. So evaluations share programs only if they have the same shapes. Then each
    result equals the result of programs that are not shared, to the last bit.

    Args:
      task: the task of the model and the objective.
      model, objective: the task's model and objective.
      clients: the clients of each split; None for a missing split.
      batch_size: examples in a batch.
      padded: whether all batches are padded to `batch_size`.
    """
    builders = [known_builders.key_of(task.build_model)]
    builders.append(known_builders.key_of(task.build_objective))
    if None in builders or not padded:
        return BatchPrograms(model, objective)
    shapes = tuple(
        (name, repr(split.specs), len(split.client_ids))
        for name, split in clients.items()
        if split is not None
    )
    key = (*builders, repr(task.x_spec), task.non_trainable, shapes, batch_size)
    return known_builders.made_once(
        ("evaluation", key), lambda: BatchPrograms(model, objective)
    )
