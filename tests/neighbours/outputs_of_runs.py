"""Everything that a run gives out, split into named items that can be compared."""

from __future__ import annotations

import csv
import hashlib
import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

# A number in a printed line, an ε or a rate among them.
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|inf|nan)\b")


def items(folder: pathlib.Path, printed: str) -> dict[str, Any]:
    """Every file of a run's folder and every printed line, by item.

    The names of items are "metrics.csv: COLUMN", "summary.json: a.b", "logdir: TAG",
    "screen: LABEL", "privacy.txt: LINE" and paths of other files.
    """
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        found.update(_of_file(name, path))
    for label, values in labelled_numbers(printed, str(folder)).items():
        found[f"screen: {label}"] = values
    return found


def _of_file(name: str, path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    if name == "metrics.csv":
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for column in rows[0] if rows else ():
            cells = tuple(row[column] for row in rows)
            if any(cells):
                yield f"metrics.csv: {column}", cells
    elif name.endswith(".json") and "/" not in name:
        for key, value in leaves(json.loads(path.read_text(encoding="utf-8"))):
            yield f"{name}: {key}", value
    elif name.startswith("logdir/"):
        yield from events(path)
    elif name == "privacy.txt":
        for label, values in labelled_numbers(path.read_text("utf-8"), "").items():
            yield f"privacy.txt: {label}", values
    elif name == "clients.csv":
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for split in dict.fromkeys(row["split"] for row in rows):
            yield f"{name}: {split}", [r for r in rows if r["split"] == split]
    else:
        yield name, hashlib.sha256(path.read_bytes()).hexdigest()


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested JSON values, by dotted name."""
    if isinstance(value, Mapping) and value:
        for key, member in value.items():
            yield from leaves(member, f"{name}.{key}" if name else str(key))
    else:
        yield name, json.dumps(value, sort_keys=True)


def events(path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    """The scalars and texts of a TensorBoard file, without the times."""
    from tensorflow.compat.v1 import train

    by_tag: dict[str, list[Any]] = {}
    for event in train.summary_iterator(str(path)):
        for value in event.summary.value:
            content = value.SerializeToString(deterministic=True)
            by_tag.setdefault(value.tag, []).append((event.step, content))
    for tag, values in by_tag.items():
        yield f"logdir: {tag}", tuple(values)


def labelled_numbers(text: str, folder: str) -> dict[str, tuple[str, ...]]:
    """The numbers of a text by the words in front of them.

    Words between two numbers are the label of the second. Lines without a number are
    labels themselves. A name that holds digits ("round-00000004") is a word.
    """
    found: dict[str, list[str]] = {}
    for raw in text.splitlines():
        line = raw.replace(folder, "FOLDER") if folder else raw
        start, label = 0, ""
        for match in _NUMBER.finditer(line):
            label = " ".join(line[start : match.start()].split()).strip(" ,;:=|(")
            start = match.end()
            found.setdefault(label, []).append(match.group())
        rest = " ".join(line[start:].split())
        if rest:
            found.setdefault(rest, []).append("")
    return {label: tuple(values) for label, values in found.items()}


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """The names of items that differ, or that only one of the runs has."""
    return {
        name
        for name in {*one, *other}
        if name not in one or name not in other or one[name] != other[name]
    }
