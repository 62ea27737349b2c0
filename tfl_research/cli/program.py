"""Runs command lines of the experiments: parsing, `--help`, errors on one line."""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import Any, Optional, TextIO

from tfl_research import deferred_imports
from tfl_research.cli import last_resort
from tfl_research.cli.flag_values import flag_files, flags, help_text
from tfl_research.cli.preset import Preset
from tfl_research.experiment.running import engines
from tfl_research.storage.files import safe_text, user_paths

# The beginning of the line of an error.
_PROGRAM = "error"
_HELP = frozenset({"--help", "-help", "-h", "--helpfull", "--helpshort", "-?"})


class _OneLineWarnings:
    """Shows warnings on one line as long as any command line of this process runs.

    Python's way to show warnings is shared by all threads. If several command lines run
    at once, the first changes this state and the last restores it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._before = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._running += 1
            if self._running > 1:
                return
            self._before = warnings.catch_warnings()
            self._before.__enter__()
            warnings.showwarning = _show_warning
            # Imports of TFF and TensorBoard cause it; the user cannot change them.
            warnings.filterwarnings("ignore", "pkg_resources is deprecated")

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._running -= 1
            if not self._running:
                self._before.__exit__(None, None, None)


_ONE_LINE_WARNINGS = _OneLineWarnings()


def main(preset: Preset) -> None:
    """Runs a binary and exits.

    The exit code is 0 after success and `--help`. It is 2 for bad flags and other
    errors of the user, with `error: ...` on one line of standard error. It is 130 after
    an interruption; see `last_resort`.
    """
    # TensorFlow prints start-up notices as errors; real failures raise.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # TensorFlow also warns about calls that its own functions make.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    deferred_imports.freeze_imports()
    engines.take_process()
    code = last_resort.surviving(_PROGRAM, lambda: execute(preset, sys.argv))
    if "tensorflow_federated" in sys.modules:
        # A plugin may have imported TFF for a run that is refused.
        from tfl_research import _tff_compat

        _tff_compat.silence_idle_worker()
    sys.exit(code)


def execute(preset: Preset, argv: Sequence[str]) -> int:
    """Runs a binary with the command line `argv`, and returns the exit code."""
    folder: Optional[pathlib.Path] = None

    def command() -> int:
        nonlocal folder
        arguments = [*argv[:1], *flag_files.expanded(argv[1:])]
        if _HELP & set(_before_separator(arguments)):
            sys.stdout.write(help_text.page(preset, arguments))
            return 0
        given = flags.parse(preset, arguments)
        name = given.values.get("output_dir")
        folder = None if name is None else user_paths.expanded(name)
        preset.main(given)
        return 0

    with _ONE_LINE_WARNINGS:
        return last_resort.guarded(_PROGRAM, command, lambda: folder)


def _before_separator(argv: Sequence[str]) -> Sequence[str]:
    arguments = list(argv[1:])
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _show_warning(
    message: Any,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Optional[TextIO] = None,
    line: Optional[str] = None,
) -> None:
    """Shows warnings for users in one line, and others in Python's own format."""
    if category is UserWarning:
        text = f"warning: {safe_text.printable(' '.join(str(message).split()))}\n"
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line)
    with contextlib.suppress(OSError, ValueError):
        (file or sys.stderr).write(text)
