"""The result of an evaluation: over all examples, by client, and across clients."""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np

from tfl_research.storage.files import safe_text
from tfl_research.tasks.metrics import Metric, metric as metric_of


@dataclasses.dataclass(frozen=True)
class Spread:
    """A metric across clients; each client counts once.

    `worst_decile` and `worst` are NaN for a metric without a declared direction.

    Attributes:
      mean: the mean over clients.
      worst_decile: the mean over the worst tenth of the clients. Of n clients, the
        worst tenth are the ceil(n/10) clients with the lowest values where higher is
        better (accuracy), and with the highest values where lower is better (loss).
        With at most 10 clients, the worst tenth is the worst client.
      worst: the worst client's value.
    """

    mean: float
    worst_decile: float
    worst: float


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A model's metrics on some clients' examples.

    Attributes:
      overall: `{metric: value}` over all examples together.
      client_ids: the clients; the arrays below have this order.
      examples: int64 `[clients]`, number of evaluated examples.
      per_client: `{metric: float64 [clients]}`, NaN for clients without examples.
      weights: float64 `[clients]`, at least 0, weights of the weighted mean across
        clients; None for no weighted mean.
      metrics: the declared metrics, by name; see `tasks.metrics`.
    """

    overall: Mapping[str, float]
    client_ids: Sequence[str]
    examples: np.ndarray
    per_client: Mapping[str, np.ndarray]
    weights: Optional[np.ndarray] = None
    metrics: Mapping[str, Metric] = dataclasses.field(default_factory=dict)

    def _valued(self, metric: str, counts: np.ndarray) -> np.ndarray:
        """bool `[clients]`: the clients in `counts` that have a value of the metric."""
        counts = counts & (self.examples > 0)
        if metric_of(metric, self.metrics).is_partial:
            # An example is the AUC of a client with examples of one class only. If the
            # loss is NaN too, the model has diverged for the client.
            undefined = np.isnan(self.per_client[metric])
            if "loss" in self.per_client:
                undefined = undefined & ~np.isnan(self.per_client["loss"])
            counts = counts & ~undefined
        return counts

    def weighted_mean(self, metric: str) -> float:
        """Computes the mean across clients, weighted by `weights`.

        The mean is NaN if no client has a value.

        Raises:
          ValueError: `weights` is None.
        """
        if self.weights is None:
            raise ValueError(
                "the evaluation has no weights of clients; give clients' weights to "
                "the evaluator"
            )
        chosen = self._valued(metric, self.weights > 0)
        if not chosen.any():
            return math.nan
        values = self.per_client[metric][chosen]
        return float(np.average(values, weights=self.weights[chosen]))

    def spread(self, metric: str) -> Spread:
        """Computes the metric across the clients that have a value; NaN without any.

        Clients without examples are ignored. Clients for which a partial metric
        (`Metric.is_partial`) is undefined are ignored too. Any other NaN of a client
        with examples means that the model diverged; then the whole spread is NaN.
        """
        everyone = np.ones(len(self.examples), bool)
        values = self.per_client[metric][self._valued(metric, everyone)]
        if len(values) == 0 or np.isnan(values).any():
            return Spread(math.nan, math.nan, math.nan)
        worst_first = np.sort(values)
        higher = metric_of(metric, self.metrics).higher_is_better
        if higher is None:
            return Spread(float(values.mean()), math.nan, math.nan)
        if not higher:
            worst_first = worst_first[::-1]
        worst_tenth = worst_first[: -(-len(values) // 10)]
        return Spread(
            float(values.mean()), float(worst_tenth.mean()), float(worst_first[0])
        )

    def columns(self, split: str) -> collections.OrderedDict[str, float]:
        """Returns cells of metrics.csv: overall metrics, and their spread over clients.

        `client_mean`, `client_worst_decile` and `client_worst` are defined in `Spread`.

        Args:
          split: "eval" for the training clients' test splits, "held_out" for clients
            that are never trained on.
        """
        cells = collections.OrderedDict(
            (f"{split}_{name}", value) for name, value in self.overall.items()
        )
        for name in self.per_client:
            spread = self.spread(name)
            cells[f"{split}_client_mean_{name}"] = spread.mean
            if metric_of(name, self.metrics).higher_is_better is not None:
                cells[f"{split}_client_worst_decile_{name}"] = spread.worst_decile
                cells[f"{split}_client_worst_{name}"] = spread.worst
            if self.weights is not None:
                cells[f"{split}_weighted_mean_{name}"] = self.weighted_mean(name)
        return cells


def client_table(evaluations: Mapping[tuple[str, str], Evaluation]) -> bytes:
    """Returns the content of clients.csv: a row for each model, split and client.

    Args:
      evaluations: `{(model, split): evaluation}`, such as `("best", "eval")`.
    """
    metrics = list(dict.fromkeys(m for e in evaluations.values() for m in e.per_client))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "split", "client_id", "examples", *metrics])
    for (model, split), evaluation in evaluations.items():
        for row, client_id in enumerate(evaluation.client_ids):
            examples = int(evaluation.examples[row])
            cells = [
                f"{evaluation.per_client[m][row]:.6g}"
                if examples and m in evaluation.per_client
                else ""
                for m in metrics
            ]
            writer.writerow(
                [model, split, safe_text.to_cell(client_id), examples, *cells]
            )
    return text.getvalue().encode()
