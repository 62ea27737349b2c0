"""Counting the lines that a user writes."""

from __future__ import annotations

import ast
import io
import pathlib
import tokenize
from collections.abc import Iterable

# Ends a line, or the last line of a statement, that is there for the measurement.
MEASURED = "# measured"
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def of_python(source: str) -> int:
    """Lines with code; no blank line, comment or docstring, and nothing measured."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            text = node.body[0]
            docstrings.update(range(text.lineno, (text.end_lineno or 0) + 1))
    lines = source.splitlines()
    found: set[int] = set()
    measured: set[int] = set()
    statement: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            statement.update(range(token.start[0], token.end[0] + 1))
        elif token.type == tokenize.NEWLINE:
            # Of a statement on several lines, the last line speaks for all.
            marked = {n for n in statement if lines[n - 1].rstrip().endswith(MEASURED)}
            measured |= statement if max(statement) in marked else marked
            found |= statement
            statement = set()
    return len(found - docstrings - measured)


def of_settings(source: str) -> int:
    """Lines of a shell script or of a settings file, but comments and blank ones."""
    lines = (line.strip() for line in source.splitlines())
    kept = [line for line in lines if line and not line.startswith("#")]
    return sum(not line.endswith(MEASURED) for line in kept)


def of_files(paths: Iterable[pathlib.Path]) -> int:
    """All lines that count in some files."""
    total = 0
    for path in paths:
        count = of_python if path.suffix == ".py" else of_settings
        total += count(path.read_text(encoding="utf-8"))
    return total
