"""Reads and writes the tables of this folder; the standard library alone.

The programs beside it import it, whatever environment they run in.
"""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

HERE = pathlib.Path(__file__).parent


def number(text: str) -> float:
    """A decimal number, or a quotient such as 256/60000."""
    return float(Fraction(text)) if "/" in text else float(text)


def read(name: str) -> list[dict[str, str]]:
    """The rows of a table, as text."""
    with open(HERE / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def cases() -> list[tuple[str, float, float, int, float]]:
    """(case, z, q, T, δ) of each row of cases.csv."""
    return [
        (
            row["case"],
            number(row["noise_multiplier"]),
            number(row["sampling_rate"]),
            int(row["rounds"]),
            number(row["delta"]),
        )
        for row in read("cases.csv")
    ]


def write(name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows with the same keys; floats with their shortest exact digits."""
    rows = list(rows)
    with open(HERE / name, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{name}: {len(rows)} rows")
