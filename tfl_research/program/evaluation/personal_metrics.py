"""Metrics of clients' personal models: summary, printed lines, table."""

from __future__ import annotations

import csv
import dataclasses
import io
from typing import Any

import numpy as np

from tfl_research.program.evaluation.client_metrics import Evaluation
from tfl_research.storage.files import safe_text
from tfl_research.tasks.metrics import metric as metric_of


@dataclasses.dataclass(frozen=True)
class PersonalEvaluation:
    """Metrics of the global and of the personal models, on the clients' test examples.

    Attributes:
      round_number: round of the global model.
      global_model: metrics of the global model.
      personal: metrics of the clients' personal models.
      train_examples: int64 `[clients]`, distinct examples that a personal model was
        trained on.
    """

    round_number: int
    global_model: Evaluation
    personal: Evaluation
    train_examples: np.ndarray

    def gains(self, metric: str) -> float:
        """Returns the share of the compared clients with a better personal model.

        A personal model that has no value, since it diverged, is not better. The share
        is NaN without clients, and for a metric without a declared direction.
        """
        ours, theirs = (
            e.per_client[metric] for e in (self.personal, self.global_model)
        )
        known = self._compared(metric)
        higher = metric_of(metric, self.personal.metrics).higher_is_better
        if higher is None or not known.any():
            return float("nan")
        better = ours > theirs if higher else ours < theirs
        return float(better[known].mean())

    def _compared(self, metric: str) -> np.ndarray:
        """bool `[clients]`: the clients for which the global model has a value."""
        return ~np.isnan(self.global_model.per_client[metric])

    def compared(self, metric: str) -> int:
        """Counts the clients whose two models `gains` compares.

        Clients for which the global model has no value are ignored. For example, a
        client with examples of one class only has no AUC.
        """
        return int(self._compared(metric).sum())

    def summary(self) -> dict[str, Any]:
        """Returns means, worst deciles and shares of gaining clients as JSON values."""
        summary: dict[str, Any] = {
            "round": self.round_number,
            "clients": len(self.personal.client_ids),
        }
        for metric in self.personal.per_client:
            for name, evaluation in (
                ("global", self.global_model),
                ("personal", self.personal),
            ):
                spread = evaluation.spread(metric)
                summary[f"{name}_client_mean_{metric}"] = spread.mean
                summary[f"{name}_client_worst_decile_{metric}"] = spread.worst_decile
            summary[f"gain_share_{metric}"] = self.gains(metric)
        return summary

    def lines(self) -> list[str]:
        """Returns the lines that are printed when a run ends."""
        if not self.personal.client_ids:
            return ["personal models: no client has test examples"]
        lines = []
        for metric in self.personal.per_client:
            ours, theirs = (
                e.spread(metric) for e in (self.personal, self.global_model)
            )
            lines.append(
                f"personal models  {metric}: client mean {theirs.mean:.4g} -> "
                f"{ours.mean:.4g}  worst decile {theirs.worst_decile:.4g} -> "
                f"{ours.worst_decile:.4g}  better for {self.gains(metric):.1%} of "
                f"{self.compared(metric)} clients"
            )
        return lines

    def table(self) -> bytes:
        """Returns personal_clients.csv: a row for each client with test examples."""
        metrics = list(self.personal.per_client)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            ["client_id", "examples", "train_examples"]
            + [f"global_{m}" for m in metrics]
            + [f"personal_{m}" for m in metrics]
        )
        for row, client_id in enumerate(self.personal.client_ids):
            cells = [
                f"{e.per_client[m][row]:.6g}"
                for e in (self.global_model, self.personal)
                for m in metrics
            ]
            examples = int(self.personal.examples[row])
            name = safe_text.to_cell(client_id)
            writer.writerow([name, examples, int(self.train_examples[row]), *cells])
        return text.getvalue().encode()
