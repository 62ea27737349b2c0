"""The base class of callbacks: user code that sees each round and can stop the run."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Optional

from tfl_research.errors import UserError, users_line
from tfl_research.program.reports import RoundReport, RunResult, RunStart


@dataclasses.dataclass(frozen=True)
class Stop:
    """A callback returns this to end the run after the round.

    Attributes:
      reason: why the run ends; printed, and written to summary.json.

    Raises:
      TypeError: the reason is not text.

    Example:
      >>> class OneRound(tfl.Callback):
      ...     def on_round(self, report):
      ...         return tfl.Stop("one round is enough")
      >>> OneRound().on_round(None)
      Stop(reason='one round is enough')
    """

    reason: str

    def __post_init__(self) -> None:
        if not isinstance(self.reason, str):
            raise TypeError(f"the reason of a Stop must be text, got {self.reason!r}")


class Callback:
    """Base class of callbacks; each method does nothing unless it is overridden.

    A method runs in the thread of the loop, between two rounds. An exception in a
    method ends the run, after a checkpoint of the rounds so far, with a
    `CallbackError`.

    A run that is killed and started again repeats the rounds after its last
    checkpoint, and callbacks see these rounds again (`RunStart.repeated_rounds`).

    Example:
      >>> class StopAtLoss(tfl.Callback):
      ...     def on_round(self, report):
      ...         if report.metrics["train_loss"] < 0.65:
      ...             return tfl.Stop("the loss is below 0.65")
      ...         return None
      >>> experiment = tfl.Experiment(
      ...     "heart",
      ...     training=tfl.Training(rounds=2),
      ...     callbacks=[StopAtLoss()],
      ... )
      >>> result = experiment.run("results/heart")
      untrained  eval loss 0.6931 ...
      >>> result.stop_reason, result.ended.stop_message, len(result.metrics)
      ('callback', 'the loss is below 0.65', 1)
    """

    def on_start(self, run: RunStart) -> None:
        """Is called at every start of the run, before the first round of the start."""

    def on_round(self, report: RoundReport) -> Optional[Stop]:
        """Is called after every round, when the round's row is in metrics.csv.

        Returns:
          None to continue, or a `Stop` to end the run after this round.
        """
        return None

    def on_evaluation(self, report: RoundReport) -> Optional[Stop]:
        """Is called after `on_round`, if the round was evaluated.

        Returns:
          None to continue, or a `Stop` to end the run after this round.
        """
        return None

    def on_end(self, result: RunResult) -> None:
        """Is called when the run is complete and its results are written."""

    def on_close(self, error: Optional[BaseException]) -> None:
        """Is called last in every start in which `on_start` was called.

        Override this method to free resources.

        Args:
          error: the exception that ended the start: `RunInterrupted` after a signal,
            GeneratorExit when the caller left the loop of `program.rounds`, another
            exception after a failure. None for a complete run.
        """


class CallbackError(UserError):
    """A callback raised an exception, which is the `__cause__` of this error."""


class Callbacks:
    """Calls several callbacks in order, and names the callback that fails."""

    def __init__(self, callbacks: Sequence[Callback]):
        """Checks the callbacks.

        Raises:
          TypeError: a member of `callbacks` is not a `Callback`.
        """
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(
                    f"callbacks must be instances of program.Callback, got {callback!r}"
                )
        self._callbacks = tuple(callbacks)
        self._started: list[Callback] = []

    def on_start(self, run: RunStart) -> None:
        """Calls `on_start` of every callback."""
        for callback in self._callbacks:
            self._started.append(callback)
            self._call(callback, "on_start", callback.on_start, run)

    def on_round(self, report: RoundReport) -> Optional[Stop]:
        """Calls every callback; returns the first `Stop` of a callback, or None."""
        stops: list[Stop] = []
        for callback in self._callbacks:
            calls = [("on_round", callback.on_round)]
            if report.evaluation:
                calls.append(("on_evaluation", callback.on_evaluation))
            for event, call in calls:
                where = f"{event} of round {report.round_number}"
                answer = self._call(callback, where, call, report)
                if isinstance(answer, Stop):
                    stops.append(answer)
                elif answer is not None:
                    raise CallbackError(
                        f"callback {_name(callback)} returned {answer!r} in {where}; "
                        "expected None or program.Stop"
                    )
        return stops[0] if stops else None

    def on_end(self, result: RunResult) -> None:
        """Calls `on_end` of every callback."""
        for callback in self._callbacks:
            self._call(callback, "on_end", callback.on_end, result)

    def on_close(self, error: Optional[BaseException]) -> None:
        """Calls `on_close` of every started callback, even when other callbacks fail.

        Raises:
          CallbackError: a callback failed, and there is no earlier error.
        """
        failures: list[CallbackError] = []
        while self._started:
            callback = self._started.pop()
            try:
                self._call(callback, "on_close", callback.on_close, error)
            except CallbackError as failure:
                failures.append(failure)
        if failures and error is None:
            raise failures[0]
        for unraised in failures:
            warnings.warn(str(unraised), stacklevel=2)

    def _call(
        self, callback: Callback, where: str, call: Callable[[Any], Any], value: Any
    ) -> Any:
        try:
            return call(value)
        except Exception as error:
            raise CallbackError(
                f"callback {_name(callback)} failed in {where} ({_one_line(error)})"
            ) from error


def _name(callback: Callback) -> str:
    return type(callback).__qualname__


def _one_line(error: Exception) -> str:
    if isinstance(error, UserError):
        return error.for_command_line
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}{users_line(error)}"
