"""Neighbouring relations: which of them one ε can cover, and by which theorem."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

REPLACE_ONE = "replace_one"
# Replacing a client is two steps of these: the client goes, and another one comes.
TWO_STEPS = ("add_or_remove_one", "zero_out")


@dataclasses.dataclass(frozen=True)
class Total:
    """ε of composed rounds.

    Attributes:
      epsilon: of all rounds together.
      relation: the neighbouring relation that ε is for; None without rounds.
      theorem: a sentence on how rounds under other relations were converted; None if
        none were.
    """

    epsilon: float
    relation: str | None
    theorem: str | None = None


def convertible(relations: Iterable[str]) -> bool:
    """Whether one ε covers rounds under all of these relations."""
    distinct = set(relations)
    return len(distinct) < 2 or distinct <= {REPLACE_ONE, *TWO_STEPS}
