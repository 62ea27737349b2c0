"""Reports a program's errors: one line, an exit code, and a file with the traceback.

A user's error is reported on one line with a fix (`UserError`, exit code 2). An
unexpected error is reported on one line too. Its traceback is written to a file, in the
run's folder if there is one. Only the owner can read the file, since a message can
repeat data.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import pathlib
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn, Optional

from tfl_research.cli import streams
from tfl_research.errors import OwnPartError, UserError
from tfl_research.storage.files import safe_text

USAGE_ERROR = 2
UNFORESEEN = 1
INTERRUPTED = 130
TRACEBACK = "traceback.txt"
# Errors of full disks and quotas.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LONGEST = 500
# A user's names of any length can be in a message.
_LONGEST_LINE = 4000


def guarded(
    program: str,
    command: Callable[[], int],
    folder: Callable[[], Optional[pathlib.Path]] = lambda: None,
) -> int:
    """Runs a command, and turns its errors into a line of standard error.

    SystemExit is not caught, since some code has chosen to exit.

    Args:
      program: the beginning of the line.
      command: returns the exit code.
      folder: the folder of the run, once it is known, for the traceback.

    Returns:
      The command's exit code. 2 after a user's error or if a file cannot be read or
      written, 1 after any other error, 130 after Ctrl-C.
    """
    try:
        return command()
    except UserError as error:
        return say(program, error.for_command_line, USAGE_ERROR)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except OSError as error:
        if error.errno in _DISK:
            name = error.filename or "a file"
            text = (
                f"{name} could not be written ({error.strerror}); free space, then "
                "give the same command again to resume"
            )
            return say(program, text, USAGE_ERROR)
        if error.filename is not None:
            text = f"{_words(error)}; correct this, then give the same command again"
            return say(program, text, USAGE_ERROR)
        return say(program, _unforeseen(error, folder()), UNFORESEEN)
    except OwnPartError as error:
        text = f"{error.for_command_line}; {_kept(error, folder())}"
        return say(program, text, UNFORESEEN)
    except Exception as error:  # noqa: BLE001, the traceback is kept.
        return say(program, _unforeseen(error, folder()), UNFORESEEN)


def _unforeseen(error: Exception, folder: Optional[pathlib.Path]) -> str:
    return f"{_words(error)}; this error was not expected; {_kept(error, folder)}"


def exit_with(program: str, main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Runs a program with the arguments of the command line, and exits.

    Args:
      program: the program's name, for errors.
      main: a function that takes the arguments and returns the exit code.
    """
    sys.exit(surviving(program, lambda: main(sys.argv[1:])))


def surviving(program: str, command: Callable[[], int]) -> int:
    """Runs a command whose output survives closed pipes; returns the exit code."""

    def with_streams() -> int:
        with streams.surviving():
            return guarded(program, command)

    # This second call of `guarded` reports lost output.
    return guarded(program, with_streams)


def say(program: str, message: str, code: int) -> int:
    """Writes an error on one line of standard error, and returns the exit code."""
    line = safe_text.printable(" ".join(message.split()))
    if len(line) > _LONGEST_LINE:
        half = _LONGEST_LINE // 2
        line = f"{line[:half]} ... ({len(line)} characters) ... {line[-half:]}"
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{program}: {line}\n")
        sys.stderr.flush()
    return code


def _words(error: Exception) -> str:
    """Describes an error, without the lines that some libraries add."""
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename is not None else ""
        return f"{name}{error.strerror}"
    text = str(error).strip().partition("\n")[0]
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__


def _kept(error: Exception, folder: Optional[pathlib.Path]) -> str:
    """Writes an error's traceback to a file; returns a text that names the file."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    time = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    # If a name is not UTF-8, Python's text of the name has lone surrogates.
    content = f"{time}\n{''.join(lines)}".encode(errors="backslashreplace")
    try:
        path = _written(content, folder)
    except OSError as failed:
        sys.stderr.write(content.decode())
        return f"the traceback could not be kept ({failed.strerror}) and is above"
    return f"the traceback is in {path}"


def _written(content: bytes, folder: Optional[pathlib.Path]) -> pathlib.Path:
    if folder is not None and (folder / "hparams.json").is_file():
        path = folder / TRACEBACK
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
                file.write(content)
            return path
    handle, name = tempfile.mkstemp(prefix="tfl_research-", suffix=f"-{TRACEBACK}")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    return pathlib.Path(name)
