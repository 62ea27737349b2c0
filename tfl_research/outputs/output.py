"""One output of a run: its class, and the people whose data it depends on."""

from __future__ import annotations

import dataclasses

# Classes of outputs.
PRIVATE = "private"
PUBLIC = "public"
EXACT = "exact"
SECRET = "secret"
DERIVED = "derived"
CLASSES = {
    PRIVATE: "covered by ε",
    PUBLIC: "the same for any data",
    EXACT: "not covered by ε",
    SECRET: "stays with the owner",
    DERIVED: "made of the columns that are given out",
}
# Whose data an output depends on.
TRAINING = "training clients"
HELD_OUT = "held-out clients"
NOBODY = "none"


@dataclasses.dataclass(frozen=True)
class Output:
    """A column, file or folder that a run releases.

    Attributes:
      name: the name of the column or file; a name that ends in "*" is a pattern.
      kind: `PRIVATE` (covered by ε), `PUBLIC` (does not depend on data), `EXACT`
        (not covered by ε), `SECRET` (stays with the owner of the run) or `DERIVED` (a
        file that is made from the released columns, and has their classes).
      what: one sentence that describes the output.
      whose: whose data the output depends on: `TRAINING`, `HELD_OUT` or `NOBODY`.
      paid_by: which charge covers a private output: "rounds", "evaluation" or
        "selection"; empty for other outputs.
    """

    name: str
    kind: str
    what: str
    whose: str = NOBODY
    paid_by: str = ""

    def matches(self, name: str) -> bool:
        """Whether the output has this name, or its pattern fits the name."""
        if self.name.endswith("*"):
            return name.startswith(self.name[:-1])
        return name == self.name

    def record(self) -> dict[str, str]:
        """Returns the output's entry in columns.json, as JSON values by name."""
        record = {"class": self.kind, "depends_on": self.whose, "what": self.what}
        if self.paid_by:
            record["paid_by"] = self.paid_by
        return record
