"""Tables with a known meaning, written in hostile ways, and a judge of outcomes.

A column is what it means (numbers, levels or times, None where missing) and how each
cell is written. The oracle encodes the meaning with NumPy alone and never sees files.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import pathlib
import re
import unicodedata
from collections.abc import Callable
from typing import Any, Optional

import numpy as np
from hypothesis import strategies as st

IDENTICAL, REFUSED, SAID = "identical", "refused in one line", "said so"
TRACEBACK, SILENT = "traceback", "silent change"
FINE = (IDENTICAL, REFUSED, SAID)
LABEL = "label"
# The end of the range of settled numbers.
LARGEST = 1e9


@dataclasses.dataclass
class Column:
    """A column of all files.

    Attributes:
      name: of the column.
      meaning: by file, a float, a text or None for each row.
      written: by file, the cells.
      how: the way of writing.
      can_be_said: whether it may be encoded as it is written, if this is said.
    """

    name: str
    meaning: list[list[Any]]
    written: list[list[str]]
    how: str
    can_be_said: bool = False


@dataclasses.dataclass
class Table:
    """Files of columns, and their labels: one of classes or numbers, or several."""

    columns: list[Column]
    labels: list[Column]
    kind: str = "classes"
    file: str = "plain"
    delimiter: str = ","

    @property
    def hows(self) -> str:
        return ", ".join([*(c.how for c in self.all), self.kind, self.file])

    @property
    def all(self) -> list[Column]:
        """All columns, the labels last."""
        return [*self.columns, *self.labels]


def _grouped(value: float, sign: str, decimal: str) -> str:
    return f"{value:,.2f}".replace(",", "\0").replace(".", decimal).replace("\0", sign)


# Ways to write numbers. The first few mean the same to every reader.
NUMBERS: dict[str, Callable[[float, int], str]] = {
    "plain": lambda v, i: repr(v),
    "exponent": lambda v, i: f"{v:.17e}",
    "plus": lambda v, i: repr(v) if v < 0 else f"+{v!r}",
    "spaces": lambda v, i: f"  {v!r} ",
    "decimal comma": lambda v, i: repr(v).replace(".", ","),
    "decimal comma in one file": lambda v, i: (
        repr(v).replace(".", ",") if i == 0 else repr(v)
    ),
    "thousands": lambda v, i: _grouped(v * 1000, ",", "."),
    "german": lambda v, i: _grouped(v * 1000, ".", ","),
    "spaced thousands": lambda v, i: _grouped(v * 1000, "\u202f", "."),
    "apostrophes": lambda v, i: _grouped(v * 1000, "’", "."),
    "percent": lambda v, i: f"{v!r}%",
    "money": lambda v, i: f"${v!r}",
    "euro": lambda v, i: f"{v!r} €",
    "unit": lambda v, i: f"{v!r} kg",
    "two units": lambda v, i: f"{v!r} kg" if i == 0 else f"{v * 1000!r} g",
    "minus sign": lambda v, i: repr(v).replace("-", "−"),
    "parentheses": lambda v, i: repr(v) if v >= 0 else f"({-v!r})",
    "other digits": lambda v, i: "".join(
        chr(0xFF10 + int(c)) if c.isdigit() else c for c in repr(v)
    ),
    "scale by file": lambda v, i: repr(v * 1000**i),
}
# Ways whose numbers are others than the meaning, which the judge has to know.
_SCALED = {"thousands", "german", "spaced thousands", "apostrophes"}
# The scale of a file is no reason to refuse it: it is said.
CLEAN_NUMBERS = ("plain", "exponent", "plus", "spaces", *3 * ("scale by file",))

TEXTS: dict[str, Callable[[str, int, int], str]] = {
    "plain": lambda t, i, r: t,
    "upper case by file": lambda t, i, r: t.upper() if i else t,
    "title case by row": lambda t, i, r: t.title() if r % 2 else t,
    "space behind": lambda t, i, r: f"{t} " if r % 2 else t,
    "no-break space": lambda t, i, r: f"{t}\u00a0" if i else t,
    "no width": lambda t, i, r: f"{t}\u200b" if i else t,
    "decomposed": lambda t, i, r: unicodedata.normalize("NFD" if i else "NFC", t),
    "no accents": lambda t, i, r: (
        "".join(c for c in unicodedata.normalize("NFD", t) if ord(c) < 128) if i else t
    ),
    "doubled letter": lambda t, i, r: (
        re.sub(r"(\w)(\W|$)", r"\1\1\2", t, count=1) if i else t
    ),
    "dash": lambda t, i, r: t.replace(" ", "-") if i else t,
    "wide": lambda t, i, r: (
        "".join(chr(ord(c) + 0xFEE0) if 32 < ord(c) < 127 else c for c in t) if i else t
    ),
    "full stop": lambda t, i, r: f"{t}." if i else t,
}
LEVELS = ("rot é", "blau é", "grün é")
# What cells without a value are, and whether that is plain in a column of texts.
MISSING = ("", "NA", "n/a", "?", "none", "NULL")
_word = st.sampled_from(MISSING)

TRUTHS: dict[str, Callable[[bool, int], str]] = {
    "plain": lambda b, i: str(b).lower(),
    "case by file": lambda b, i: str(b) if i else str(b).upper(),
    "words by file": lambda b, i: ("yes" if b else "no") if i else ("Y" if b else "N"),
    "numbers in a file": lambda b, i: str(int(b)) if i else str(b),
}
DAYS: dict[str, Callable[[int], str]] = {
    "iso": lambda d: f"2020-01-{d:02}",
    "german": lambda d: f"{d}.1.2020",
    "american": lambda d: f"1/{d}/2020",
    "clock": lambda d: f"{d % 24}:30",
    "month": lambda d: f"Jan {d}, 2020",
}
CODES: dict[str, Callable[[int, int], str]] = {
    "padded": lambda c, i: f"{c:05}",
    "padded in a file": lambda c, i: f"{c:05}" if i else str(c),
    "long": lambda c, i: str(123456789012345670 + c),
    "pointed in a file": lambda c, i: f"{c}.0" if i else str(c),
    "thousands": lambda c, i: f"{c},000" if i else f"{c}000",
}
EXTREMES = ("1e308", "-1e308", "1e400", "4e38", "inf", "-Infinity", "1e-400", "1e39")
CLEAN_FILES = ("plain", "bom", "crlf", "quoted", "blank")
FILES = (
    *(*CLEAN_FILES, "plain", "plain", "plain", "plain"),
    *("latin-1", "nul", "short row", "long row", "no rows", "empty", "twice"),
    *("no column", "more columns", "open quote", "name", "header", "utf-16"),
)


@st.composite
def tables(draw: Any) -> Table:
    """A table of one to three files, with a column or several and a label."""
    shape = draw(st.lists(st.integers(2, 8), min_size=1, max_size=3))
    clean = draw(st.integers(0, 2)) == 0
    columns = [
        draw(_column(f"c{place}", shape, clean, is_label=False))
        for place in range(draw(st.integers(1, 3)))
    ]
    kind = draw(st.sampled_from(("classes", "classes", "number", "multi_label")))
    labels = [draw(_label(LABEL, shape, clean, kind))]
    if kind == "multi_label":
        labels.append(draw(_label("more", shape, clean, kind)))
    file = draw(st.sampled_from(CLEAN_FILES if clean else FILES))
    return Table(columns, labels, kind, file, draw(st.sampled_from(",;\t")))


@st.composite
def _label(draw: Any, name: str, shape: list[int], clean: bool, kind: str) -> Column:
    if kind == "classes":
        return draw(_column(name, shape, clean, is_label=True))
    if kind == "multi_label":
        return draw(_truths(name, shape, clean))
    column = draw(_numbers(name, shape, clean))
    if column.can_be_said:
        # Labels are taken as they are.
        column.meaning = [[float(text) for text in each] for each in column.written]
    return column


def _of(shape: list[int], cell: Callable[[int, int], Any]) -> list[list[Any]]:
    return [[cell(i, r) for r in range(rows)] for i, rows in enumerate(shape)]


@st.composite
def _column(
    draw: Any, name: str, shape: list[int], clean: bool, *, is_label: bool
) -> Column:
    """A column; written plainly if the table is clean."""
    if clean:
        kind = draw(st.sampled_from(["texts", "truths"] if is_label else _CLEAN))
        column = draw(_KINDS[kind](name, shape, clean))
        if kind == "numbers" and draw(st.booleans()):
            column.meaning[0][0], column.written[0][0] = None, draw(_word)
        return column
    kinds = ["texts", "texts", "truths", "codes"]
    if not is_label:
        kinds += ["numbers", "numbers", "numbers", "days", "extreme", "constant"]
        kinds += ["mixture", "any"]
    kind = draw(st.sampled_from(kinds))
    column = draw(_KINDS[kind](name, shape, clean))
    may_be_missing = kind in ("numbers", "texts") and not column.can_be_said
    if not is_label and may_be_missing and draw(st.booleans()):
        word = draw(_word)
        for meaning, cells in zip(column.meaning, column.written):
            for row in range(len(cells)):
                if draw(st.integers(0, 4)) == 0:
                    meaning[row], cells[row] = None, word
        column.how += f" with {word!r}"
    return column


@st.composite
def _numbers(draw: Any, name: str, shape: list[int], clean: bool) -> Column:
    how = draw(st.sampled_from(CLEAN_NUMBERS if clean else sorted(NUMBERS)))
    by_file = how == "scale by file"
    values = st.integers(1000 if by_file else -9999, 9999).map(lambda n: n / 100)
    meaning = _of(shape, lambda i, r: draw(values))
    write = NUMBERS[how]
    written = [[write(v, i) for v in each] for i, each in enumerate(meaning)]
    if how in _SCALED:
        meaning = [[v * 1000 for v in each] for each in meaning]
    if by_file and min(shape) < 5:
        # So few numbers have no scale.
        meaning = [[float(text) for text in each] for each in written]
    return Column(name, meaning, written, f"numbers, {how}", by_file)


@st.composite
def _texts(draw: Any, name: str, shape: list[int], clean: bool) -> Column:
    how = "plain" if clean else draw(st.sampled_from(sorted(TEXTS)))
    levels = draw(st.permutations(LEVELS))[: draw(st.integers(2, 3))]
    place = st.integers(0, len(levels) - 1)
    # Each level is somewhere.
    meaning = _of(shape, lambda i, r: levels[draw(place) if r > 1 else r])
    written = [
        [TEXTS[how](t, i, r) for r, t in enumerate(each)]
        for i, each in enumerate(meaning)
    ]
    return Column(name, meaning, written, f"texts, {how}")


@st.composite
def _truths(draw: Any, name: str, shape: list[int], clean: bool) -> Column:
    how = "plain" if clean else draw(st.sampled_from(sorted(TRUTHS)))
    values = _of(shape, lambda i, r: draw(st.booleans()) if r > 1 else bool(r))
    written = [[TRUTHS[how](b, i) for b in each] for i, each in enumerate(values)]
    meaning = [[TRUTHS[how](b, 0) for b in each] for each in values]
    return Column(name, meaning, written, f"truth values, {how}")


@st.composite
def _codes(draw: Any, name: str, shape: list[int], clean: bool) -> Column:
    """Integers that are names: codes, identifiers, classes."""
    how = draw(st.sampled_from(sorted(CODES)))
    values = _of(shape, lambda i, r: draw(st.integers(1, 3)) if r > 1 else r + 1)
    written = [[CODES[how](c, i) for c in each] for i, each in enumerate(values)]
    meaning: list[list[Any]] = [[CODES[how](c, 0) for c in each] for each in values]
    if name != LABEL and all(_plain(t) and len(t) < 9 for e in written for t in e):
        # Plain numbers are numbers, unless a schema says otherwise.
        meaning = [[float(text) for text in each] for each in written]
    return Column(name, meaning, written, f"codes, {how}")


@st.composite
def _days(draw: Any, name: str, shape: list[int], clean: bool) -> Column:
    how = draw(st.sampled_from(sorted(DAYS)))
    values = _of(shape, lambda i, r: draw(st.integers(1, 28)))
    written = [[DAYS[how](d) for d in each] for each in values]
    meaning = [[float(d) for d in each] for each in values]
    return Column(name, meaning, written, f"days, {how}")


@st.composite
def _extreme(draw: Any, name: str, shape: list[int], clean: bool) -> Column:
    cell = draw(st.sampled_from(EXTREMES))
    written = _of(shape, lambda i, r: str(r))
    written[0][0] = cell
    meaning = [[_exact(text) for text in each] for each in written]
    return Column(name, meaning, written, f"extreme, {cell}")


def _exact(text: str) -> Any:
    value = float(text)
    # No float is 1e400 or 1e-400.
    return text if math.isinf(value) or (value == 0 and text != "0") else value


@st.composite
def _constant(draw: Any, name: str, shape: list[int], clean: bool) -> Column:
    value = draw(st.sampled_from((0.1, 0.3, 1e-9, 5.0, -2.7)))
    almost = not clean and draw(st.booleans())
    meaning = _of(shape, lambda i, r: value)
    if almost:
        meaning[0][0] = value * (1 + 4e-15)
    written = [[repr(v) for v in each] for each in meaning]
    return Column(name, meaning, written, f"constant{', almost' if almost else ''}")


@st.composite
def _mixture(draw: Any, name: str, shape: list[int], clean: bool) -> Column:
    text = draw(st.sampled_from(("high", "3+", "<5", "unknown", "5 or so", "-", "x")))
    some = draw(st.integers(1, 5))
    written = _of(shape, lambda i, r: text if (r + i) % (some + 1) == some else f"{r}")
    written[-1][-1] = text
    return Column(name, [list(each) for each in written], written, f"mixture, {text}")


@st.composite
def _any(draw: Any, name: str, shape: list[int], clean: bool) -> Column:
    """Any text at all, a level each."""
    alphabet = st.characters(codec="utf-8", exclude_characters="\0\r")
    texts = st.text(alphabet, min_size=1, max_size=6).map(str.strip)
    pool = draw(st.lists(texts, min_size=2, max_size=4, unique=True))
    written = _of(shape, lambda i, r: draw(st.sampled_from(pool)))
    words = {word.lower() for word in (*MISSING, "nan", "null")}
    meaning: list[list[Any]] = [
        [None if t.lower() in words else t for t in each] for each in written
    ]
    if all(t is None or _plain(t) for each in meaning for t in each):
        meaning = [[None if t is None else float(t) for t in e] for e in meaning]
    return Column(name, meaning, written, "any texts")


def _plain(text: str) -> bool:
    """Whether a text is plainly a number to everybody."""
    if not text.isascii() or "_" in text or text.lstrip("+-")[:1] not in "0123456789.":
        return False
    try:
        float(text)
    except ValueError:
        return False
    digits = text.lstrip("+-")
    return not (len(digits) > 1 and digits[0] == "0" and digits[1].isdigit())


_CLEAN = ("numbers", "numbers", "texts", "truths", "constant")
_KINDS = {
    "numbers": _numbers,
    "texts": _texts,
    "truths": _truths,
    "codes": _codes,
    "days": _days,
    "extreme": _extreme,
    "constant": _constant,
    "mixture": _mixture,
    "any": _any,
}


def write(table: Table, folder: pathlib.Path) -> None:
    """Writes the files into an empty folder."""
    for i in range(len(table.columns[0].written)):
        path = folder / f"f{i}.csv"
        cells = [[c.name for c in table.all]]
        cells += map(list, zip(*(c.written[i] for c in table.all)))
        if i == 0:
            path = _damage_cells(table, cells, path, len(table.columns[0].written))
        quoting = csv.QUOTE_ALL if table.file == "quoted" else csv.QUOTE_MINIMAL
        with open(path, "w", newline="", encoding="utf-8") as file:
            end = "\r\n" if table.file == "crlf" else "\n"
            writer = csv.writer(
                file, delimiter=table.delimiter, quoting=quoting, lineterminator=end
            )
            writer.writerows(cells)
        if i == 0:
            path.write_bytes(_damage_bytes(table, path.read_bytes()))


def _damage_cells(
    table: Table, cells: list[list[str]], path: pathlib.Path, files: int
) -> pathlib.Path:
    if table.file == "short row":
        cells[-1].pop()
    elif table.file == "long row":
        cells[-1].append("1")
    elif table.file == "no rows":
        del cells[1:]
    elif table.file == "twice":
        cells[0][0] = cells[0][-1]
    elif table.file == "header":
        cells[0][0] = "c\n0"
    elif table.file == "no column" and len(cells[0]) > 2 and files > 1:
        for row in cells:
            del row[0]
    elif table.file == "more columns" and files > 1:
        for row in cells:
            row.insert(0, row[0] + "x")
    elif table.file == "name":
        return path.with_name("f\x1b0.csv")
    return path


def _damage_bytes(table: Table, content: bytes) -> bytes:
    if table.file == "bom":
        return b"\xef\xbb\xbf" + content
    if table.file == "blank":
        return content + b"\n\n"
    if table.file == "latin-1":
        return content + b"\xe9\n"
    if table.file == "utf-16":
        return content.decode("utf-8").encode("utf-16")
    if table.file == "nul":
        return content[:-2] + b"\0" + content[-2:]
    if table.file == "empty":
        return b""
    if table.file == "open quote":
        return content + b'"x'
    return content


@dataclasses.dataclass
class Outcome:
    """What came of a table, and what was judged of it."""

    kind: str
    detail: str = ""


def judged(table: Table, load: Callable[[], Any], *, features: bool = True) -> Outcome:
    """Runs `load` and says whether what came of the table is fine.

    Args:
      table: the table.
      load: gives an object with train (clients with x and y), classes and said.
      features: True judges all features. False judges the label and the features of
        numbers, which a schema scales by `LARGEST`.
    """
    try:
        data = load()
    except ValueError as error:
        text = str(error)
        kind = TRACEBACK if "\n" in text or not text.isprintable() else REFUSED
        return Outcome(kind, text)
    except Exception as error:  # noqa: BLE001  Whatever it is, a user would see it.
        return Outcome(TRACEBACK, repr(error))
    different = _different_features if features else _different_numbers
    problem = different(table, data)
    problem = problem or _different_label(table, data, names=features)
    if problem is None:
        return Outcome(IDENTICAL)
    column, text = problem
    can_be_said = any(c.can_be_said for c in table.columns if c.name == column)
    about = [line for line in data.said if repr(column) in line]
    return Outcome(SAID if about and can_be_said else SILENT, text)


def _all(data: Any, array: str) -> np.ndarray:
    loaded = [data.train.load(name)[array] for name in data.train.client_ids]
    return np.concatenate(loaded)


def _different_features(table: Table, data: Any) -> Optional[tuple[str, str]]:
    """The first column that is encoded unlike its meaning, and how; None if none is."""
    x = _all(data, "x")
    start = 0
    for column in table.columns:
        meaning = [v for each in column.meaning for v in each]
        expected = _features(meaning)
        part = x[:, start : start + expected.shape[1]]
        start += expected.shape[1]
        if part.shape != expected.shape or not _close(part, expected):
            return column.name, f"{column.how}: {part.tolist()}, not {meaning}"
    if start != x.shape[1]:
        return table.columns[0].name, f"{x.shape[1]} features, not {start}"
    return None


def _different_numbers(table: Table, data: Any) -> Optional[tuple[str, str]]:
    """How a column of numbers that a schema settled is unlike its meaning."""
    x, names = _all(data, "x"), list(data.schema.feature_names)
    for column in table.columns:
        meaning = [v for each in column.meaning for v in each]
        if not column.how.startswith("numbers") or column.name not in names:
            continue
        if column.can_be_said:
            meaning = [float(text) for each in column.written for text in each]
        found = x[:, names.index(column.name)] * LARGEST
        expected = np.array([0.0 if v is None else v for v in meaning])
        if not np.allclose(found, expected, 1e-5, 1e-5):
            return column.name, f"{column.how}: {found.tolist()}, not {meaning}"
    return None


def _different_label(
    table: Table, data: Any, *, names: bool
) -> Optional[tuple[str, str]]:
    """How the label is encoded unlike its meaning; None if it is not.

    Names of classes are compared on request: a schema may rename them.
    """
    y = _all(data, "y")
    if table.kind != "classes":
        return _different_values(table, y.reshape(len(y), -1))
    (label,) = table.labels
    meaning = [v for each in label.meaning for v in each]
    pairs = set(zip(y.tolist(), meaning))
    if not len(pairs) == len(data.classes) == len(set(meaning)):
        return label.name, f"{label.how}: classes {data.classes}, not {meaning}"
    if names and any(
        _bare(data.classes[number]) != _bare(name) for number, name in pairs
    ):
        return label.name, f"{label.how}: classes {data.classes}, not {pairs}"
    return None


def _different_values(table: Table, y: np.ndarray) -> Optional[tuple[str, str]]:
    """How numbers, or labels that are true or false, are unlike their meaning."""
    for place, label in enumerate(table.labels):
        meaning = [v for each in label.meaning for v in each]
        if table.kind == "multi_label":
            meaning = [float(text.lower() in ("true", "y")) for text in meaning]
        if not np.allclose(y[:, place], meaning, 1e-6, 1e-6):
            return label.name, f"{label.how}: {y[:, place].tolist()}, not {meaning}"
    return None


def _bare(name: str) -> str:
    """A name's ASCII letters and digits, each once where there are several in a row."""
    letters = unicodedata.normalize("NFKD", name).casefold()
    plain = [c for c in letters if c.isascii() and c.isalnum()]
    if name[:1].isdigit():
        return "".join(plain).lstrip("0")
    return "".join(c for c, d in zip(plain, [*plain[1:], ""]) if c != d)


