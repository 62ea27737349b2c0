"""One thing that a comparison of silos found, and the choices that would settle it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from tfl_research.errors import shortened

# A refused finding stops a run without a declaration; a said one is said by a run, and
# a noted one by scripts/describe_task.
REFUSED, SAID, NOTED = "refused", "said", "noted"


def _seen(text: str) -> str:
    """The text; what a reader would not see, such as a narrow space, is escaped."""
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _abridged(value: Any) -> Any:
    """The JSON value with long texts cut off."""
    if isinstance(value, Mapping):
        return {_abridged(name): _abridged(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_abridged(each) for each in value]
    return shortened(value) if isinstance(value, str) else value


@dataclasses.dataclass(frozen=True)
class Choice:
    """A declaration that would settle a finding.

    Attributes:
      entry: the entry of the column in a schema file.
      meaning: what the cells then are, in words.
      short: the entry's keys that matter, for an error of one line.
    """

    entry: Mapping[str, Any]
    meaning: str
    short: Mapping[str, Any]

    def __str__(self) -> str:
        text = json.dumps(_abridged(self.short), ensure_ascii=False)
        return _seen(f"{text} ({self.meaning})")


@dataclasses.dataclass(frozen=True)
class Finding:
    """A fact about a column that the comparison of silos found.

    Attributes:
      column: the column.
      text: what was found; begins with a file, line and column where a cell shows it.
      fate: "refused", "said" or "noted".
      choices: declarations that would settle it.
      is_feature: whether the column can be left out.
    """

    column: str
    text: str
    fate: str = REFUSED
    choices: tuple[Choice, ...] = ()
    is_feature: bool = True

    def line(self) -> str:
        """The finding, and what to do about it, in one line."""
        if not self.choices:
            return self.text
        listed = " or ".join(map(str, self.choices))
        what = f"column {self.column!r}" if self.is_feature else "the label"
        advice = f"declare {what} in schema.json as {listed}"
        if self.is_feature:
            advice += f", or give drop_columns={self.column}"
        return f"{self.text}; correct the files, or {advice}"


def refuse_first(found: list[Finding]) -> None:
    """Raises ValueError with the first refused finding and the number of others."""
    refused = [finding for finding in found if finding.fate == REFUSED]
    if refused:
        others = len(refused) - 1
        more = f" (and {others} more; scripts/describe_task csv lists all)"
        raise ValueError(refused[0].line() + (more if others else ""))
