"""Metrics of Keras as sums over examples.

A metric of Keras adds to its variables at each update. Such a metric is a sum over
examples if the update with a batch adds what the updates with its examples, one by one,
add together. An example's contribution is computed with a fresh metric, whose variables
are replaced by tensors. `tasks.fitting` compares both on real examples and refuses a
metric for which they differ.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from tfl_research.tasks import ranking
from tfl_research.tasks.metrics import Metric
from tfl_research.tasks.objectives.rules import Binary, Classes, OneHot, Rule
from tfl_research.tasks.objectives.tracing import (
    Traced,
    as_in_fit,
    last_line,
    required_arguments,
)

# The direction of Keras' own metrics, by a part of the class's or function's name.
_LOWER = (
    "error",
    "loss",
    "entropy",
    "hinge",
    "divergence",
    "poisson",
    "logcosh",
    "false",
    "mse",
    "mae",
    "mape",
    "msle",
    "kld",
)
_HIGHER = (
    "accuracy",
    "auc",
    "precision",
    "recall",
    "true",
    "iou",
    "score",
    "cosine",
    "sensitivity",
    "specificity",
)


class _Accumulator:
    """Stands in for a metric's variable: a tensor that assignments replace."""

    def __init__(self, value: np.ndarray):
        self.value_now: Any = value
        self.shape, self.dtype = value.shape, tf.as_dtype(value.dtype)
        self.name, self.trainable, self.aggregation = "accumulator", False, None

    def assign(self, value: Any, *_: Any, **__: Any) -> tf.Tensor:
        self.value_now = tf.reshape(tf.cast(value, self.dtype), self.shape)
        return self.value_now

    def assign_add(self, delta: Any, *_: Any, **__: Any) -> tf.Tensor:
        return self.assign(self.read_value() + tf.cast(delta, self.dtype))

    def assign_sub(self, delta: Any, *_: Any, **__: Any) -> tf.Tensor:
        return self.assign(self.read_value() - tf.cast(delta, self.dtype))

    def read_value(self) -> tf.Tensor:
        return tf.convert_to_tensor(self.value_now)

    def value(self) -> tf.Tensor:
        return self.read_value()

    def __getitem__(self, index: Any) -> tf.Tensor:
        return self.read_value()[index]


def _to_tensor(
    value: _Accumulator, dtype: Any = None, name: Any = None, as_ref: bool = False
) -> tf.Tensor:
    del name, as_ref
    tensor = value.read_value()
    return tensor if dtype is None else tf.cast(tensor, dtype)


tf.register_tensor_conversion_function(_Accumulator, _to_tensor)
for _operator in ("add", "sub", "mul", "truediv", "pow", "gt", "ge", "lt", "le"):
    for _side in ("", "r"):
        _name = f"__{_side}{_operator}__"
        if hasattr(tf.Tensor, _name):

            def _forwarded(self: Any, other: Any, _name: str = _name) -> Any:
                if isinstance(other, _Accumulator):
                    other = other.read_value()
                return getattr(self.read_value(), _name)(other)

            setattr(_Accumulator, _name, _forwarded)


