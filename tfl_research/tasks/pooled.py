"""Values that a task computed from the rows of several clients or records together.

A differential-privacy guarantee covers only data that reach a run through clipped,
noised updates. Scales, categories, classes, vocabularies and partitions that are
computed from pooled rows reach the run another way. A task lists these values. A
private run refuses them, unless they are declared public knowledge.
"""

from __future__ import annotations

import dataclasses

CLIENT = "client"
RECORD = "record"
UNITS = (CLIENT, RECORD)


@dataclasses.dataclass(frozen=True)
class Pooled:
    """A value that a task computed from pooled rows.

    Attributes:
      what: names the value, as "the classes of the label".
      source: names the rows behind the value, as "the labels of all files".
      unit: "client" if an added or removed client can change the value, or move another
        client; a record can then change the value too. "record" if an added or removed
        record can change the value, or move another record of the training data, but a
        client cannot.
      remedy: how a user declares the value, as "write schema.json"; empty if the only
        way is to declare the value public.

    Raises:
      ValueError: the unit is neither "client" nor "record".

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
    """Returns the `Pooled` for a number of held-out clients that is a share of all."""
    if not held_out:
        return ()
    return (Pooled("the number of held-out clients", "the number of all clients"),)
