"""MLflow tracking of a run, as a callback; needs the extra `mlflow`."""

from __future__ import annotations

import json
import math
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from tfl_research.errors import RunInterrupted, UserError
from tfl_research.program.callbacks.base import Callback
from tfl_research.program.reports import RoundReport, RunResult, RunStart
from tfl_research.storage.files import atomic, json_file

_FILE = "mlflow.json"
# MLflow bounds the length of a parameter's value.
_PARAMETER_LENGTH = 500
# This metric is the last that a round writes: a round with this metric is complete.
_MARK = "round"


class MLflow(Callback):
    """Logs hyperparameters, each round's metrics and the run's state to MLflow.

    A resumed run continues the same MLflow run. The file mlflow.json in the run folder
    has the id of the MLflow run. Each round is logged once, with the round as MLflow's
    step. MLflow's parameters cannot change, so a hyperparameter that differs at a later
    start (`rounds`) becomes the tag "changed.NAME". The tag "run_folder" has the path
    of the run folder.

    Args:
      tracking_uri: MLflow's store; by default the store in MLflow's own setting
        (`MLFLOW_TRACKING_URI`).
      experiment: name of MLflow's experiment; by default the experiment's name.
      run_name: name of the MLflow run; by default the name of the run folder.

    Raises:
      UserError: MLflow is not installed, or the store does not have the MLflow run
        that mlflow.json names. The error comes when the run starts.

    Example:
      >>> experiment = tfl.Experiment(
      ...     "heart",
      ...     training=tfl.Training(rounds=2),
      ...     callbacks=[tfl.program.MLflow("mlruns", experiment="hospitals")],
      ... )
      >>> result = experiment.run("results/heart")
      untrained  eval loss 0.6931 ...
      >>> import mlflow
      >>> client = mlflow.MlflowClient("mlruns")
      >>> held = client.get_experiment_by_name("hospitals")
      >>> [run] = client.search_runs([held.experiment_id])
      >>> run.info.run_name, run.info.status, run.data.params["rounds"]
      ('heart', 'FINISHED', '2')
    """

    def __init__(
        self,
        tracking_uri: Optional[str] = None,
        experiment: Optional[str] = None,
        run_name: Optional[str] = None,
    ):
        self._tracking_uri = tracking_uri
        self._experiment = experiment
        self._run_name = run_name
        self._client: Any = None
        self._run_id = ""
        self._logged: set[int] = set()
        self._complete = False
        self._began = 0.0

    def on_start(self, run: RunStart) -> None:
        """Creates or continues the MLflow run, and logs the missing rounds."""
        try:
            import mlflow
        except ImportError as error:
            raise UserError(
                "MLflow is not installed; install tfl_research[mlflow], or leave the "
                "callback out"
            ) from error
        self._complete = False
        self._began = time.time()
        self._client = mlflow.MlflowClient(tracking_uri=self._tracking_uri)
        path = run.path / _FILE
        if path.exists():
            self._continue(path)
        else:
            self._create(run, path)
        self._log_parameters(run)
        history = self._client.get_metric_history(self._run_id, _MARK)
        self._logged = {metric.step for metric in history}
        if run.untrained and 0 not in self._logged:
            self._log(0, {**run.untrained, _MARK: 0})
        for row in run.rows:
            self._log(
                int(row["round"]), {name: float(cell) for name, cell in row.items()}
            )

    def _create(self, run: RunStart, path: pathlib.Path) -> None:
        name = self._experiment or run.experiment or "tfl_research"
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = (
            self._client.create_experiment(name)
            if experiment is None
            else experiment.experiment_id
        )
        made = self._client.create_run(
            experiment_id,
            run_name=self._run_name or run.path.resolve().name,
            tags={"run_folder": str(run.path.resolve())},
        )
        self._run_id = made.info.run_id
        content = json.dumps({"format": 1, "run_id": self._run_id}) + "\n"
        atomic.write(path, content.encode())

    def _continue(self, path: pathlib.Path) -> None:
        try:
            run_id = str(json_file.read(path)["run_id"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged; remove the file to log to a new MLflow run"
            ) from error
        from mlflow.exceptions import MlflowException

        try:
            self._client.update_run(run_id, status="RUNNING")
        except MlflowException as error:
            raise UserError(
                f"{path} names the MLflow run {run_id}, which this tracking "
                "store does not have; set the store that the run began with, or "
                "remove the file to log to a new MLflow run"
            ) from error
        self._run_id = run_id

    def _log_parameters(self, run: RunStart) -> None:
        from mlflow.entities import Param

        logged = self._client.get_run(self._run_id).data.params
        new = []
        for name, value in _flattened("", run.hparams):
            text = str(value)[:_PARAMETER_LENGTH]
            if name not in logged:
                new.append(Param(name, text))
            elif logged[name] != text:
                self._client.set_tag(self._run_id, f"changed.{name}", text)
        # MLflow takes 100 parameters in a call.
        for first in range(0, len(new), 100):
            self._client.log_batch(self._run_id, params=new[first : first + 100])

    def on_round(self, report: RoundReport) -> None:
        """Logs the round's row of metrics.csv, including ε."""
        self._log(report.round_number, report.metrics)

    def _log(self, round_number: int, cells: Mapping[str, Any]) -> None:
        """Logs the numbers in `cells`, unless the round is logged already."""
        from mlflow.entities import Metric

        if round_number in self._logged:
            return
        self._logged.add(round_number)
        # If the run withholds the times of rounds, all rounds get the start's time.
        now = int((time.time() if "round_seconds" in cells else self._began) * 1000)
        numbers = {
            name: float(cell)
            for name, cell in cells.items()
            if isinstance(cell, (int, float)) and not math.isnan(cell)
        }
        numbers[_MARK] = numbers.pop(_MARK)
        self._client.log_batch(
            self._run_id,
            metrics=[
                Metric(name, value, now, round_number)
                for name, value in numbers.items()
            ],
        )

    def on_end(self, result: RunResult) -> None:
        """Logs the stop reason, the round of the best model, and the export folder."""
        tags = {
            "stop_reason": result.stop_reason,
            "export_folder": str((result.path / "export").resolve()),
        }
        if result.stop_message is not None:
            tags["stop_message"] = result.stop_message
        if result.best_round is not None:
            tags["best_round"] = str(result.best_round)
        for name, value in tags.items():
            self._client.set_tag(self._run_id, name, value)
        self._complete = True

    def on_close(self, error: Optional[BaseException]) -> None:
        """Sets the MLflow run's state: finished, killed by its user, or failed."""
        if not self._run_id:
            return
        stopped = isinstance(error, (RunInterrupted, GeneratorExit))
        status = "FINISHED" if self._complete else "KILLED" if stopped else "FAILED"
        self._client.set_terminated(self._run_id, status=status)
        self._run_id = ""


def _flattened(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yields nested hyperparameters under names that are joined with dots."""
    if isinstance(value, Mapping):
        for key, member in value.items():
            yield from _flattened(f"{name}.{key}" if name else str(key), member)
    else:
        yield name, value
