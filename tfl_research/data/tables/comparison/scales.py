"""How files differ in a column of numbers: scales, constants, missing values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfl_research.data.tables.comparison.finding import NOTED, SAID, Finding
from tfl_research.data.tables.files import Silo

# Metres and centimetres differ by a factor of 100.
_FACTOR = 50.0
_FEW = 5
_FEW_OF_A_FILE = 3
# A number is perhaps no number if it is this many ranges of the other numbers away from
# them.
_FAR = 3


def of_values(
    name: str, silos: Sequence[Silo], values: Sequence[np.ndarray]
) -> list[Finding]:
    """Findings on the values of each file.

    Args:
      name: the column.
      silos: the files.
      values: the values of each file, float64, NaN where missing.
    """
    present = [each[~np.isnan(each)] for each in values]
    found = []
    empty = [s.path.name for s, each in zip(silos, present) if not len(each)]
    if empty and len(empty) < len(silos):
        text = f"column {name!r} has no value in {_listed(empty)}"
        found.append(Finding(name, text, NOTED))
    constant = [
        f"{silo.path.name} ({each[0]:g})"
        for silo, each in zip(silos, present)
        if len(each) > 1 and (each == each[0]).all()
    ]
    whole = np.concatenate(present) if present else np.zeros(0)
    if len(whole) and (whole == whole[0]).all():
        text = f"column {name!r} is constant, {whole[0]:g}: its feature is 0"
        found.append(Finding(name, text, NOTED))
    elif constant:
        text = f"column {name!r} is constant in {_listed(constant)}"
        found.append(Finding(name, text, NOTED))
    found += _sentinels(name, np.unique(whole))
    return [*found, *_magnitudes(name, silos, present)]


def _sentinels(name: str, distinct: np.ndarray) -> list[Finding]:
    """Numbers such as -999 that are far from all others."""
    found = []
    for far, others in ((distinct[:1], distinct[1:]), (distinct[-1:], distinct[:-1])):
        if len(others) < _FEW or set(f"{far[0]:g}".strip("-")) != {"9"}:
            continue
        gap = float(np.abs(others - far[0]).min())
        if gap > _FAR * float(others[-1] - others[0]):
            found.append(f"{far[0]:g}")
    if not found:
        return []
    text = (
        f"column {name!r}: {' and '.join(found)} is far from all other numbers: if it "
        "stands for a missing value, declare missing_values in schema.json"
    )
    return [Finding(name, text, SAID)]


def _magnitudes(
    name: str, silos: Sequence[Silo], present: Sequence[np.ndarray]
) -> list[Finding]:
    sizes = {}
    for silo, each in zip(silos, present):
        nonzero = np.abs(each[each != 0])
        if len(nonzero) >= _FEW_OF_A_FILE:
            sizes[silo.path.name] = float(np.median(nonzero))
    if len(sizes) < 2:
        return []
    least, most = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    if sizes[most] < _FACTOR * sizes[least]:
        return []
    text = (
        f"column {name!r}: half of the values are beyond {sizes[most]:g} in {most} and "
        f"{sizes[least]:g} in {least}, a factor of {sizes[most] / sizes[least]:.3g}: "
        "are the units the same? If not, convert one of the files, and declare a range "
        "in schema.json"
    )
    return [Finding(name, text, SAID)]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