@dataclasses.dataclass(frozen=True)
class ExampleMetric:
    """A metric of Keras by example.

    Attributes:
      name: of the metric.
      is_usual: whether the name is the one that Keras gives to metrics of this kind.
      metric: direction and aggregation.
      sums: (y, predictions) -> the contributions of each example to the metric's
        variables, `[batch, ...]` each; None for a metric of all examples.
      result: the metric of the summed variables; None for a metric of all examples.
      fresh: makes a new metric of Keras; None for a metric of all examples.
    """

    name: str
    is_usual: bool
    metric: Metric
    sums: Any = None
    result: Any = None
    fresh: Any = None

    def check(self, y: np.ndarray, predictions: np.ndarray) -> None:
        """Compares the sums with the variables of Keras' own metric.

        Raises:
          ValueError: the metric is no sum over examples.
        """
        y, predictions = as_in_fit(tf.constant(y), tf.constant(predictions))
        whole, parts = self.fresh(), self.fresh()
        try:
            whole.update_state(y, predictions)
            for rows in (slice(0, 1), slice(1, None)):
                if len(y[rows]):
                    parts.update_state(y[rows], predictions[rows])
        except Exception as error:  # Of a user's function: any.
            raise ValueError(
                f"metric {self.name!r} fails: {last_line(error)}"
            ) from error
        sums = [np.sum(value, axis=0) for value in self.sums(y, predictions)]
        values = [[np.asarray(v) for v in m.variables] for m in (whole, parts)]
        value = whole.result()
        if isinstance(value, Mapping) or len(np.shape(value)):
            raise ValueError(
                f"metric {self.name!r} has several values, expected one number; give "
                "it an average, as average='macro'"
            )
        results = [float(value), float(self.result(*sums))]
        pairs: list[tuple[Any, Any]] = [
            *zip(values[0], values[1]),
            *zip(values[0], sums),
            (results[0], results[1]),
        ]
        if any(np.shape(a) != np.shape(b) for a, b in pairs) or not all(
            np.allclose(a, b, 1e-4, 1e-5, True) for a, b in pairs
        ):
            raise ValueError(
                f"metric {self.name!r} is no sum over examples, so that clients cannot "
                "add it up; leave it out, or give an Objective whose "
                "Metric.of_examples computes it in evaluations"
            )


def example_metric(
    metric: Any, rule: Rule, higher_is_better: Mapping[str, bool]
) -> ExampleMetric:
    """A metric of Keras by example.

    Args:
      metric: a metric of Keras, its name, a function of labels and predictions, or a
        function without arguments that returns a new metric.
      rule: what the loss takes; says what "accuracy" means.
      higher_is_better: directions of a user's own metrics, by name.

    Raises:
      ValueError: no such metric; a metric that cannot be made anew from its
        configuration; a metric whose value is no number.
    """
    fresh = _fresh(metric, rule)
    with_variables = fresh()
    name, is_usual = _unnumbered(with_variables)
    if name in higher_is_better:
        higher: Optional[bool] = higher_is_better[name]
    else:
        higher = _direction(with_variables)
    if isinstance(with_variables, tf.keras.metrics.AUC):
        of_examples = _area(with_variables)
        if of_examples is not None:
            area = Metric(True, is_partial=True, of_examples=of_examples)
            return ExampleMetric(name, is_usual, area)
    examples: list[Any] = []

    def contributions(y: tf.Tensor, predictions: tf.Tensor) -> list[tf.Tensor]:
        def of_one(example: Any) -> list[tf.Tensor]:
            held: list[_Accumulator] = []
            with tf.variable_creator_scope(_creating(held)):
                rows = as_in_fit(example[0][tf.newaxis], example[1][tf.newaxis])
                fresh().update_state(*rows)
            return [accumulator.read_value() for accumulator in held]

        examples[:] = [tf.TensorSpec(v.shape[1:], v.dtype) for v in (y, predictions)]
        fixed = _mean_of_function(with_variables, y, predictions)
        return tf.vectorized_map(of_one, (y, predictions)) if fixed is None else fixed

    def result(*summed: tf.Tensor) -> tf.Tensor:
        held: list[_Accumulator] = []
        with tf.variable_creator_scope(_creating(held)):
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


def _unnumbered(metric: Any) -> tuple[str, bool]:
    """The name without the number that Keras adds, and whether it is the kind's."""
    words = re.sub("(.)([A-Z][a-z0-9]+)", r"\1_\2", type(metric).__name__)
    usual = re.sub("([a-z])([A-Z])", r"\1_\2", words).lower()
    is_usual = re.fullmatch(rf"{usual}(_\d+)?", metric.name) is not None
    return (usual if is_usual else str(metric.name)), is_usual


def _creating(held: list[_Accumulator]) -> Any:
    """Creates tensors in the place of a metric's variables, and adds them to a list."""

    def create(_: Any, **kwargs: Any) -> _Accumulator:
        initial = kwargs["initial_value"]
        # Keras makes it outside of the graph, which has constants of its own.
        value = initial() if callable(initial) else initial
        held.append(_Accumulator(np.asarray(value)))
        return held[-1]

    return create


