"""Makes foreign texts, such as clients' names, safe for CSV files and terminals.

A spreadsheet executes a cell that begins with "=", "+", "-" or "@", and a terminal
obeys control characters. In the CSV files of a run, a name has its backslashes doubled
and its characters that cannot be printed escaped as in Python ("\\x1b"); a name that
begins with one of those signs, or with "'", has a "'" before it. `from_cell` gives the
name back.
"""

from __future__ import annotations

import re

_BEGIN_FORMULAS = ("=", "+", "-", "@", "'")
_ESCAPED = re.compile(r"\\(\\|n|r|t|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})", re.ASCII)
_SHORT = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


def printable(text: str) -> str:
    r"""Escapes characters that a terminal could execute.

    >>> printable("north\x1b[2J")
    'north\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _escape(c) for c in text)


def to_cell(name: str) -> str:
    r"""Writes a name as a cell of a CSV file, which `from_cell` reads back.

    >>> to_cell("=cmd()")
    "'=cmd()"
    """
    text = name.replace("\\", "\\\\")
    text = "".join(c if c.isprintable() else _escape(c) for c in text)
    return f"'{text}" if text.startswith(_BEGIN_FORMULAS) else text


def from_cell(cell: str) -> str:
    r"""Returns the name from which `to_cell` made a cell.

    >>> from_cell("'=cmd()")
    '=cmd()'
    """
    text = cell[1:] if cell.startswith("'") else cell
    return _ESCAPED.sub(_unescaped, text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    return _SHORT[code] if code in _SHORT else chr(int(code[1:], 16))
