"""What the plans of private runs share, and how rounds are held to them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Optional, Protocol

import numpy as np

from tfl_research.errors import SettingError
from tfl_research.privacy.accounting.events import Event
from tfl_research.storage import nest

# Measured scales are float32, as the sums of a few of them are.
MEASURED_TOLERANCE = 1e-4


class PrivacyPlan(Protocol):
    """What an account charges and a run is held to.

    The members are read-only: a plan is made as a whole, and what it says of the
    noise is checked against the event when it is made.
    """

    @property
    def event(self) -> Event:
        """What each round does to privacy."""

    @property
    def delta(self) -> float:
        """Target δ of the run."""

    @property
    def accountant(self) -> str:
        """ "pld" or "rdp"."""

    @property
    def rounds(self) -> int:
        """Rounds that the run intends."""

    @property
    def budget_epsilon(self) -> Optional[float]:
        """ε that no round may exceed, or None."""

    def record(self) -> dict[str, Any]:
        """What must not change between two starts of a run, as JSON values."""

    def check_measured(self, metrics: Mapping[str, Any]) -> None:
        """Checks that a round added the noise that is charged.

        Args:
          metrics: of the round, as the process gave them.

        Raises:
          SettingError: another scale of the noise, or none measured; says what was
            declared and what was measured.
        """


def measured_scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The single numbers in a round's metrics, by the last step of their path.

    Arrays of one element count too. Of equal names the first counts.
    """
    found: dict[str, float] = {}
    for path, leaf in nest.flatten(metrics):
        array = np.asarray(leaf)
        if array.size == 1 and array.dtype.kind in "biuf":
            name = path.rpartition("[")[2].strip("]'\"")
            found.setdefault(name.rpartition(".")[2], float(array.reshape(())))
    return found


def check_declared(
    what: str, declared: Mapping[str, float], measured: Mapping[str, float]
) -> None:
    """Checks measured numbers against those that a plan declares.

    Args:
      what: the mechanism's setting, which begins the message: "--mechanism=tree".
      declared: by name.
      measured: by name.

    Raises:
      SettingError: see `PrivacyPlan.check_measured`.
    """
    if not declared:
        raise SettingError(
            f"{what}: declares nothing that a round could measure, so that its noise "
            "cannot be compared with the plan's"
        )
    for name, expected in declared.items():
        found = measured.get(name)
        if found is None:
            raise SettingError(
                f"{what}: the round measured no {name}, so that its noise cannot be "
                "compared with the plan's; build the aggregator with plan.build, and "
                f"let its measurements have {name}"
            )
        if not math.isclose(found, expected, rel_tol=MEASURED_TOLERANCE):
            raise SettingError(
                f"{what}: the plan declares {name} = {expected:.6g}, but the round "
                f"measured {found:.6g}: the noise that was added is not the noise "
                "that is charged; build the aggregator with plan.build"
            )
