"""Makes new copies of Keras' metrics, and knows their directions."""

from __future__ import annotations

import re
from typing import Any, Optional

import tensorflow as tf

from tfl_research.tasks.objectives.rules import Binary, Classes, OneHot, Rule
from tfl_research.tasks.objectives.tracing import last_line, required_arguments

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


def unnumbered(metric: Any) -> tuple[str, bool]:
    """Returns the name without Keras' number, and whether it is Keras' own name."""
    words = re.sub("(.)([A-Z][a-z0-9]+)", r"\1_\2", type(metric).__name__)
    usual = re.sub("([a-z])([A-Z])", r"\1_\2", words).lower()
    is_usual = re.fullmatch(rf"{usual}(_\d+)?", metric.name) is not None
    return (usual if is_usual else str(metric.name)), is_usual


def fresh_maker(metric: Any, rule: Rule) -> Any:
    """Returns a function that makes new metrics like the given metric."""
    metrics = tf.keras.metrics
    if isinstance(metric, str):
        name = metric
        if name in ("accuracy", "acc"):
            return lambda: _accuracy(rule, name)
        try:
            metric = metrics.get(name)
        except ValueError as error:
            raise ValueError(
                f"Keras has no metric {name!r}; give a name that Keras has, or a metric"
            ) from error
        if isinstance(metric, type):
            return metric
        if isinstance(metric, str) or not callable(metric):
            raise ValueError(
                f"Keras has no metric {name!r}; give a name that Keras has, or a metric"
            )
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
                f"metric {given.name!r} cannot be made again from get_config() "
                f"({last_line(error)}); give a function that returns a new metric"
            ) from error
        shapes = [[tuple(v.shape) for v in m.variables] for m in (given, made)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"metric {given.name!r} made again from get_config() has variables of "
                f"shapes {shapes[1]}, expected {shapes[0]}; give a function that "
                "returns a new metric"
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
    """Makes Keras' "accuracy" for the loss; logits above 0 count as positive."""
    metrics = tf.keras.metrics
    if isinstance(rule, Classes):
        return metrics.SparseCategoricalAccuracy(name)
    if isinstance(rule, OneHot):
        return metrics.CategoricalAccuracy(name)
    if isinstance(rule, Binary):
        threshold = 0.0 if rule.from_logits else 0.5
        return metrics.MeanMetricWrapper(_by_outputs, name, threshold=threshold)
    raise ValueError(
        f"metric {name!r} needs a cross-entropy as the loss; give a metric of Keras, "
        "such as BinaryAccuracy()"
    )


def _by_outputs(y: tf.Tensor, predictions: tf.Tensor, threshold: float) -> tf.Tensor:
    """Computes the accuracy that Keras chooses by the number of outputs alone."""
    metrics = tf.keras.metrics
    if predictions.shape[-1] == 1:
        return metrics.binary_accuracy(y, predictions, threshold)
    return metrics.categorical_accuracy(y, predictions)


def direction_of(metric: Any) -> Optional[bool]:
    """Returns the direction of a metric of Keras' own; None for other metrics."""
    kind = type(metric)
    words = kind.__name__
    if kind is tf.keras.metrics.MeanMetricWrapper:
        function = metric._fn
        if function is _by_outputs:
            return True
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
