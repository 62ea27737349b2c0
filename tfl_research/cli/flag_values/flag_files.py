"""Reads files of flags: `--flagfile=FILE`, one flag in each line."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Sequence

from tfl_research.errors import UserError
from tfl_research.storage.files import file_kinds

_DIRECTIVE = re.compile(r"--?flagfile(=(?P<file>.*))?", re.DOTALL)
_QUOTED = re.compile(r"--?(?P<name>\w+)=(?P<quote>[\"'])(?P<value>.*)(?P=quote)")
_SPACED = re.compile(r"--?(?P<name>\w+)\s+(?P<value>\S.*)")
_COMMENTS = ("#", "//")


def expanded(arguments: Sequence[str]) -> list[str]:
    """Replaces each `--flagfile` in arguments by the lines of its file.

    Later flags override earlier flags. So other flags override a file at the beginning
    of the command line, and a file at the end overrides other flags. Arguments after
    `--` are not changed. In a file, empty lines and lines that begin with `#` or `//`
    are comments.

    Args:
      arguments: the arguments without the program's path.

    Raises:
      UserError: a file cannot be read, names itself, or has a line that is not a flag;
        the message names file and line.
    """
    found: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        directive = _DIRECTIVE.fullmatch(argument)
        if argument == "--":
            return [*found, argument, *rest]
        if directive is None:
            found.append(argument)
        elif directive["file"] is not None:
            found += _lines(directive["file"], "", ())
        elif rest:
            found += _lines(rest.pop(0), "", ())
        else:
            raise UserError("--flagfile: names no file; write --flagfile=FILE")
    return found


def _lines(name: str, where: str, above: Sequence[pathlib.Path]) -> list[str]:
    """Reads the flags of a file and of the files that it names.

    Args:
      name: the file's name, as it was given.
      where: the file and line with this name, for errors; "" for the command line.
      above: the files that are being read.
    """
    given = f"{where}--flagfile={name}"
    path = _path(name.strip(), given)
    if path in above:
        raise UserError(f"{given}: the file names itself; take the line out of it")
    found: list[str] = []
    for number, line in enumerate(_text(path, given).split("\n"), start=1):
        line = line.strip()
        if not line or line.startswith(_COMMENTS):
            continue
        here = f"{path}, line {number}: "
        directive = _DIRECTIVE.fullmatch(line)
        if directive is not None:
            found += _lines(directive["file"] or "", here, [*above, path])
            continue
        _check(line, here)
        found.append(line)
    return found


def _path(name: str, given: str) -> pathlib.Path:
    if not name or "\0" in name:
        raise UserError(f"{given}: names no file; write --flagfile=FILE")
    return pathlib.Path(os.path.realpath(os.path.expanduser(name)))


def _text(path: pathlib.Path, given: str) -> str:
    wrong = file_kinds.problem(path)
    if wrong is not None:
        raise UserError(f"{given}: {wrong}; name a file with a flag on each line")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(
            f"{given}: cannot be read ({error.strerror}); name a file with a flag on "
            "each line"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{given}: is not text in UTF-8 (byte {error.start}); name a file with a "
            "flag on each line"
        ) from error
    if "\0" in text:
        raise UserError(
            f"{given}: has a NUL character; name a file with a flag on each line"
        )
    return text


def _check(line: str, where: str) -> None:
    """Refuses quotes around a value, and a space instead of "="."""
    quoted = _QUOTED.fullmatch(line)
    if quoted is not None:
        raise UserError(
            f"{where}{line}: in a flag file quotes are a part of the value; write "
            f"--{quoted['name']}={quoted['value']}"
        )
    spaced = _SPACED.fullmatch(line)
    if spaced is not None:
        raise UserError(
            f"{where}{line}: in a flag file the value follows '='; write "
            f"--{spaced['name']}={spaced['value']}"
        )
