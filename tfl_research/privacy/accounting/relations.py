"""Neighbouring relations: which of them one ε can cover, and by which theorem."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from tfl_research.privacy.accounting.events import Event

REPLACE_ONE = "replace_one"
# Replacing a client is two steps of these: the client goes, and another one comes.
TWO_STEPS = ("add_or_remove_one", "zero_out")


@dataclasses.dataclass(frozen=True)
class Total:
    """ε of composed rounds.

    Attributes:
      epsilon: ε of all rounds together.
      relation: the neighbouring relation that ε is for; None without rounds.
      theorem: words for how rounds under other relations were converted, without a full
        stop; None if no rounds were converted.
      accountant: "pld" or "rdp", or "pld and rdp" if parts have different accountants.
    """

    epsilon: float
    relation: str | None
    theorem: str | None = None
    accountant: str = "pld"

    @property
    def words(self) -> str:
        """Words for the relation, and for the theorem if there is one."""
        if self.relation is None:
            return "no rounds"
        converted = "" if self.theorem is None else f" ({self.theorem})"
        return f"under {self.relation}{converted}"


def check_release(what: str, release: Event, rounds: Event) -> None:
    """Checks that one ε covers a further release and a run's rounds.

    Args:
      what: the name of the release in the message.
      release: the event of the release.
      rounds: the event of the run's rounds.

    Raises:
      ValueError: the neighbouring relations or the units of privacy differ.
    """
    of_release = release.neighbouring_relation
    for name, theirs, ours in (
        ("unit", release.unit, rounds.unit),
        ("neighbouring_relation", of_release, rounds.neighbouring_relation),
    ):
        if theirs != ours:
            raise ValueError(
                f"{what} has {name} {theirs!r}, but the rounds of this run have "
                f"{ours!r}, and no ε covers both; give the release an event with "
                f"{name} {ours!r}"
            )


def convertible(relations: Iterable[str]) -> bool:
    """Whether one ε covers rounds under all of these relations."""
    distinct = set(relations)
    return len(distinct) < 2 or distinct <= {REPLACE_ONE, *TWO_STEPS}
