"""Command lines of the experiments: parsing, `--help`, errors on one line."""

from __future__ import annotations

import difflib
import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Optional, TextIO

from absl import flags

from tfl_research.errors import UserError
from tfl_research.flags import help_text
from tfl_research.flags.declare import FlagGroup

USAGE_ERROR = 2
INTERRUPTED = 130
_LIBRARIES = ("absl.", "tensorflow")
# Disks and quotas that are full.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Flag groups of the experiment that this process ran last.
_defined: list[type[FlagGroup]] = []
_HELP = frozenset({"--help", "-help", "-h", "--helpfull", "--helpshort", "-?"})


def hparams() -> dict[str, Any]:
    """Every flag's value by name, but for those that libraries define."""
    return {
        flag.name: flag.value
        for module, defined in flags.FLAGS.flags_by_module_dict().items()
        if not module.startswith(_LIBRARIES)
        for flag in defined
    }


def given(name: str) -> Any:
    """A flag's value where the command line gives one, else None."""
    if name not in flags.FLAGS or not flags.FLAGS[name].present:
        return None
    return flags.FLAGS[name].value


def value(name: str) -> Any:
    """A flag's value, given or by default, as text of a command line."""
    held = flags.FLAGS[name].value
    return str(held).lower() if isinstance(held, bool) else held


def run_main(
    main: Callable[[], None],
    groups: Sequence[type[FlagGroup]],
    doc: str,
    *,
    defaults: Optional[dict[str, Any]] = None,
) -> None:
    """Runs an experiment's `main` and exits.

    Exit code 0 after success and `--help`, 2 with `error: ...` on one line of
    standard error for bad flags and other errors of the user's, 130 after an
    interruption.

    Args:
      main: runs once the flags are parsed.
      groups: flag groups that the experiment has; `main` gets their values with
        `Group.get()`.
      doc: what the experiment does; the head of `--help`.
      defaults: `{flag: default}` that differ from the groups'.
    """
    # TensorFlow prints start-up notices as errors; real failures raise.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # And warnings of what its own functions call.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.exit(execute(main, groups, doc, sys.argv, defaults=defaults))


def execute(
    main: Callable[[], None],
    groups: Sequence[type[FlagGroup]],
    doc: str,
    argv: Sequence[str],
    *,
    defaults: Optional[dict[str, Any]] = None,
) -> int:
    """`run_main` with the command line given and the exit code returned.

    Every call begins with this experiment's flags alone, at their defaults, so that
    a process can run several experiments.
    """
    flag_values = flags.FLAGS
    flag_values.unparse_flags()
    for group in _defined:
        group.undefine()
    _defined[:] = groups
    for group in groups:
        group.define()
    for name, value in (defaults or {}).items():
        flag_values.set_default(name, value)
    if _HELP & set(_before_separator(argv)):
        sys.stdout.write(help_text.page(groups, doc, argv[0]))
        return 0
    try:
        rest = flag_values(list(argv))[1:]
        if rest:
            raise UserError(
                f"unexpected argument {rest[0]!r}; flags are given as --name=value"
            )
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            # Of TensorBoard's import, and nothing that the user can change.
            warnings.filterwarnings("ignore", "pkg_resources is deprecated")
            main()
    except flags.UnrecognizedFlagError as error:
        return _say_error(_unrecognised(error.flagname))
    except (UserError, flags.Error) as error:
        return _say_error(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except OSError as error:
        if error.errno not in _DISK:
            raise
        return _say_error(
            f"{error.filename or 'a file'} could not be written ({error.strerror}); "
            "free space, then give the same command again to resume"
        )
    return 0


def _before_separator(argv: Sequence[str]) -> Sequence[str]:
    arguments = list(argv[1:])
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _say_error(message: str) -> int:
    line = " ".join(message.split())
    # absl's own messages begin so.
    for start in ("flag ", "ERROR:: "):
        if line.startswith(start):
            line = line[len(start) :]
    sys.stderr.write(f"error: {line}\n")
    return USAGE_ERROR


def _show_warning(
    message: Any,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Optional[TextIO] = None,
    line: Optional[str] = None,
) -> None:
    """One line for what the user is told; Python's own format for the rest."""
    if category is UserWarning:
        text = f"warning: {' '.join(str(message).split())}\n"
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line)
    (file or sys.stderr).write(text)


def _unrecognised(name: str) -> str:
    known = list(flags.FLAGS)
    # "learning_rate" is meant to be "client_learning_rate".
    found = [n for n in known if n.endswith(f"_{name}")]
    found += difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    suggestion = ", ".join(f"--{n}" for n in list(dict.fromkeys(found))[:3])
    hint = f"; did you mean {suggestion}?" if found else ""
    return f"unknown flag --{name}{hint} (--help lists all)"