def _close(part: np.ndarray, expected: np.ndarray) -> bool:
    """Whether features are alike, whatever the order of the levels."""
    if np.allclose(part, expected, 1e-4, 1e-4):
        return True
    order, wanted = np.lexsort(part), np.lexsort(expected)
    is_levels = set(np.unique(part)) | set(np.unique(expected)) <= {0.0, 1.0}
    return is_levels and np.array_equal(part[:, order], expected[:, wanted])


def _features(meaning: list[Any]) -> np.ndarray:
    """A column's features, of what its cells mean."""
    missing = np.array([v is None for v in meaning])
    present = [v for v in meaning if v is not None]
    if present and all(isinstance(v, float) for v in present):
        # In units of the largest number, whose square is finite.
        unit = max(abs(v) for v in present) or 1.0
        mean = math.fsum(v / unit for v in present) / len(present)
        variance = math.fsum((v / unit - mean) ** 2 for v in present) / len(present)
        scale = math.sqrt(variance) if max(present) > min(present) else 1.0
        values = [0.0 if v is None else (v / unit - mean) / scale for v in meaning]
        parts = [np.array(values)]
    else:
        levels = sorted(set(present))
        parts = [np.array([v == level for v in meaning], float) for level in levels]
    if missing.any():
        parts.append(missing.astype(float))
    return np.stack(parts, axis=1)
