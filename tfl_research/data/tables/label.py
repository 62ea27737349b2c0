"""How a schema declares the label: classes, a number, or several labels at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Optional

from tfl_research.data.tables.notation import Notation

CLASSES, A_NUMBER, MULTI_LABEL = "classes", "number", "multi_label"
KINDS = (CLASSES, A_NUMBER, MULTI_LABEL)


@dataclasses.dataclass(frozen=True)
class Label:
    """How a schema declares the label.

    Attributes:
      kind: "classes", "number" or "multi_label".
      notation: how the cells of classes or of a number are written; None where the
        schema says nothing: a cell is then a class exactly as it is written.
      low, high: the range of a number, outside of which a cell is refused; or None.
      columns: how the cells of each label of "multi_label" are written.
    """

    kind: str = CLASSES
    notation: Optional[Notation] = None
    low: Optional[float] = None
    high: Optional[float] = None
    columns: Mapping[str, Notation] = dataclasses.field(
        default_factory=dict, hash=False
    )
