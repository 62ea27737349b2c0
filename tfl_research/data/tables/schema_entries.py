"""Entries of a schema file: how a column or a label is declared."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from typing import Any, Optional

from tfl_research.data.tables.cells import text_of
from tfl_research.data.tables.column import Column
from tfl_research.data.tables.columns import (
    OUTSIDE,
    UNKNOWN,
    Categorical,
    Numeric,
    Standardised,
)
from tfl_research.data.tables.label import A_NUMBER, MULTI_LABEL, Label
from tfl_research.data.tables.notation import (
    BOOLEAN,
    DATE,
    INTEGER,
    NUMBER,
    TEXT,
    TRUTH,
    Notation,
)
from tfl_research.data.tables.written import whole
from tfl_research.errors import quoted

# The entry of a draft from whose list a person has to choose.
CHOICES = "choices"
NOTATION = frozenset(
    ["type", "decimal", "thousands", "unit", "missing_values", "format", "spellings"]
)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _names(value: Any) -> Optional[tuple[str, ...]]:
    """Distinct category or class names of a JSON list; None for any other value."""
    if not isinstance(value, list) or not value:
        return None
    if not all(isinstance(v, str) or _is_number(v) for v in value):
        return None
    texts = tuple(text_of(v) for v in value)
    return texts if len(set(texts)) == len(texts) else None


def _notation(
    where: str, entry: Mapping[str, Any], default: str, levels: tuple[str, ...] = ()
) -> Optional[Notation]:
    """The declared notation; None where the entry says nothing of it."""
    if not NOTATION & set(entry):
        return None
    for key in ("type", "decimal", "thousands", "unit", "format"):
        if key in entry and not isinstance(entry[key], str):
            raise ValueError(f"{where}: {key} must be text, got {quoted(entry[key])}")
    words = entry.get("missing_values")
    if words is not None and (
        not isinstance(words, list) or not all(isinstance(w, str) for w in words)
    ):
        raise ValueError(
            f"{where}: missing_values must be a list of texts, got {quoted(words)}; an "
            'empty cell is ""'
        )
    try:
        return Notation(
            entry.get("type", default),
            entry.get("decimal", "."),
            entry.get("thousands", ""),
            entry.get("unit", ""),
            None if words is None else tuple(words),
            entry.get("format", ""),
            _spellings(where, entry.get("spellings", {})),
            levels,
        )
    except ValueError as error:
        raise ValueError(
            f"{where}: {error}".replace(f"{where}: {where}", where)
        ) from None


def notation_of(where: str, entry: Any) -> Notation:
    """The notation of an entry that has nothing else, and says the type.

    Raises:
      ValueError: the entry has another form; the message begins with `where`.
    """
    found = None
    if isinstance(entry, dict) and "type" in entry and not set(entry) - NOTATION:
        found = _notation(where, entry, TEXT)
    if found is None:
        raise ValueError(
            f'{where}: expected an object with "type" and perhaps '
            f"{', '.join(sorted(NOTATION - {'type'}))}; got {quoted(entry)}"
        )
    return found


def _spellings(where: str, value: Any) -> dict[str, str]:
    """The meaning of each other spelling; ValueError if a spelling has two meanings."""
    found: dict[str, str] = {}
    ok = isinstance(value, dict) and all(
        isinstance(texts, list) and all(isinstance(t, str) for t in texts)
        for texts in value.values()
    )
    if not ok:
        raise ValueError(
            f'{where}: spellings must be an object such as {{"yes": ["Yes", '
            f'"YES"]}}, got {quoted(value)}'
        )
    for meant, texts in value.items():
        for text in texts:
            if found.setdefault(text, meant) != meant:
                raise ValueError(
                    f"{where}: spellings: {quoted(text)} means both "
                    f"{quoted(found[text])} and "
                    f"{quoted(meant)}; leave one of them out"
                )
    return found


def column(where: str, name: str, entry: Any) -> Column:
    """The column of an entry; ValueError that begins with `where` for another form."""
    where = f"{where}: column {name!r}"
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected an object, got {quoted(entry)}")
    _check_chosen(where, entry)
    missing = entry.get("missing", True)
    if not isinstance(missing, bool):
        raise ValueError(
            f"{where}: missing must be true or false, got {quoted(missing)}"
        )
    keys = set(entry) - {"missing"} - NOTATION
    kind = entry.get("type")
    if {"minimum", "maximum"} <= keys <= {"minimum", "maximum", "outside"}:
        notation = _notation(where, entry, NUMBER)
        _check_type(where, notation, (NUMBER, INTEGER, DATE), "minimum and maximum")
        low, high = (_end(where, k, entry[k], kind) for k in ("minimum", "maximum"))
        if not (_is_number(low) and _is_number(high) and low < high):
            raise ValueError(
                f"{where}: minimum and maximum must be numbers, the minimum below the "
                f"maximum; got {low!r} and {high!r}"
            )
        outside = _word(where, entry, "outside", OUTSIDE)
        if not _is_number(high - low):
            raise ValueError(
                f"{where}: the range from {low:g} to {high:g} is wider than float64 "
                "holds"
            )
        return Numeric(
            name,
            float(low),
            float(high),
            may_be_missing=missing,
            outside=outside,
            notation=notation,
        )
    if keys == {"mean", "deviation"}:
        mean, deviation = entry["mean"], entry["deviation"]
        if not (_is_number(mean) and _is_number(deviation) and deviation > 0):
            raise ValueError(
                f"{where}: mean and deviation must be numbers, the deviation above 0; "
                f"got {mean!r} and {deviation!r}"
            )
        notation = _notation(where, entry, NUMBER)
        _check_type(where, notation, (NUMBER, INTEGER, DATE), "mean and deviation")
        return Standardised(
            name, float(mean), float(deviation), missing, notation=notation
        )
    if kind == BOOLEAN and keys <= {"unknown"}:
        notation = _notation(where, entry, BOOLEAN)
        return Categorical(name, TRUTH, may_be_missing=missing, notation=notation)
    if {"categories"} <= keys <= {"categories", "unknown"}:
        categories = _names(entry["categories"])
        if categories is None:
            raise ValueError(
                f"{where}: categories must be a list of distinct names, got "
                f"{quoted(entry['categories'])}"
            )
        unknown = _word(where, entry, "unknown", UNKNOWN)
        notation = _notation(where, entry, TEXT, categories)
        _check_type(where, notation, (TEXT, INTEGER), "categories")
        _check_meant(where, notation, categories)
        return Categorical(name, categories, unknown, missing, notation=notation)
    raise ValueError(
        f"{where}: expected minimum and maximum (numeric, optionally outside), mean "
        "and deviation (numeric), or categories (optionally unknown), or the type "
        f"boolean, and optionally missing, {', '.join(sorted(NOTATION))}; got "
        f"{', '.join(sorted(entry)) or 'nothing'}"
    )


def _check_chosen(where: str, entry: Mapping[str, Any]) -> None:
    if CHOICES in entry:
        raise ValueError(
            f"{where}: has {CHOICES}; replace the whole entry by the choice that holds"
        )


def _check_type(
    where: str, notation: Optional[Notation], types: tuple[str, ...], what: str
) -> None:
    if notation is not None and notation.type not in types:
        raise ValueError(
            f"{where}: {what} go with the type {' or '.join(types)}, got "
            f"{notation.type!r}"
        )


def _check_meant(
    where: str, notation: Optional[Notation], names: tuple[str, ...]
) -> None:
    """Raises ValueError for spellings of a name that is not on the list."""
    if notation is None:
        return
    for text, meant in notation.spellings.items():
        if meant not in names or text in names:
            raise ValueError(
                f"{where}: spellings: {quoted(text)} means {quoted(meant)}, but "
                f"{quoted(meant)} must be "
                f"among the declared names, and {quoted(text)} must not"
            )
    if notation.type == INTEGER and any(whole(name) != name for name in names):
        raise ValueError(
            f"{where}: names of the type integer must be written as 1, not as 01"
        )


def _end(where: str, key: str, value: Any, kind: Any) -> Any:
    """An end of a range; of dates, a text such as 2020-01-31."""
    if kind != DATE or not isinstance(value, str):
        return value
    try:
        day = datetime.date.fromisoformat(value)
    except ValueError:
        raise ValueError(
            f"{where}: {key} of dates must be written as 2020-01-31, got "
            f"{quoted(value)}"
        ) from None
    return (day - datetime.date(1970, 1, 1)).days


def _word(
    where: str, entry: Mapping[str, Any], key: str, words: tuple[str, ...]
) -> str:
    """The word that the entry has at `key`; "refuse" if the entry has no such key."""
    word = entry.get(key, "refuse")
    if word not in words:
        raise ValueError(f"{where}: {key} must be {' or '.join(words)}, got {word!r}")
    return str(word)


def label(where: str, entry: Any) -> tuple[Optional[tuple[str, ...]], Optional[Label]]:
    """The label's classes, and how else it is declared."""
    path = where.removesuffix(": label")
    if not isinstance(entry, dict):
        entry = {}
    _check_chosen(where, entry)
    keys = set(entry) - NOTATION
    if keys == {"columns"} and not NOTATION & set(entry):
        columns = entry["columns"]
        if not isinstance(columns, dict) or not columns:
            raise ValueError(
                f"{where}: columns must be an object of labels by column, got "
                f"{quoted(columns)}"
            )
        several = {
            name: _truth(f"{where} {name!r}", each) for name, each in columns.items()
        }
        return None, Label(MULTI_LABEL, columns=several)
    if entry.get("type") in (NUMBER, INTEGER) and keys <= {"minimum", "maximum"}:
        low, high = entry.get("minimum"), entry.get("maximum")
        for end in (low, high):
            if end is not None and not _is_number(end):
                raise ValueError(
                    f"{where}: minimum and maximum must be numbers, got {quoted(end)}"
                )
        return None, Label(A_NUMBER, _notation(where, entry, NUMBER), low, high)
    classes = _names(entry.get("classes"))
    if entry.get("type") == BOOLEAN and "classes" not in entry and not keys:
        classes = TRUTH
        keys = {"classes"}
    if classes is None or len(classes) < 2 or keys != {"classes"}:
        raise ValueError(
            f"{path}: expected 'label' as {{'classes': [...]}} with two or more "
            "distinct names, {'type': 'number'}, or {'columns': {...}}"
        )
    notation = _notation(where, entry, TEXT, classes)
    _check_type(where, notation, (TEXT, INTEGER, BOOLEAN), "classes")
    if notation is not None and notation.type == BOOLEAN:
        if set(classes) != set(TRUTH):
            raise ValueError(
                f"{where}: classes of the type boolean must be false and true, got "
                f"{', '.join(classes)}"
            )
    else:
        _check_meant(where, notation, classes)
    return classes, None if notation is None else Label(notation=notation)


def _truth(where: str, entry: Any) -> Notation:
    notation = None
    if isinstance(entry, dict) and not set(entry) - NOTATION:
        notation = _notation(where, entry, BOOLEAN)
    if notation is None or notation.type != BOOLEAN:
        raise ValueError(
            f'{where}: expected {{"type": "boolean"}}, optionally with spellings, got '
            f"{quoted(entry)}"
        )
    return notation
