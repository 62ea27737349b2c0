"""The traced functions of an evaluation, which evaluations of one kind share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfl_research import autograph
from tfl_research.data import structures
from tfl_research.models import FunctionalModel, known_builders
from tfl_research.tasks.objectives import Objective, by_row
from tfl_research.tasks.task import Task


class BatchPrograms:
    """The sums of a batch by client, and the metrics of each client's sums.

    Args:
      model: gives the predictions.
      objective: gives the sums and the metrics.
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

        @autograph.function(reduce_retracing=True)
        def finalize_each(sums: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
            return by_row.mapped(
                lambda client_sums: dict(objective.finalize(client_sums)), sums
            )

        self.batch_sums = batch_sums
        self.finalize_each = finalize_each


def programs_for(
    task: Task,
    model: FunctionalModel,
    objective: Objective,
    clients: Mapping[str, Any],
    batch_size: int,
    *,
    padded: bool,
) -> BatchPrograms:
    """Makes programs, or takes an earlier evaluation's for the same model and shapes.

    After TensorFlow has seen several shapes, it may trace a function for general
    shapes. So evaluations share programs only if they have the same shapes. Then each
    result equals the result of programs that are not shared, to the last bit.

    Args:
      task: the task of the model and the objective.
      model, objective: the task's own.
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
