"""Selection of the best model, and early stopping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Optional

from tfl_research.tasks.metrics import Metric, higher_is_better

# The columns of metrics.csv for a weighted sum of metrics. The second column is for
# sums of metrics of held-out clients only, the first column for all other sums.
SCORE, HELD_OUT_SCORE = "eval_selection_score", "held_out_selection_score"


def metric_weights(text: str) -> dict[str, float]:
    """Parses "METRIC" or "METRIC:WEIGHT,METRIC:WEIGHT" into weights by metric.

    Raises:
      ValueError: a weight is not above 0, or a metric is given twice or without a
        weight.
    """
    parts = [part.strip() for part in text.split(",")]
    weights: dict[str, float] = {}
    for part in parts:
        name, colon, weight = part.partition(":")
        if not colon and len(parts) > 1:
            raise ValueError(
                f"{part!r} has no weight; expected METRIC:WEIGHT, as accuracy:0.5"
            )
        try:
            value = float(weight) if colon else 1.0
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise ValueError(
                f"{part!r} must have a weight above 0; expected METRIC:WEIGHT, as "
                "accuracy:0.5"
            )
        if name in weights:
            raise ValueError(f"{name!r} is given twice; give each metric once")
        weights[name] = value
    return weights


def selection_column(metric: str) -> str:
    """Returns the column of metrics.csv with the value of `Selection(metric)`."""
    weights = metric_weights(metric)
    if len(weights) == 1:
        return metric
    held_out = all(name.startswith("held_out_") for name in weights)
    return HELD_OUT_SCORE if held_out else SCORE


class Selection:
    """Tracks the best value of a metric, or of a weighted sum of metrics.

    A NaN is never the best value. A tie keeps the earlier round. In a weighted sum, a
    metric for which lower is better has a negative sign.

    Comparison with NVIDIA FLARE's `IntimeModelSelector`:

    - In both, the best value is the largest value so far, and a tie keeps the earlier
      model.
    - FLARE's value is a mean over clients, weighted by client (`aggregation_weights`;
      here "eval_weighted_mean_...", or "eval_client_mean_..." for equal weights) or by
      local iterations (the closest column here is "eval_...", weighted by examples).
    - FLARE selects by one metric; a flag negates the metric if lower is better. Here
      the metric has its direction, and several metrics can be weighed.
    - FLARE's clients evaluate the model of the round before when they receive it, and
      only the clients in the cohort count. Here the test splits of all clients count,
      after each `evaluate_every` rounds.

    Args:
      metric: a column of metrics.csv, such as "eval_accuracy", or several columns with
        weights, "eval_auc:0.7,eval_accuracy:0.3".
      patience: number of evaluations in a row without a better value after which the
        run stops, at least 1; None never stops the run.
      metrics: the declared metrics, by name; see `tasks.metrics`.

    Raises:
      ValueError: `patience` is below 1, `metric_weights` raises, or a metric has no
        declared direction.
    """

    def __init__(
        self,
        metric: str,
        patience: Optional[int] = None,
        metrics: Mapping[str, Metric] = MappingProxyType({}),
    ):
        if patience is not None and patience < 1:
            raise ValueError(
                f"early_stopping_patience must be at least 1, got {patience}"
            )
        self.metric = metric
        self._patience = patience
        self._weights = metric_weights(metric)
        self._sums = len(self._weights) > 1
        self._signs = {
            name: 1 if higher_is_better(name, metrics) else -1 for name in self._weights
        }
        self._higher = self._sums or self._signs[next(iter(self._weights))] > 0
        self.best_value: Optional[float] = None
        self.best_round: Optional[int] = None
        self._without_improvement = 0

    @property
    def column(self) -> str:
        """The column of metrics.csv that has the selection value."""
        return selection_column(self.metric)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of metrics.csv from which the selection value is computed."""
        return tuple(self._weights)

    def is_decided_by(self, cells: Mapping[str, float]) -> bool:
        """Whether an evaluation's cells have all columns that the value needs."""
        return all(name in cells for name in self._weights)

    def value_of(self, cells: Mapping[str, float]) -> float:
        """Computes the selection value of cells; NaN if a used cell is NaN."""
        if not self._sums:
            return cells[next(iter(self._weights))]
        return sum(
            self._signs[name] * weight * cells[name]
            for name, weight in self._weights.items()
        )

    def update(self, round_number: int, value: float) -> bool:
        """Adds an evaluation; returns whether it is the best so far."""
        if not math.isnan(value) and (
            self.best_value is None
            or (value > self.best_value if self._higher else value < self.best_value)
        ):
            self.best_value, self.best_round = value, round_number
            self._without_improvement = 0
            return True
        self._without_improvement += 1
        return False

    @property
    def should_stop(self) -> bool:
        """Whether the last `patience` evaluations had no better value."""
        return (
            self._patience is not None and self._without_improvement >= self._patience
        )

    def export(self) -> dict[str, Any]:
        """Returns the state as JSON values, for `restore`."""
        return {
            "metric": self.metric,
            "best_value": None if self.best_value is None else repr(self.best_value),
            "best_round": self.best_round,
            "without_improvement": self._without_improvement,
        }

    def restore(self, exported: Optional[Mapping[str, Any]]) -> None:
        """Restores the state that `export` returned.

        Raises:
          ValueError: the state is for another metric.
        """
        metric = None if exported is None else exported["metric"]
        if exported is None or metric != self.metric:
            raise ValueError(
                f"the run has selected its best model by {metric}, "
                f"expected {self.metric}"
            )
        value = exported["best_value"]
        self.best_value = None if value is None else float(value)
        self.best_round = exported["best_round"]
        self._without_improvement = exported["without_improvement"]
