"""Errors that a run's user can put right, and the exception of an interrupted run."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

# Matches a setting as it is typed on a command line, "--rounds=3", but not a flag of
# another program, such as that of "scripts/worker --port=PORT".
_FLAG = re.compile(r"(?P<command>scripts/\S+ .*?)?(?<![\w-])--(?P<name>[a-z]\w*)")


class UserError(ValueError):
    """Reports bad input or an unusable run folder in one line that says what to do.

    Messages are written with flags ("--rounds=0: must be at least 1"). `str(error)`
    shows Python's names of the settings ("rounds=0: ..."). A command line prints
    `for_command_line` and exits with code 2.

    Attributes:
      for_command_line: the message with flags.

    Example:
      >>> try:
      ...     tfl.Experiment("heart", training=tfl.Training(rounds=0))
      ... except tfl.UserError as error:
      ...     print(error)
      ...     print(error.for_command_line)
      rounds=0: must be a whole number, at least 1
      --rounds=0: must be a whole number, at least 1
    """

    def __init__(self, message: str = ""):
        self.for_command_line = message
        super().__init__(in_python(message))


def in_python(text: str) -> str:
    """Replaces the flags in a text by Python's names of the settings.

    >>> in_python("--rounds=0: must be at least 1")
    'rounds=0: must be at least 1'
    """
    return _FLAG.sub(_without_dashes, text)


def message_for_command_line(error: Exception) -> str:
    """Returns the error's message; a `UserError` names settings by their flags."""
    return error.for_command_line if isinstance(error, UserError) else str(error)


def _without_dashes(found: re.Match[str]) -> str:
    return found.group(0) if found["command"] else found["name"]


class SettingError(UserError):
    """Refuses a setting in one line with the setting, the value and the fix.

    Example:
      >>> try:
      ...     tfl.Cohorts("full", cohort_size=3)
      ... except tfl.SettingError as error:
      ...     print(error)
      cohort_size=3: sampler=full takes every client; leave it out
    """


class TrainingDivergedError(UserError):
    """The aggregated model is no longer finite; the run cannot go on."""


class EvaluationUnavailable(UserError):
    """A model cannot be evaluated now, because a site does not answer."""


class RoundAbandoned(Exception):
    """A round has no result, because too few clients answered; the run goes on."""


class RunInterrupted(SystemExit):
    """Ends a run after Ctrl-C or SIGTERM; everything up to the last checkpoint is kept.

    This is a SystemExit with code 130 (Ctrl-C) or 143 (SIGTERM). So a program that does
    not catch the exception ends quietly, and its context managers still run.

    Args:
      number: the number of the signal.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(128 + number)


def alternatives(names: Sequence[str]) -> str:
    """Joins names for a message that lists alternatives: "a", "a or b", "a, b or c"."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
