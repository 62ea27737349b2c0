"""Names of others in CSV files and on terminals."""

from __future__ import annotations

import csv
import io
import random

import pytest

from tfl_research.storage.files.safe_text import from_cell, printable, to_cell


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("north", "north"),
        ("Zürich 东", "Zürich 东"),
        ("=cmd()", "'=cmd()"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("'x", "''x"),
        ("\t=1", "\\t=1"),
        ("\r=1", "\\r=1"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\u202eb", "a\\u202eb"),
        ("C:\\new", "C:\\\\new"),
        ("\udcff", "\\udcff"),
        ("", ""),
    ],
)
def test_cells(name, cell):
    assert to_cell(name) == cell
    assert from_cell(cell) == name


def test_every_name_reads_back_and_no_cell_is_a_formula():
    draw = random.Random(0)
    letters = "=+-@'\\nrtxuU01\t\r\n\x1b\x9b\0ab, \"\u202e😀\U000e0041"
    for _ in range(3000):
        name = "".join(draw.choice(letters) for _ in range(draw.randrange(8)))
        cell = to_cell(name)
        assert cell.isprintable()
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
        text = io.StringIO()
        csv.writer(text).writerow([cell])
        (read,) = next(csv.reader(io.StringIO(text.getvalue()))) or [""]
        assert from_cell(read) == name


def test_what_a_terminal_obeys_is_escaped():
    assert printable("round 1  ε 0.5\n") == "round 1  ε 0.5\n"
    assert printable("a\x1b[31m\u202e\r\x07") == "a\\x1b[31m\\u202e\\r\\x07"
