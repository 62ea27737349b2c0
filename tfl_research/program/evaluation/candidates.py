"""The models that a run keeps, their evaluations, and the choice of the best model."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

from tfl_research.errors import UserError
from tfl_research.program.evaluation.client_metrics import Evaluation
from tfl_research.program.evaluation.selection import Selection
from tfl_research.program.interfaces import Evaluates
from tfl_research.storage import nest


class Candidates:
    """Evaluates models, and keeps the best model and the last evaluations.

    Attributes:
      selection: decides which model is the best.
      best: weights of the best model, or None.
      untrained: metrics of the untrained model, by the columns of metrics.csv.
    """

    def __init__(self, evaluator: Evaluates, selection: Selection):
        self._evaluator = evaluator
        self.selection = selection
        self.best: Any = None
        self.untrained: dict[str, float] = {}
        # By round and split: the evaluations of the last and of the best model.
        self._evaluations: dict[int, dict[str, Evaluation]] = {}

    def evaluate_untrained(self, weights: Any) -> Mapping[str, float]:
        """Evaluates the untrained model.

        Raises:
          UserError: the evaluation does not have the selection metric.
        """
        cells = self._evaluate(0, weights)
        for name in self.selection.columns:
            if name not in cells:
                raise UserError(
                    f"selection metric {name!r} is not evaluated in this task; "
                    f"choose one of {', '.join(cells)}"
                )
        self.untrained = dict(cells)
        return cells

    def evaluate(self, round_number: int, weights: Any) -> dict[str, float]:
        """Evaluates a round's model and keeps it if it is the best so far.

        Returns:
          Cells of metrics.csv.
        """
        cells = self._evaluate(round_number, weights)
        if self.selection.update(round_number, self.selection.value_of(cells)):
            self.best = nest.copied(weights)
        kept = (round_number, self.selection.best_round)
        self._evaluations = {
            number: evaluations
            for number, evaluations in self._evaluations.items()
            if number in kept
        }
        return cells

    def _evaluate(
        self, round_number: int, weights: Any
    ) -> collections.OrderedDict[str, float]:
        evaluations = self._evaluations[round_number] = {
            split: self._evaluator.evaluate(weights, split)
            for split in self._evaluator.splits
        }
        cells: collections.OrderedDict[str, float] = collections.OrderedDict()
        for split, evaluation in evaluations.items():
            cells.update(evaluation.columns(split))
        if set(self.selection.columns) <= set(cells):
            cells[self.selection.column] = self.selection.value_of(cells)
        return cells

    def evaluations(
        self, models: Mapping[str, tuple[int, Any]]
    ) -> dict[tuple[str, str], Evaluation]:
        """Returns evaluations by (model, split), and makes those that are missing.

        Args:
          models: `{name: (round, weights)}`.
        """
        results = {}
        for name, (round_number, weights) in models.items():
            if round_number not in self._evaluations:
                self._evaluate(round_number, weights)
            for split, evaluation in self._evaluations[round_number].items():
                results[name, split] = evaluation
        return results

    def export(self) -> dict[str, Any]:
        """Returns the state as JSON values, for `restore`."""
        return {
            "selection": self.selection.export(),
            # Text, since JSON has no NaN.
            "untrained": [(name, repr(v)) for name, v in self.untrained.items()],
        }

    def restore(self, exported: Mapping[str, Any], best: Any) -> None:
        """Restores the state that `export` returned, and the best model's weights.

        Raises:
          ValueError: the models were selected by another metric.
        """
        self.best = best
        self.untrained = {name: float(value) for name, value in exported["untrained"]}
        self.selection.restore(exported["selection"])
