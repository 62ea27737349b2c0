"""Evaluates the model of a round, and adds what the run releases to the round's row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from tfl_research.errors import EvaluationUnavailable
from tfl_research.program import choosing
from tfl_research.program.config import RunConfig
from tfl_research.program.evaluation import deciding
from tfl_research.program.evaluation.candidates import Candidates
from tfl_research.program.evaluation.releases import Releases
from tfl_research.program.interfaces import Account, Evaluates
from tfl_research.program.progress import Progress


class Evaluating:
    """The evaluations of a run, and the best model so far.

    Args:
      evaluator: the evaluator of models.
      config: the run's settings.
      task: see `choosing.candidates`.
      releases: which outputs the run releases.
      account: charges private metrics.
      progress: prints what is not evaluated.

    Attributes:
      candidates: the candidates for the best model.
      no_best: the reason why no metric chooses the best model, or None.
    """

    candidates: Candidates
    no_best: Optional[str]

    def __init__(
        self,
        evaluator: Evaluates,
        config: RunConfig,
        task: choosing.Chooses,
        releases: Releases,
        account: Optional[Account],
        progress: Progress,
    ):
        self._config, self._release = config, releases.release
        self._progress = progress
        self.candidates, self.no_best = choosing.candidates(
            evaluator, config, task, releases, account
        )

    def without_model(self) -> None:
        """From here on evaluates nothing, since the states have no model.

        Raises:
          UserError: a setting needs a model.
        """
        self.candidates, self.no_best = choosing.nothing(self._config, self._release)

    def untrained(self, weights: Any) -> None:
        """Evaluates the untrained model, and prints the result."""
        try:
            cells = self.candidates.evaluate_untrained(weights)
        except EvaluationUnavailable as error:
            self._progress.say(f"the untrained model is not evaluated: {error}")
            return
        if cells and self._progress.shows_metric(cells):
            self._progress.say(self._progress.untrained_line(cells))

    def say_undecided(self) -> None:
        """Prints why there will be no best model, if nothing chooses one."""
        if self.candidates.selection is None and self.candidates.choice is None:
            reason = self.no_best or deciding.NOTHING_DECIDES
            self._progress.say(f"no best model: {reason}")

    def complete(
        self,
        row: dict[str, Any],
        round_number: int,
        weights: Any,
        add_shared: Callable[[dict[str, Any], int], None],
        *,
        is_last: bool,
    ) -> dict[str, float]:
        """Evaluates the model of a round if due, and adds the results to its row.

        Args:
          row: the released cells of the round.
          round_number: the number of the round.
          weights: the model.
          add_shared: see `Rounds.add_shared`.
          is_last: whether no round follows.

        Returns:
          The results of the evaluation; empty without one.
        """
        if not is_last and round_number % self._config.evaluate_every != 0:
            return {}
        cells: dict[str, float] = {}
        candidates = self.candidates
        try:
            cells = candidates.evaluate(round_number, weights)
        except EvaluationUnavailable as error:
            self._progress.say(
                f"round {round_number}: the model is not evaluated: {error}"
            )
        row.update(cells)
        if candidates.epsilon is not None:
            row["epsilon"] = candidates.epsilon
            # All recorded rounds count, so the number of rounds does not matter.
            add_shared(row, 0)
        if candidates.lacks_accuracy:
            self._progress.say(
                f"round {round_number}: no private accuracy, because the budget does "
                "not cover it"
            )
        return cells
