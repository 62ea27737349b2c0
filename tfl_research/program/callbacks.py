"""Callbacks: code of the user that sees each round of a run and can stop the run."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Optional

from tfl_research.errors import UserError
from tfl_research.program.reports import RoundReport, RunResult, RunStart


@dataclasses.dataclass(frozen=True)
class Stop:
    """A callback returns this to end the run after the round.

    Attributes:
      reason: why, for the output and summary.json.

    Raises:
      TypeError: the reason is no text.
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

        class StopAtLoss(program.Callback):
            def on_evaluation(self, report):
                if report.evaluation["eval_loss"] < 0.1:
                    return program.Stop("the loss is below 0.1")
                return None

        program.run(..., callbacks=[StopAtLoss()])
    """

    def on_start(self, run: RunStart) -> None:
        """Called at every start of the run, before the first round of the start."""

    def on_round(self, report: RoundReport) -> Optional[Stop]:
        """Called after every round, which is in metrics.csv by then."""
        return None

    def on_evaluation(self, report: RoundReport) -> Optional[Stop]:
        """Called after `on_round` of a round that was evaluated."""
        return None

    def on_end(self, result: RunResult) -> None:
        """Called when the run is complete and its results are written."""

    def on_close(self, error: Optional[BaseException]) -> None:
        """Called last in every start whose `on_start` was called; frees what is held.

        Args:
          error: what ended the start: `RunInterrupted` after a signal, GeneratorExit
            when the caller left the loop of `program.rounds`, another exception after
            a failure; None for a complete run.
        """


class CallbackError(UserError):
    """A callback raised an exception, which is this exception's cause."""


class Callbacks:
    """Calls several callbacks in their order, and names the one that fails."""

    def __init__(self, callbacks: Sequence[Callback]):
        """Checks the callbacks.

        Raises:
          TypeError: one is not a `Callback`.
        """
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(
                    f"callbacks must be instances of program.Callback, got {callback!r}"
                )
        self._callbacks = tuple(callbacks)
        self._started: list[Callback] = []

    def on_start(self, run: RunStart) -> None:
        """Tells every callback of the start."""
        for callback in self._callbacks:
            self._started.append(callback)
            self._call(callback, "on_start", callback.on_start, run)

    def on_round(self, report: RoundReport) -> Optional[Stop]:
        """Tells every callback of the round; the first wish to stop, or None."""
        wishes: list[Stop] = []
        for callback in self._callbacks:
            calls = [("on_round", callback.on_round)]
            if report.evaluation:
                calls.append(("on_evaluation", callback.on_evaluation))
            for event, call in calls:
                where = f"{event} of round {report.round_number}"
                answer = self._call(callback, where, call, report)
                if isinstance(answer, Stop):
                    wishes.append(answer)
                elif answer is not None:
                    raise CallbackError(
                        f"callback {_name(callback)} returned {answer!r} in {where}; "
                        "expected None or program.Stop"
                    )
        return wishes[0] if wishes else None

    def on_end(self, result: RunResult) -> None:
        """Tells every callback of the result."""
        for callback in self._callbacks:
            self._call(callback, "on_end", callback.on_end, result)

    def on_close(self, error: Optional[BaseException]) -> None:
        """Closes every callback that was started, even when others fail.

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
                f"callback {_name(callback)} failed in {where} ({_in_a_line(error)})"
            ) from error


def _name(callback: Callback) -> str:
    return type(callback).__qualname__


def _in_a_line(error: Exception) -> str:
    if isinstance(error, UserError):
        return error.for_command_line
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}"
