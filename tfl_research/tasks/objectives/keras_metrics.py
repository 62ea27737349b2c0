"""Metrics of Keras as sums over examples.

A metric of Keras adds to its variables at each update. Such a metric is a sum over
examples if the update with a batch adds what the updates with its examples, one by one,
add together. An example's contribution is computed with a new metric, in which tensors
replace the variables. `tasks.fit_checks` compares both on real examples, and refuses a
metric if they differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from tfl_research.errors import users_line
from tfl_research.tasks import ranking
from tfl_research.tasks.metrics import Metric
from tfl_research.tasks.objectives import by_row
from tfl_research.tasks.objectives.keras_metric_kinds import (
    direction_of,
    fresh_maker,
    unnumbered,
)
from tfl_research.tasks.objectives.keras_variables import Accumulator, creating
from tfl_research.tasks.objectives.rules import Rule
from tfl_research.tasks.objectives.tracing import (
    Traced,
    as_in_fit,
    last_line,
)


@dataclasses.dataclass(frozen=True)
class ExampleMetric:
    """A Keras metric as contributions of examples.

    Attributes:
      name: the name of the metric.
      is_usual: whether the name is the name that Keras gives to metrics of this kind.
      metric: direction and aggregation.
      sums: (y, predictions[, weights `[batch]`]) -> the contributions of each example
        to the metric's variables, `[batch, ...]` each; None for a metric of all
        examples.
      result: the metric of the summed variables; None for a metric of all examples.
      fresh: makes a new metric of Keras; None for a metric of all examples.
    """

    name: str
    is_usual: bool
    metric: Metric
    sums: Any = None
    result: Any = None
    fresh: Any = None

    def check(
        self,
        y: np.ndarray,
        predictions: np.ndarray,
        weights: Optional[np.ndarray] = None,
    ) -> None:
        """Compares the sums with the variables of Keras' own metric.

        Args:
          y, predictions: the labels and predictions of a few examples.
          weights: float32 `[batch]`, weights of the examples; None for an unweighted
            metric.

        Raises:
          ValueError: the metric is not a sum over examples.
        """
        own = () if weights is None else (tf.constant(weights),)
        given = as_in_fit(tf.constant(y), tf.constant(predictions), *own)
        whole, parts = self.fresh(), self.fresh()
        of_first: list[Any] = []
        try:
            whole.update_state(*given)
            for rows in (slice(0, 1), slice(1, None)):
                if len(y[rows]):
                    parts.update_state(*(values[rows] for values in given))
                    of_first = of_first or [parts.result()]
            each = self.sums(*given[:2], *own)
            sums = [np.sum(value, axis=0) for value in each]
            values = [[np.asarray(v) for v in m.variables] for m in (whole, parts)]
            value = whole.result()
        except Exception as error:  # Of a user's function: any.
            raise ValueError(
                f"metric {self.name!r} fails: {last_line(error)}{users_line(error)}"
            ) from error
        if isinstance(value, Mapping) or len(np.shape(value)):
            raise ValueError(
                f"metric {self.name!r} has several values, expected one number; give "
                "it an average, such as average='macro'"
            )
        # This simulates two clients; the first client has only the first example.
        clients = [np.stack([e[0], total]) for e, total in zip(each, sums)]
        results = by_row.mapped(lambda own: self.result(*own), clients)
        pairs: list[tuple[Any, Any]] = [
            *zip(values[0], values[1]),
            *zip(values[0], sums),
            *zip([float(of_first[0]), float(value)], np.asarray(results)),
        ]
        if any(np.shape(a) != np.shape(b) for a, b in pairs) or not all(
            np.allclose(a, b, 1e-4, 1e-5, True) for a, b in pairs
        ):
            raise ValueError(
                f"metric {self.name!r} is not a sum over examples, so clients cannot "
                "add it up; leave it out, or give an Objective whose "
                "Metric.of_examples computes it in evaluations"
            )


def example_metric(
    metric: Any, rule: Rule, higher_is_better: Mapping[str, bool]
) -> ExampleMetric:
    """Makes an `ExampleMetric` of a Keras metric.

    Args:
      metric: a metric of Keras, its name, a function of labels and predictions, or a
        function without arguments that returns a new metric.
      rule: the loss's rule for labels and outputs; it decides the kind of "accuracy".
      higher_is_better: directions of a user's own metrics, by name.

    Raises:
      ValueError: Keras has no such metric; the metric cannot be made anew from its
        configuration; or the metric's value is not a number.
    """
    fresh = fresh_maker(metric, rule)
    with_variables = fresh()
    name, is_usual = unnumbered(with_variables)
    if name in higher_is_better:
        higher: Optional[bool] = higher_is_better[name]
    else:
        higher = direction_of(with_variables)
    if isinstance(with_variables, tf.keras.metrics.AUC):
        of_examples = _area(with_variables)
        if of_examples is not None:
            area = Metric(True, is_partial=True, of_examples=of_examples)
            return ExampleMetric(name, is_usual, area)
    examples: list[Any] = []

    def contributions(
        y: tf.Tensor, predictions: tf.Tensor, *weights: tf.Tensor
    ) -> list[tf.Tensor]:
        def of_one(example: Any) -> list[tf.Tensor]:
            held: list[Accumulator] = []
            with tf.variable_creator_scope(creating(held)):
                fresh().update_state(*as_in_fit(*(e[tf.newaxis] for e in example)))
            return [accumulator.read_value() for accumulator in held]

        examples[:] = [tf.TensorSpec(v.shape[1:], v.dtype) for v in (y, predictions)]
        fixed = _mean_of_function(with_variables, y, predictions, *weights)
        if fixed is not None:
            return fixed
        return by_row.mapped(of_one, (y, predictions, *weights))

    def result(*summed: tf.Tensor) -> tf.Tensor:
        held: list[Accumulator] = []
        with tf.variable_creator_scope(creating(held)):
            made = fresh()
            if len(held) < len(summed):
                # Some metrics create their variables by the shapes of the first update.
                rows = [tf.zeros([1, *spec.shape], spec.dtype) for spec in examples]
                made.update_state(*as_in_fit(*rows))
            for accumulator, value in zip(held, summed):
                accumulator.assign(value)
            return tf.cast(made.result(), tf.float32)

    title = f"metric {name!r}, updated with one example and without variables,"
    return ExampleMetric(
        name,
        is_usual,
        Metric(higher),
        Traced(title, contributions),
        Traced(title, result, False),
        fresh,
    )


def _mean_of_function(
    metric: Any,
    y: tf.Tensor,
    predictions: tf.Tensor,
    weights: Optional[tf.Tensor] = None,
) -> Optional[list[tf.Tensor]]:
    """Computes sum and count of a mean over one of Keras' own functions, by example.

    This avoids a copy of the metric for each example. Returns None for other metrics.
    """
    base = tf.keras.metrics.MeanMetricWrapper
    kind = type(metric)
    is_own = kind.__module__.split(".")[0] == "keras" or kind is base
    if not (isinstance(metric, base) and is_own):
        return None
    if kind.update_state is not base.update_state or len(metric.variables) != 2:
        return None
    y, predictions = as_in_fit(y, predictions)
    y, predictions = tf.cast(y, metric.dtype), tf.cast(predictions, metric.dtype)
    rank, given = predictions.shape.rank, y.shape.rank
    if given == rank - 1 and predictions.shape[-1] == 1:
        predictions = tf.squeeze(predictions, axis=-1)
    elif given == rank + 1 and y.shape[-1] == 1:
        y = tf.squeeze(y, axis=-1)
    values = metric._fn(y, predictions, **metric._fn_kwargs)
    if values.shape.rank is None or values.shape.rank == 0:
        return None
    values = tf.cast(values, metric.dtype)
    counts = tf.ones_like(values)
    if weights is not None:
        shape = [-1] + [1] * (values.shape.rank - 1)
        factors = tf.reshape(tf.cast(weights, metric.dtype), shape)
        values, counts = values * factors, counts * factors
    axes = list(range(1, values.shape.rank))
    return [tf.reduce_sum(values, axes), tf.reduce_sum(counts, axes)]


def _area(metric: Any) -> Any:
    """Makes the exact area of Keras' AUC; None if thresholds or weights are given."""
    config = metric.get_config()
    if "thresholds" in config or config.get("label_weights") is not None:
        return None
    if config["curve"] == "ROC":
        several, single = ranking.mean_auc, ranking.auc_of_labels
    else:
        several = ranking.mean_average_precision
        single = ranking.average_precision_of_labels
    return several if config.get("multi_label") else single
