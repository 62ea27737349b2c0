"""What a metric's values mean: the better direction, and how they are aggregated."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Optional

# (labels, predictions), arrays of all examples or structures of them -> the value.
OfExamples = Callable[[Any, Any], float]

# By a name's last word, for metrics that an objective does not declare.
_HIGHER = ("accuracy", "auc", "precision", "recall", "f1")
_LOWER = ("loss", "error", "perplexity")


@dataclasses.dataclass(frozen=True)
class Metric:
    """How values of a metric are read and aggregated.

    Attributes:
      higher_is_better: the direction; None if it is not declared. Such a metric is
        measured, but cannot choose the best model and has no worst clients.
      is_partial: whether a client with examples may have no value, as the area under
        the ROC curve of one class. Such a client is left out of means across clients.
        The NaN of any other metric, or together with a loss that is NaN, tells that
        the model diverged.
      of_examples: computes the metric from all examples at once, for a metric that is
        no function of sums. None for a metric that `Objective.finalize` computes from
        sums over examples. Train metrics are made of sums alone.
    """

    higher_is_better: Optional[bool] = None
    is_partial: bool = False
    of_examples: Optional[OfExamples] = None


def metric(name: str, declared: Mapping[str, Metric]) -> Metric:
    """The declared metric of this name, else what the name's last word tells.

    Example:
      >>> metric("top_5", {"top_5": Metric(higher_is_better=True)}).higher_is_better
      True
      >>> metric("mean_absolute_error", {}).higher_is_better
      False
      >>> metric("size", {}).higher_is_better is None
      True
    """
    if name in declared:
        return declared[name]
    last = name.rpartition("_")[2]
    if last in _HIGHER + _LOWER:
        return Metric(last in _HIGHER, is_partial=last == "auc")
    return Metric()


def metric_of_column(column: str, declared: Mapping[str, Metric]) -> Metric:
    """The metric in a column of metrics.csv, as "eval_client_mean_accuracy".

    Example:
      >>> metric_of_column("eval_my_error", {"my_error": Metric(True)}).higher_is_better
      True
    """
    names = [n for n in declared if column == n or column.endswith(f"_{n}")]
    return metric(max(names, key=len), declared) if names else metric(column, {})


def higher_is_better(column: str, declared: Mapping[str, Metric]) -> bool:
    """Whether larger values in a column are better.

    Raises:
      ValueError: the direction is not declared.
    """
    found = metric_of_column(column, declared).higher_is_better
    if found is None:
        raise ValueError(
            f"nobody knows whether a higher {column!r} is better; declare it, as "
            "Objective(..., metrics={name: Metric(higher_is_better=True)}), or give a "
            f"name that ends in one of {', '.join(_HIGHER + _LOWER)}"
        )
    return found
