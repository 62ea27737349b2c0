"""Which round's model is the best, and when to stop looking for a better one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Optional

from tfl_research.program.evaluation.client_metrics import higher_is_better

# Column of a weighted sum of metrics.
SCORE = "eval_selection_score"


def metric_weights(text: str) -> dict[str, float]:
    """The weight of each metric in "METRIC" or in "METRIC:WEIGHT,METRIC:WEIGHT".

    Raises:
      ValueError: a weight that is not above 0, a metric twice or without its weight,
        or one of which it is not known whether higher is better.
    """
    parts = [part.strip() for part in text.split(",")]
    weights: dict[str, float] = {}
    for part in parts:
        name, colon, weight = part.partition(":")
        if not colon and len(parts) > 1:
            raise ValueError(f"{part!r} has no weight; expected METRIC:WEIGHT")
        try:
            value = float(weight) if colon else 1.0
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise ValueError(f"{part!r} has no weight above 0; expected METRIC:WEIGHT")
        if name in weights:
            raise ValueError(f"{name!r} is given twice")
        higher_is_better(name)
        weights[name] = value
    return weights


class Selection:
    """The best value of one metric so far, or of a weighted sum of metrics.

    A NaN never wins, and a tie keeps the earlier round. In a weighted sum, metrics of
    which lower is better count negatively; what the sum is called is the text itself.

    Beside NVIDIA FLARE's `IntimeModelSelector`: there too the best is the largest value
    so far, ties keep the earlier model, and the value is a mean over clients,
    weighted by client (`aggregation_weights`, here "eval_weighted_mean_...", with equal
    weights "eval_client_mean_...") or by local iterations (the closest here is
    "eval_...", by examples). It has one metric, which has to be negated by a flag where
    lower is better; here the direction follows from the name, and several metrics can
    be weighed. There clients measure the model of the round before as they receive it,
    and those that are not in the cohort do not count; here every client's test split
    does, after each `evaluate_every` rounds.

    Args:
      metric: a column of metrics.csv, such as "eval_accuracy", or several with
        weights, "eval_auc:0.7,eval_accuracy:0.3".
      patience: evaluations in a row without a better value after which to stop,
        at least 1; None never stops.

    Raises:
      ValueError: `patience` below 1, or what `metric_weights` raises.
    """

    def __init__(self, metric: str, patience: Optional[int] = None):
        if patience is not None and patience < 1:
            raise ValueError(
                f"early_stopping_patience must be at least 1, got {patience}"
            )
        self.metric = metric
        self._patience = patience
        self._weights = metric_weights(metric)
        self._sums = len(self._weights) > 1
        self._higher = self._sums or higher_is_better(next(iter(self._weights)))
        self.best_value: Optional[float] = None
        self.best_round: Optional[int] = None
        self._without_improvement = 0

    @property
    def column(self) -> str:
        """The column of metrics.csv that has the value."""
        return SCORE if self._sums else self.metric

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of metrics.csv that the value is made of."""
        return tuple(self._weights)

    def value_of(self, cells: Mapping[str, float]) -> float:
        """The value that an evaluation's cells come to; NaN where one is."""
        if not self._sums:
            return cells[next(iter(self._weights))]
        return sum(
            (weight if higher_is_better(name) else -weight) * cells[name]
            for name, weight in self._weights.items()
        )

    def update(self, round_number: int, value: float) -> bool:
        """Takes an evaluation in; whether it is the best so far."""
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
        """Whether the last `patience` evaluations brought nothing better."""
        return (
            self._patience is not None and self._without_improvement >= self._patience
        )

    def export(self) -> dict[str, Any]:
        """JSON values from which `restore` goes on."""
        return {
            "metric": self.metric,
            "best_value": None if self.best_value is None else repr(self.best_value),
            "best_round": self.best_round,
            "without_improvement": self._without_improvement,
        }

    def restore(self, exported: Mapping[str, Any]) -> None:
        """Goes on from what `export` gave.

        Raises:
          ValueError: it was of another metric.
        """
        if exported["metric"] != self.metric:
            raise ValueError(
                f"the run has selected its best model by {exported['metric']}, "
                f"expected {self.metric}"
            )
        value = exported["best_value"]
        self.best_value = None if value is None else float(value)
        self.best_round = exported["best_round"]
        self._without_improvement = exported["without_improvement"]
