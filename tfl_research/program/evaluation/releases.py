"""What a run releases in addition to its models, for the round loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Optional

from tfl_research.outputs import Release
from tfl_research.program.evaluation.private_metrics import (
    PrivateAccuracy,
    PrivateChoice,
)


@dataclasses.dataclass(frozen=True)
class Releases:
    """The outputs that a run releases; by default all, as in a run without privacy.

    Attributes:
      release: which outputs are released.
      accuracy: adds the column `private_accuracy` to each evaluation; the account is
        charged for it.
      choice: chooses the best model by the exponential mechanism; the account is
        charged for it.
      write_statement: writes the privacy statement. The loop calls it before it writes
        report.html, which repeats the statement.
    """

    release: Release = dataclasses.field(default_factory=Release)
    accuracy: Optional[PrivateAccuracy] = None
    choice: Optional[PrivateChoice] = None
    write_statement: Optional[Callable[[], None]] = None
