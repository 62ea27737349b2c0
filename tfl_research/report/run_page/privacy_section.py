"""The section about privacy: sentences, the table of ε by δ, and the statement."""

from __future__ import annotations

import math
import re
from typing import Any

from tfl_research.report import words
from tfl_research.report.run_results import RunResults

_UNITS = {
    "client": "one client with all of its examples",
    "record": "one record of one client; a client with many records is protected less",
}
_NUMBER = re.compile(r"^[0-9.]+(e[-+]?[0-9]+)?$|^inf$|^–$|^-$")
_NOT_PRIVATE = "This run is not differentially private: no guarantee is accounted for."


def delta_table(lines: list[str]) -> tuple[list[str], list[list[str]]]:
    """Reads the statement's table of ε by δ: names of the columns, and rows.

    Both are empty if the statement has no such table.
    """
    for start, line in enumerate(lines):
        head = re.split(r"\s{2,}", line.strip())
        if len(head) < 2 or head[0] != "δ" or not head[1].startswith("ε"):
            continue
        rows = []
        for later in lines[start + 1 :]:
            cells = later.split()
            if len(cells) != len(head) or not all(_NUMBER.match(c) for c in cells):
                break
            rows.append(cells)
        return (head, rows) if rows else ([], [])
    return [], []


def sections_of(lines: list[str]) -> dict[str, str]:
    """Returns the statement's numbered sections, by title."""
    found: dict[str, list[str]] = {}
    title = ""
    for line in lines:
        numbered = re.match(r"^\d+\. (.+)$", line)
        if numbered:
            title = numbered.group(1)
        elif title:
            found.setdefault(title, []).append(line.strip())
    return {name: " ".join(part).strip() for name, part in found.items()}


def _spent(results: RunResults) -> str:
    text = f"ε = {words.bound(results.epsilon)}"
    if not math.isnan(results.delta):
        text += f" at δ = {words.bound(results.delta)}"
    text += f" after {words.counted(results.completed, 'round')}"
    if results.summary.get("stop_reason") == "diverged":
        text += " and the round that diverged"
    if results.limit is not None:
        value, word = results.limit
        text += f", of a {word} of {words.bound(value)}"
    return text + "."


def _relation(lines: list[str]) -> str:
    """Returns the statement's sentence on the neighbouring relation, or ""."""
    text = " ".join(line.strip() for line in lines)
    found = re.search(r"(Neighbouring relation: .+?)\.(?: |$)", text)
    return found.group(1) + "." if found else ""


def section(results: RunResults) -> dict[str, Any]:
    """Makes the content of the section about privacy.

    Returns:
      `is_private`; `spent`, the guarantee in one sentence; `facts`, further sentences;
      `head`, `rows` and `caption` of the table of ε by δ; `statement`, the whole text.
    """
    if not results.is_private:
        return {"is_private": False, "spent": _NOT_PRIVATE, "statement": ""}
    lines = list(results.privacy)
    facts = []
    unit = (results.plan or {}).get("unit")
    if unit in _UNITS:
        facts.append(f"Unit of privacy: {_UNITS[unit]}.")
    facts.append(_relation(lines))
    if results.spent:
        clients = words.counted(len(results.spent), "client")
        facts.append(
            f"Each of the {clients} has an ε of its own; the one above is the largest."
        )
    if any(c.get("class") == "exact" for c in results.columns.values()):
        facts.append(
            "Some numbers on this page are exact, and ε does not cover them; the table "
            "of columns below says which."
        )
    if results.columns and not any(
        c.get("class") == "exact" for c in results.columns.values()
    ):
        facts.append("All columns of metrics.csv are covered by ε or are public.")
    head, rows = delta_table(lines)
    return {
        "is_private": True,
        "spent": _spent(results),
        "facts": [fact for fact in facts if fact],
        "head": head,
        "rows": rows,
        "caption": "The same rounds at other δ"
        if results.has_ended
        else "The rounds of the statement: planned, or done when it was written",
        "statement": "\n".join(lines),
    }