def _mean_of_function(
    metric: Any, y: tf.Tensor, predictions: tf.Tensor
) -> Optional[list[tf.Tensor]]:
    """Sum and number of the values of a mean over a function of Keras' own, by example.

    It saves a copy of the metric for each example. None for other metrics.
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
    axes = list(range(1, values.shape.rank))
    return [tf.reduce_sum(values, axes), tf.reduce_sum(tf.ones_like(values), axes)]


def _area(metric: Any) -> Any:
    """The exact area of an AUC of Keras; None for thresholds or weights of its own."""
    config = metric.get_config()
    if "thresholds" in config or config.get("label_weights") is not None:
        return None
    if config["curve"] == "ROC":
        several, single = ranking.mean_auc, ranking.auc_of_labels
    else:
        several = ranking.mean_average_precision
        single = ranking.average_precision_of_labels
    return several if config.get("multi_label") else single


def _fresh(metric: Any, rule: Rule) -> Any:
    """A function that makes a new metric like the given one."""
    metrics = tf.keras.metrics
    if isinstance(metric, str):
        name = metric
        if name in ("accuracy", "acc"):
            return lambda: _accuracy(rule, name)
        try:
            metric = metrics.get(name)
        except ValueError as error:
            raise ValueError(f"Keras has no metric {name!r}") from error
        if isinstance(metric, type):
            return metric
        if isinstance(metric, str) or not callable(metric):
            raise ValueError(f"Keras has no metric {name!r}")
        if not isinstance(metric, metrics.Metric):
            function = metric
            return lambda: metrics.MeanMetricWrapper(function, name=name)
    if isinstance(metric, metrics.Metric):
        given = metric
        try:
            config = given.get_config()
            made = type(given).from_config(dict(config))
        except Exception as error:
            raise ValueError(
                f"metric {given.name!r} cannot be made anew from get_config() "
                f"({last_line(error)}); give a function that returns a "
                "new one"
            ) from error
        shapes = [[tuple(v.shape) for v in m.variables] for m in (given, made)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"metric {given.name!r} made anew from get_config() has variables of "
                f"shapes {shapes[1]}, expected {shapes[0]}; give a function that "
                "returns a new one"
            )
        return lambda: type(given).from_config(dict(config))
    if isinstance(metric, type) and issubclass(metric, metrics.Metric):
        return metric
    if callable(metric) and required_arguments(metric) == 2:
        named = str(getattr(metric, "__name__", "metric"))
        return lambda: metrics.MeanMetricWrapper(metric, name=named)
    is_maker = callable(metric) and required_arguments(metric) == 0
    if is_maker and isinstance(metric(), metrics.Metric):
        return metric
    raise ValueError(
        "a metric must be a metric of Keras, its name, or a function of labels and "
        f"predictions, got {metric!r}"
    )


def _accuracy(rule: Rule, name: str) -> Any:
    """What Keras means by "accuracy", by the loss; logits are positive above 0."""
    metrics = tf.keras.metrics
    if isinstance(rule, Classes):
        return metrics.SparseCategoricalAccuracy(name)
    if isinstance(rule, OneHot):
        return metrics.CategoricalAccuracy(name)
    if isinstance(rule, Binary):
        threshold = 0.0 if rule.from_logits else 0.5
        return metrics.BinaryAccuracy(name, threshold=threshold)
    raise ValueError(
        f"metric {name!r} needs a cross-entropy as the loss; give a metric of Keras, "
        "as BinaryAccuracy()"
    )


def _direction(metric: Any) -> Optional[bool]:
    """The direction of a metric of Keras' own; None for others."""
    kind = type(metric)
    words = kind.__name__
    if kind is tf.keras.metrics.MeanMetricWrapper:
        function = metric._fn
        module = str(getattr(function, "__module__", ""))
        words = str(getattr(function, "__name__", ""))
    else:
        module = kind.__module__
    if module.split(".")[0] != "keras":
        return None
    words = words.lower().replace("_", "")
    if any(part in words for part in _LOWER):
        return False
    return True if any(part in words for part in _HIGHER) else None
