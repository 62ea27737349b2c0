"""TensorBoard scalars of every round, next to metrics.csv."""

from __future__ import annotations

import pathlib
import shutil
import socket
import time
from collections.abc import Mapping
from typing import Any, Optional

from tfl_research.program.callbacks.base import Callback
from tfl_research.program.reports import RoundReport, RunStart

# Columns that are not written as curves.
_NOT_SCALARS = ("round", "delta")


def _tag(column: str) -> str:
    """Groups the columns of a split: `eval_loss` becomes `eval/loss`."""
    for prefix in ("train", "eval", "held_out", "aggregator"):
        if column.startswith(f"{prefix}_"):
            return f"{prefix}/{column[len(prefix) + 1 :]}"
    return f"round/{column}"


class TensorBoard(Callback):
    """Writes each round's row of metrics.csv as scalars, with the round as the step.

    A private run's events have only the columns that the run releases.

    TensorBoard's events cannot be deleted. So a resumed run writes the event files
    again from the kept rows, and a repeated round appears once.

    Args:
      logdir: the folder of event files, by default `logdir` in the run folder. Every
        start of the run replaces the folder.

    Example:
      >>> import pathlib
      >>> logs = pathlib.Path("all_runs/heart")
      >>> experiment = tfl.Experiment(
      ...     "heart",
      ...     training=tfl.Training(rounds=2, tensorboard=False),
      ...     callbacks=[tfl.program.TensorBoard(logs)],
      ... )
      >>> result = experiment.run("results/heart")
      untrained  eval loss 0.6931 ...
      >>> len(list(logs.iterdir()))
      1
    """

    def __init__(self, logdir: Optional[pathlib.Path] = None):
        self._logdir = logdir
        self._writer: Any = None
        self._began = 0.0

    def on_start(self, run: RunStart) -> None:
        """Writes the rounds that earlier starts completed."""
        import tensorflow as tf

        logdir = self._logdir or run.path / "logdir"
        shutil.rmtree(logdir, ignore_errors=True)
        logdir.mkdir(parents=True)
        self._began = time.time()
        name = f"events.out.tfevents.{int(self._began)}.{socket.gethostname()}"
        self._writer = tf.io.TFRecordWriter(str(logdir / name))
        self._write(tf.compat.v1.Event(file_version="brain.Event:2"))
        for row in run.rows:
            self._append({name: float(cell) for name, cell in row.items()})

    def on_round(self, report: RoundReport) -> None:
        """Writes one event with every numeric cell of the round's row."""
        self._append(report.metrics)

    def _append(self, row: Mapping[str, Any]) -> None:
        import tensorflow as tf

        # One event: a call of tf.summary.scalar for each cell would cost a millisecond.
        summary = tf.compat.v1.Summary(
            value=[
                tf.compat.v1.Summary.Value(tag=_tag(name), simple_value=float(cell))
                for name, cell in row.items()
                if isinstance(cell, (int, float)) and name not in _NOT_SCALARS
            ]
        )
        event = tf.compat.v1.Event(step=int(row["round"]), summary=summary)
        self._write(event, tells_time="round_seconds" in row)
        self._writer.flush()

    def _write(self, event: Any, *, tells_time: bool = False) -> None:
        """Writes an event; its time is the time of the start if times are withheld."""
        event.wall_time = time.time() if tells_time else self._began
        self._writer.write(event.SerializeToString())

    def on_close(self, error: Optional[BaseException]) -> None:
        """Flushes and closes the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
