"""The decisions of a consortium in addition to its drafts, and conflicts of drafts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Optional

from tfl_research.data.tables.agreement.draft import Draft
from tfl_research.data.tables.columns import OUTSIDE, UNKNOWN


class ConflictError(ValueError):
    """Drafts that cannot be merged.

    Attributes:
      lines: a line for each conflict, with the possible choices.
    """

    def __init__(self, *lines: str):
        self.lines = lines
        super().__init__("; ".join(lines))


@dataclasses.dataclass(frozen=True)
class Decisions:
    """The decisions of the consortium in addition to the drafts.

    Attributes:
      ranges: low and high of columns of numbers, known without the data.
      levels: further levels of columns of categories.
      classes: further classes of the label.
      distinct: columns with levels that may differ only by case, space or accent.
      dropped: columns that are no features.
      unknown: how a level that is not on the list is encoded: "refuse", "other" or
        "zeros". None means "zeros" if a site left out rare levels, otherwise "refuse".
      outside: how a number outside of a range is treated: "clip" or "refuse". None
        means "clip" if a site left out rare values, otherwise "refuse". For columns of
        `ranges`, None always means "refuse".

    Raises:
      ValueError: `unknown` or `outside` has another word, or a range is empty.
    """

    ranges: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    levels: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    classes: tuple[str, ...] = ()
    distinct: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    unknown: Optional[str] = None
    outside: Optional[str] = None

    def __post_init__(self) -> None:
        for name, value, words in (
            ("unknown", self.unknown, UNKNOWN),
            ("outside", self.outside, OUTSIDE),
        ):
            if value is not None and value not in words:
                raise ValueError(f"--{name}={value}: must be {' or '.join(words)}")
        for column, (low, high) in self.ranges.items():
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(
                    f"--range={column}={low:g}:{high:g}: the first number must be "
                    "below the second"
                )

    def check_columns(self, known: Iterable[str], label_column: str) -> None:
        """Raises ValueError if a decision is about a column that no draft has."""
        known = set(known)
        named = {
            "range": self.ranges,
            "levels": self.levels,
            "distinct": [c for c in self.distinct if c != label_column],
            "drop_columns": self.dropped,
        }
        for option, columns in named.items():
            for column in columns:
                if column not in known:
                    raise ValueError(
                        f"--{option}={column}: no draft has this column; the drafts "
                        f"have {', '.join(sorted(known))}"
                    )


def left_out(drafts: Iterable[Draft]) -> bool:
    """Whether a site left out levels or values that few rows have."""
    return any(draft.minimum_count > 1 for draft in drafts)
