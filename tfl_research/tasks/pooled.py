"""What a task computed from the rows of several clients or records together.

A differential-privacy guarantee covers what reaches a run through clipped, noised
updates. Scales, categories, classes, vocabularies and partitions that are computed from
pooled rows reach the run another way. A task names these values here. A private run
refuses them, unless they are declared public knowledge.
"""

from __future__ import annotations

import dataclasses

CLIENT = "client"
RECORD = "record"
UNITS = (CLIENT, RECORD)


@dataclasses.dataclass(frozen=True)
class Pooled:
    """Something that a task computed from pooled rows.

    Attributes:
      what: the computed thing, as "the classes of the label".
      source: what it was computed from, as "the labels of all files".
      unit: "client" if one client more or less can change it, or move another client;
        one record can then change it too. "record" if an added or removed record can
        change the value, or move another record of the training data, but a client
        cannot.
      remedy: how a user declares it, as "write schema.json"; empty if there is no way
        but to declare it public.

    Raises:
      ValueError: another unit.

    Example:
      >>> from tfl_research import tasks
      >>> words = tasks.Pooled("the vocabulary", "the words of all clients")
      >>> words.concerns("client"), words.concerns("record")
      (True, True)
    """

    what: str
    source: str
    unit: str = CLIENT
    remedy: str = ""

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"unit must be {' or '.join(UNITS)}, got {self.unit!r}")

    def concerns(self, unit: str) -> bool:
        """Whether an added or removed "client" or "record" can change the value."""
        return unit == RECORD or self.unit == CLIENT


def held_out_share(held_out: int) -> tuple[Pooled, ...]:
    """The number of held-out clients, if there are some, as a share of all clients."""
    if not held_out:
        return ()
    return (Pooled("the number of held-out clients", "the number of all clients"),)
