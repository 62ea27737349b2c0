"""What can go wrong in a run that its user can put right."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

# A setting as it is typed on a command line, unless it belongs to another program's
# command: "--rounds=3", but not the flag of "scripts/worker --port=PORT".
_FLAG = re.compile(r"(?P<command>scripts/\S+ .*?)?(?<![\w-])--(?P<name>[a-z]\w*)")


class UserError(ValueError):
    """Bad input, or a run folder that cannot be used: one line says what to do.

    Messages are written with the settings' flags ("--rounds=0: must be at least 1").
    `str(error)` shows the settings as Python has them ("rounds=0: ..."), and a command
    line prints `for_command_line` and exits with code 2.

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
    """Replaces the flags in a text by the names that the settings have in Python.

    >>> in_python("--rounds=0: must be at least 1")
    'rounds=0: must be at least 1'
    """
    return _FLAG.sub(_without_dashes, text)


def message_for_command_line(error: Exception) -> str:
    """The error's message; a `UserError` names settings by their flags in it."""
    return error.for_command_line if isinstance(error, UserError) else str(error)


def _without_dashes(found: re.Match[str]) -> str:
    return found.group(0) if found["command"] else found["name"]


class SettingError(UserError):
    """A setting is refused: one line with the setting, the value and the fix.

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
    """A model cannot be evaluated now, since a site does not answer."""


class RoundAbandoned(Exception):
    """A round has no result, since too few clients answered; the run goes on."""


class RunInterrupted(SystemExit):
    """Ctrl-C or SIGTERM: everything up to the last checkpoint is kept.

    A SystemExit with code 130 or 143, so that a program that does not catch it ends
    quietly and its context managers still run.

    Args:
      number: the number of the signal.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(128 + number)


def alternatives(names: Sequence[str]) -> str:
    """The names as a message lists what may be given: "a", "a or b", "a, b or c"."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
