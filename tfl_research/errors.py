"""Errors that a run's user can put right, and the exception of an interrupted run."""

from __future__ import annotations

import contextlib
import pathlib
import re
import signal
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Optional

# The longest value that a message quotes as a whole.
_LONGEST = 120
_TOOLKIT = pathlib.Path(__file__).parent
# Where the toolkit, Python and installed packages are.
_NOT_USERS = (
    _TOOLKIT,
    *(
        pathlib.PurePath(sysconfig.get_path(kind))
        for kind in ("stdlib", "platstdlib", "purelib", "platlib")
    ),
)
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
    """Returns the error's message; errors of this module name settings by flags."""
    if isinstance(error, (UserError, OwnPartError)):
        return error.for_command_line
    return str(error)


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


class OwnPartError(RuntimeError):
    """Code of a user's own part failed; `__cause__` is its exception.

    Attributes:
      for_command_line: the message with flags.
    """

    def __init__(self, message: str):
        self.for_command_line = message
        super().__init__(in_python(message))


@contextlib.contextmanager
def naming_own_parts(parts: Mapping[str, str]) -> Iterator[None]:
    """Names the user's own part whose code raises an exception in the block.

    A ValueError of one line that the code or the toolkit raises becomes a
    `SettingError`. Other exceptions become an `OwnPartError`, which says the line. An
    exception in which no part has a share is left as it is. Parts of one module are
    named together, since the module does not tell them apart.

    Args:
      parts: the module of each own part, by the setting that chose it as it is typed,
        such as "--algorithm=mine".
    """
    try:
        yield
    except (UserError, OwnPartError, OSError, MemoryError):
        raise
    except Exception as error:
        for module in dict.fromkeys(parts.values()):
            setting = " or ".join(name for name, own in parts.items() if own == module)
            file = getattr(sys.modules.get(module), "__file__", None)
            if file is None:  # A module of a notebook.
                place: Optional[str] = users_line(error).partition(", in ")[2]
            else:
                place = _place(error, file)
            if not place:
                continue
            text = str(error)
            last = traceback.extract_tb(error.__traceback__)[-1].filename
            own = _is_users(last) if file is None else last == file
            said = own or _TOOLKIT in pathlib.Path(last).parents
            if isinstance(error, ValueError) and said and "\n" not in text:
                raise SettingError(f"{setting}: {text}") from error
            line = next((t.strip() for t in reversed(text.splitlines()) if t), "")
            kind = type(error).__name__
            line = line if line.startswith(kind) else f"{kind}: {line}"
            raise OwnPartError(
                f"{setting}: its code failed in {place} ({line:.300})"
            ) from error
        raise


def _place(error: Exception, file: str) -> Optional[str]:
    """Returns the last line of a file that an exception went through, or None."""
    frames = [
        (frame.lineno, frame.name)
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == file
    ]
    # AutoGraph runs converted code, and lists the user's own lines in the message.
    told = re.findall(rf'File "{re.escape(file)}", line (\d+), in (\w+)', str(error))
    found = [*frames, *told]
    if not found:
        return None
    number, function = found[-1]
    return f"{function}, line {number} of {pathlib.Path(file).name}"


def users_line(error: BaseException) -> str:
    """Names the last line of a user's own code that an exception went through.

    Code is a user's own unless it belongs to the toolkit, to Python or to an installed
    package. AutoGraph runs converted code, and lists the user's own lines in the
    message.

    Returns:
      text to append to a message, as ", in my_loss, line 3 of mine.py"; empty if there
      is no such line.
    """
    frames = [
        (frame.filename, frame.lineno, frame.name)
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    told = re.findall(r'File "([^"]+)", line (\d+), in ([^\s*]+)', str(error))
    found = [frame for frame in (*frames, *told) if _is_users(frame[0])]
    if not found:
        return ""
    file, number, function = found[-1]
    return f", in {function}, line {number} of {pathlib.PurePath(file).name}"


def _is_users(file: str) -> bool:
    if file.startswith(("<frozen", "<__array_function__")):
        return False
    name = pathlib.PurePath(file).name
    if name.startswith("__autograph_generated_file"):
        return False
    return not any(place in pathlib.PurePath(file).parents for place in _NOT_USERS)


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


def quoted(value: object) -> str:
    """Writes a user's value for a message as Python does, shortened if it is long.

    >>> quoted("yes"), quoted(2.5)
    ("'yes'", '2.5')
    >>> quoted("x" * 100_000)[-25:]
    "x'... (100000 characters)"
    """
    try:
        text = repr(value)
    except ValueError:  # Python does not write whole numbers of thousands of digits.
        return f"a number too long to show ({type(value).__name__})"
    if len(text) <= _LONGEST:
        return text
    if isinstance(value, (str, bytes)):
        return f"{value[:_LONGEST]!r}... ({len(value)} characters)"
    return f"{text[:_LONGEST]}... ({len(text)} characters)"


def shortened(value: object) -> str:
    """Writes a user's value for a message without quotes, shortened if it is long."""
    try:
        text = str(value)
    except ValueError:
        return quoted(value)
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}... ({len(text)} characters)"


def alternatives(names: Sequence[str]) -> str:
    """Joins names for a message that lists alternatives: "a", "a or b", "a, b or c"."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
