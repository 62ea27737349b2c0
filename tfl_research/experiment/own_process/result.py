"""The result of a finished run of a process."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    import pandas as pd

    from tfl_research.experiment.own_process.process_experiment import (
        ProcessExperiment,
    )
    from tfl_research.program import RunResult


@dataclasses.dataclass(frozen=True, repr=False)
class ProcessResult:
    """A finished run of a `ProcessExperiment`.

    Attributes:
      experiment: the experiment that was run.
      ended: how the rounds ended.
      weights: the model in the final state; None if the process trains no model.
    """

    experiment: ProcessExperiment
    ended: RunResult
    weights: Any = None

    def __repr__(self) -> str:
        return (
            f"ProcessResult({str(self.path)!r}: {self.stop_reason} after round "
            f"{self.ended.completed_rounds}, epsilon={self.epsilon:g})"
        )

    @property
    def path(self) -> pathlib.Path:
        """The run's folder."""
        return self.ended.path

    @property
    def stop_reason(self) -> str:
        """Why the run ended, see `storage.run_record.STOP_REASONS`."""
        return self.ended.stop_reason

    @property
    def state(self) -> Any:
        """The state after the last round."""
        return self.ended.state

    @property
    def summary(self) -> dict[str, Any]:
        """The content of summary.json."""
        return self.ended.summary

    @property
    def metrics(self) -> pd.DataFrame:
        """A table with a row for each round and the columns of metrics.csv."""
        return self.ended.metrics

    @property
    def measurements(self) -> dict[int, dict[str, Any]]:
        """The metrics that are no scalar numbers, by round and name."""
        return self.ended.measurements

    @property
    def epsilon(self) -> float:
        """ε of all executed rounds, at `delta`; infinite if no noise is declared."""
        return self.ended.epsilon

    @property
    def delta(self) -> Optional[float]:
        """δ of `epsilon`; None if no noise is declared."""
        return self.ended.delta
