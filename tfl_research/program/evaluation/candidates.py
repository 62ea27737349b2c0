"""The models that a run keeps, their evaluations, and the choice of the best model."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from tfl_research.errors import UserError
from tfl_research.outputs import Release
from tfl_research.outputs.files import CLIENTS
from tfl_research.program.evaluation.client_metrics import Evaluation
from tfl_research.program.evaluation.deciding import (
    NOTHING_DECIDES,
    PRIVATE_ACCURACY,
    PRIVATE_CHOICE,
)
from tfl_research.program.evaluation.private_metrics import (
    METRIC,
    PrivateAccuracy,
    PrivateChoice,
)
from tfl_research.program.evaluation.selection import Selection
from tfl_research.program.interfaces import Account, Evaluates
from tfl_research.storage import nest

_EVAL, _HELD_OUT = "eval", "held_out"


class Candidates:
    """Evaluates models, and keeps the best model and the last evaluations.

    A split is evaluated if one of its metrics is released, or is needed for a private
    metric.

    Attributes:
      selection: decides which model is the best; None if no metric may decide.
      choice: decides by the exponential mechanism, instead of `selection`.
      best: weights of the best model, or None.
      untrained: metrics of the untrained model, by the columns of metrics.csv.
      choice_epsilon: ε of the run with the private choice; None until the choice is
        charged.
      epsilon: ε after the private evaluation of the last evaluated round; None if there
        was none.
    """

    def __init__(
        self,
        evaluator: Evaluates,
        selection: Optional[Selection],
        release: Release = Release(),  # noqa: B008
        *,
        accuracy: Optional[PrivateAccuracy] = None,
        choice: Optional[PrivateChoice] = None,
        account: Optional[Account] = None,
    ):
        self._evaluator = evaluator
        self._release = release
        self._accuracy = accuracy
        self._account = account
        self.selection = selection
        self.choice = choice
        self.best: Any = None
        self.untrained: dict[str, float] = {}
        self.choice_epsilon: Optional[float] = None
        self.epsilon: Optional[float] = None
        # The evaluations of the last and of the best model, by round and split.
        self._evaluations: dict[int, dict[str, Evaluation]] = {}

    @property
    def best_round(self) -> Optional[int]:
        """Round of the best model, or None; a private choice is secret at first."""
        if self.choice is not None:
            return self.choice.best_round
        return None if self.selection is None else self.selection.best_round

    @property
    def best_value(self) -> Optional[float]:
        """The selection value of the best model; None if the value is secret."""
        if self.choice is not None or self.selection is None:
            return None
        return self.selection.best_value

    @property
    def decided_by(self) -> str:
        """The column that decides, `PRIVATE_CHOICE`, or "" if nothing decides."""
        if self.choice is not None:
            return PRIVATE_CHOICE
        return "" if self.selection is None else self.selection.column

    def choose(self, completed_rounds: int) -> Optional[int]:
        """Returns the round of the best model, or None if there is no best model.

        This charges a private choice durably before it releases the result. If the
        budget does not cover the choice, the run has no best model.
        """
        choice, account = self.choice, self._account
        if choice is None or choice.best_round is None:
            return self.best_round
        if account is None:
            raise ValueError(
                "a private choice needs an account that charges for it; give an account"
            )
        self.choice_epsilon = account.charge_release(
            "selection", completed_rounds, choice.event
        )
        return None if self.choice_epsilon is None else choice.best_round

    @property
    def why_no_best(self) -> str:
        """Says why there is no best model; None if there is a best model."""
        if self.choice is not None and self.choice.best_round is not None:
            return "the budget does not cover its choice"
        if self.choice is None and self.selection is None:
            return NOTHING_DECIDES
        return "no evaluation has a value of the metric that chooses the best model"

    @property
    def lacks_accuracy(self) -> bool:
        """Whether a budget forbade the last private evaluation."""
        return self._accuracy is not None and self.epsilon is None

    @property
    def should_stop(self) -> bool:
        """Whether the last evaluations had no better value, see `Selection`."""
        return self.selection is not None and self.selection.should_stop

    def evaluate_untrained(self, weights: Any) -> Mapping[str, float]:
        """Evaluates the untrained model.

        Raises:
          UserError: the selection metric is not among the evaluation's metrics.
        """
        evaluations = self._evaluate(0, weights)
        self._check_accuracy(evaluations)
        cells = self._cells(evaluations)
        for name in () if self.selection is None else self.selection.columns:
            if name not in cells and name != PRIVATE_ACCURACY:
                raise UserError(
                    f"selection metric {name!r} is not evaluated in this task; "
                    f"choose one of {', '.join(cells)}"
                )
        self.untrained = dict(cells)
        return cells

    def _check_accuracy(self, evaluations: Mapping[str, Evaluation]) -> None:
        """Checks that the objective has an accuracy, if a private metric needs it."""
        if self._accuracy is None and self.choice is None:
            return
        metrics = evaluations[_EVAL].per_client
        if METRIC not in metrics:
            setting = (
                "selection_epsilon"
                if self._accuracy is None
                else "evaluation_noise_multiplier"
            )
            raise UserError(
                f"--{setting}: adds noise to the {METRIC}, but this task's metrics are "
                f"{', '.join(metrics)}; leave it out"
            )

    def evaluate(self, round_number: int, weights: Any) -> dict[str, float]:
        """Evaluates a round's model and keeps it if it is the best so far.

        Returns:
          Cells of metrics.csv that are released.
        """
        evaluations = self._evaluate(round_number, weights)
        cells = self._cells(evaluations)
        cells.update(self._private_cells(round_number, evaluations))
        if self.choice is not None:
            better = self.choice.update(round_number, evaluations[_EVAL])
        elif self.selection is not None and self.selection.is_decided_by(cells):
            value = self.selection.value_of(cells)
            better = self.selection.update(round_number, value)
        else:
            better = False
        if better:
            self.best = nest.copied(weights)
        kept = (round_number, self.best_round)
        self._evaluations = {
            number: evaluations
            for number, evaluations in self._evaluations.items()
            if number in kept
        }
        return cells

    def _private_cells(
        self, round_number: int, evaluations: Mapping[str, Evaluation]
    ) -> dict[str, float]:
        """Returns the cell of the private accuracy, if the account can charge it."""
        self.epsilon = None
        if self._accuracy is None or self._account is None:
            return {}
        self.epsilon = self._account.charge_release(
            "evaluation", round_number, self._accuracy.event
        )
        if self.epsilon is None:
            return {}
        noised = self._accuracy.noised(round_number, evaluations[_EVAL])
        return {PRIVATE_ACCURACY: noised}

    def _evaluate(self, round_number: int, weights: Any) -> dict[str, Evaluation]:
        evaluations = self._evaluations[round_number] = {
            split: self._evaluator.evaluate(weights, split) for split in self._splits
        }
        return evaluations

    def _cells(
        self, evaluations: Mapping[str, Evaluation]
    ) -> collections.OrderedDict[str, float]:
        cells: collections.OrderedDict[str, float] = collections.OrderedDict()
        for split, evaluation in evaluations.items():
            cells.update(self._release.row(evaluation.columns(split)))
        selection = self.selection
        if selection is not None and selection.is_decided_by(cells):
            score = {selection.column: selection.value_of(cells)}
            cells.update(self._release.row(score))
        return cells

    @property
    def _splits(self) -> Sequence[str]:
        splits = self._evaluator.splits
        needed = self._accuracy is not None or self.choice is not None
        return [
            split
            for split in splits
            if self._release.shows_split(split) or (needed and split == _EVAL)
        ]

    def evaluations(
        self, models: Mapping[str, tuple[int, Any]]
    ) -> dict[tuple[str, str], Evaluation]:
        """Returns evaluations by (model, split), and makes those that are missing.

        Args:
          models: `{name: (round, weights)}`.

        Returns:
          The evaluations with clients that are listed in clients.csv: without training
          clients where their rows are withheld.
        """
        listed = self._release.shows_file(CLIENTS)
        results: dict[tuple[str, str], Evaluation] = {}
        for name, (round_number, weights) in models.items():
            if round_number not in self._evaluations:
                self._evaluate(round_number, weights)
            for split, evaluation in self._evaluations[round_number].items():
                if listed or split == _HELD_OUT:
                    results[name, split] = evaluation
        return results

    def export(self) -> dict[str, Any]:
        """Returns the state as JSON values, for `restore`."""
        return {
            "selection": None if self.selection is None else self.selection.export(),
            "choice": None if self.choice is None else self.choice.export(),
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
        if self.selection is not None:
            self.selection.restore(exported["selection"])
        if self.choice is not None:
            self.choice.restore(exported["choice"])
