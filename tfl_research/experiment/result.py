"""What a finished run of an experiment gives."""

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
      experiment: that was run.
      task: with the clients that were trained.
      ended: how the rounds ended: reason, state, summary.
      audit: what canaries showed, of an audited experiment.

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
        """The dict in summary.json: metrics of the untrained, final and best model."""
        return self.ended.summary

    @property
    def metrics(self) -> pd.DataFrame:
        """The rounds: a row a round, columns as in metrics.csv."""
        return self.ended.metrics

    @property
    def epsilon(self) -> float:
        """ε of this run's rounds together, at its δ; infinite without privacy."""
        return self.ended.epsilon

    @property
    def delta(self) -> Optional[float]:
        """δ of `epsilon`; None without privacy."""
        deltas = self.metrics["delta"].dropna()
        return float(deltas.iloc[-1]) if len(deltas) else None

    def model(self, which: str = "final") -> Any:
        """A trained Keras model that maps x `[batch, ...]` to logits.

        Args:
          which: "final", or "best" by the selection metric.

        Raises:
          UserError: the run has no best model, since nothing was evaluated.

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
        import tensorflow as tf

        if not set("[]*?") & set(str(path)):
            return tf.keras.models.load_model(str(path), compile=False)
        with tempfile.TemporaryDirectory() as folder:
            # TensorFlow reads these characters as a pattern of paths.
            link = pathlib.Path(folder) / which
            link.symlink_to(path.resolve(), target_is_directory=True)
            return tf.keras.models.load_model(str(link), compile=False)

    def model_of(self, client_id: str, *, personal: bool = False) -> Any:
        """The trained model of one client, with what the client keeps.

        Args:
          client_id: one of the trained clients.
          personal: whether it is the client's personal model, which
            `personal_evaluation` would evaluate: the weights that Ditto, FedRep,
            reconstruction or IFCA give to the client, and otherwise the final model
            after the client's local steps. By default the final model's weights are
            used. With non_trainable="local" the statistics are the client's own.

        Returns:
          A new Keras model; for a model of TFF an object with a function `predict`.

        Raises:
          UserError: another client, personal models that the experiment cannot have,
            or a folder that has gone on since.

        Example:
          >>> import numpy as np
          >>> experiment = tfl.Experiment("heart", training=tfl.Training(rounds=2))
          >>> result = experiment.run("results/heart")
          untrained  eval loss 0.6931 ...
          >>> model = result.model_of("Cleveland", personal=True)
          >>> model.predict(np.zeros((3, 35)), verbose=0).shape
          (3, 1)
        """
        from tfl_research.experiment import client_models

        return client_models.model_of(self, client_id, personal=personal)
