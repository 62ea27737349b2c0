"""The result of a finished run of an experiment."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from typing import TYPE_CHECKING, Any, Optional

from tfl_research.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from tfl_research.experiment.description import Description
    from tfl_research.privacy.audit import AuditResult
    from tfl_research.program import RunResult
    from tfl_research.tasks import Task


@dataclasses.dataclass(frozen=True, repr=False)
class Result:
    """A finished run: metrics, ε and models.

    Attributes:
      experiment: the experiment that was run.
      task: the task with the training clients.
      ended: how the rounds ended: reason, state, summary.
      audit: the result of the audit; None without an audit.

    Example:
      >>> experiment = tfl.Experiment("heart", training=tfl.Training(rounds=2))
      >>> result = experiment.run("results/heart")
      untrained  eval loss 0.6931 ...
      >>> result.metrics[["round", "train_loss"]].round(2)
         round  train_loss
      0      1        0.61
      1      2        0.55
      >>> result.epsilon, result.stop_reason
      (inf, 'rounds')
      >>> result.summary["final"]["eval_auc"]
      0.87...
    """

    experiment: Description
    task: Task
    ended: RunResult
    audit: Optional[AuditResult] = None

    def __repr__(self) -> str:
        rounds = self.summary["final"]["round"]
        return (
            f"Result({str(self.path)!r}: {self.stop_reason} after round {rounds}, "
            f"epsilon={self.epsilon:g})"
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
    def summary(self) -> dict[str, Any]:
        """Summary.json: metrics of the untrained, final and best model."""
        return self.ended.summary

    @property
    def metrics(self) -> pd.DataFrame:
        """A table with a row for each round and the columns of metrics.csv."""
        return self.ended.metrics

    @property
    def measurements(self) -> dict[int, dict[str, Any]]:
        """Vectors and texts that rounds measured, as arrays by round and name.

        They are read from the folder, which must still hold this result. Scalar numbers
        are columns of `metrics`.
        """
        return self.ended.measurements

    @property
    def epsilon(self) -> float:
        """ε of this run's rounds together, at `delta`; inf without privacy."""
        return self.ended.epsilon

    @property
    def delta(self) -> Optional[float]:
        """δ of `epsilon`; None without privacy."""
        return self.ended.delta

    def model(self, which: str = "final") -> Any:
        """Returns a trained Keras model that maps x `[batch, ...]` to logits.

        Args:
          which: "final", or "best" by the selection metric.

        Raises:
          UserError: `which` is another text, or the run has no such model, for example
            because no model was evaluated or exported; or the folder does not hold this
            result any more, because the run has gone on.

        Example:
          >>> import numpy as np
          >>> experiment = tfl.Experiment("heart", training=tfl.Training(rounds=2))
          >>> result = experiment.run("results/heart")
          untrained  eval loss 0.6931 ...
          >>> model = result.model("best")
          >>> model.predict(np.zeros((3, 35)), verbose=0).shape
          (3, 1)
        """
        path = self.path / "export" / which
        if which not in ("final", "best"):
            raise UserError(f"which must be 'final' or 'best', got {which!r}")
        if not path.exists():
            raise UserError(
                f"{path} does not exist: the run has no {which} model, or did not "
                "write it (export=False); the same run with export=True writes it"
            )
        self.ended.check_folder()
        import tensorflow as tf

        if not set("[]*?") & set(str(path)):
            return tf.keras.models.load_model(str(path), compile=False)
        with tempfile.TemporaryDirectory() as folder:
            # TensorFlow would read these characters as a pattern of paths.
            link = pathlib.Path(folder) / which
            link.symlink_to(path.resolve(), target_is_directory=True)
            return tf.keras.models.load_model(str(link), compile=False)

    def model_of(self, client_id: str, *, personal: bool = False) -> Any:
        """Returns the trained model of one client, with the client's own state.

        Args:
          client_id: the id of a training client.
          personal: whether the result is the client's personal model, which
            `personal_evaluation` would evaluate. Under Ditto, FedRep, reconstruction
            and IFCA, this is the client's model. Under other algorithms, this is the
            final model after the client's local steps. By default, the result has the
            final model's weights. With non_trainable="local", the result has the
            client's own statistics.

        Returns:
          A new Keras model; for a TFF model, an object with a function `predict`.

        Raises:
          UserError: there is no such client, the experiment cannot have personal
            models, or the run has gone on since this result.

        Example:
          >>> import numpy as np
          >>> experiment = tfl.Experiment("heart", training=tfl.Training(rounds=2))
          >>> result = experiment.run("results/heart")
          untrained  eval loss 0.6931 ...
          >>> model = result.model_of("Cleveland", personal=True)
          >>> model.predict(np.zeros((3, 35)), verbose=0).shape
          (3, 1)
        """
        from tfl_research.experiment.running import client_models

        return client_models.model_of(self, client_id, personal=personal)
