"""The direction of a metric, and how its values are aggregated."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Optional

# (labels, predictions), arrays of all examples or structures of them -> the value.
OfExamples = Callable[[Any, Any], float]

# Last words of names whose metrics have a usual direction, if none is declared.
_HIGHER = ("accuracy", "auc", "precision", "recall", "f1")
_LOWER = ("loss", "error", "perplexity")


@dataclasses.dataclass(frozen=True)
class Metric:
    """How values of a metric are read and aggregated.

    Attributes:
      higher_is_better: the direction; None if it is not declared. Such a metric is
        measured, but cannot choose the best model and has no worst clients.
      is_partial: whether the metric may be undefined for a client with examples, as
        the area under the ROC curve for examples of one class. Such a client is left
        out of means across clients. If the metric is not partial, or the loss is NaN
        too, a NaN means that the model diverged.
      of_examples: computes the metric from all examples at once, for a metric that is
        no function of sums. None for a metric that `Objective.finalize` computes from
        sums over examples. Only metrics of sums are measured in training.
    """

    higher_is_better: Optional[bool] = None
    is_partial: bool = False
    of_examples: Optional[OfExamples] = None


def metric(name: str, declared: Mapping[str, Metric]) -> Metric:
    """Returns the declared metric of a name, or a metric by the name's last word.

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
    """Returns the metric in a column of metrics.csv ("eval_client_mean_accuracy").

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
            f"it is not known whether a higher {column!r} is better; declare it: "
            "Objective(..., metrics={name: Metric(higher_is_better=True)}), or give a "
            f"name that ends in one of {', '.join(_HIGHER + _LOWER)}"
        )
    return found
