"""The protocol of privacy plans, and the comparison of rounds with their plan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Protocol

import numpy as np

from tfl_research.errors import SettingError
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.sampler_rest import Draws, RunSize
from tfl_research.storage import nest

# Largest relative difference from the plan; measured scales are sums of few float32
# numbers.
MEASURED_TOLERANCE = 1e-4


class PrivacyPlan(Protocol):
    """Protocol of plans: a run's noise, and the event that is charged for it.

    The members are read-only, since a plan compares its noise with its event only when
    the plan is made.
    """

    @property
    def event(self) -> Event:
        """The event that is charged for each round."""

    @property
    def delta(self) -> float:
        """Target δ of the run."""

    @property
    def accountant(self) -> str:
        """ "pld" or "rdp"."""

    @property
    def rounds(self) -> int:
        """Number of planned rounds."""

    @property
    def budget_epsilon(self) -> Optional[float]:
        """ε that no round may exceed, or None."""

    @property
    def planned_releases(self) -> Sequence[tuple[Event, int]]:
        """Releases that are planned in addition to the rounds, with their counts."""

    def record(self) -> dict[str, Any]:
        """Returns JSON values that must not change between two starts of a run.

        `storage.RunFolder.open` compares these values.
        """

    def draws(self, size: RunSize) -> Draws:
        """Bounds the number of random numbers in the noise of a run of this size."""

    def check_measured(self, metrics: Mapping[str, Any]) -> None:
        """Checks that a round added the noise that is charged.

        Args:
          metrics: the metrics of the round, from the process.

        Raises:
          SettingError: the round measured noise of another scale, or no noise; the
            message names the declared and the measured values.
        """


def measured_scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Returns the scalars in a round's metrics, by the last name of their path.

    Arrays with one element count as scalars. If two scalars have the same name, the
    first is used.
    """
    scalars: dict[str, float] = {}
    for path, leaf in nest.flatten(metrics):
        array = np.asarray(leaf)
        if array.size == 1 and array.dtype.kind in "biuf":
            name = path.rpartition("[")[2].strip("]'\"")
            scalars.setdefault(name.rpartition(".")[2], float(array.reshape(())))
    return scalars


def check_declared(
    setting: str, declared: Mapping[str, float], measured: Mapping[str, float]
) -> None:
    """Compares measured numbers with the numbers that a plan declares.

    Args:
      setting: the mechanism's setting, which begins the message: "--mechanism=tree".
      declared: the declared numbers by name.
      measured: the measured numbers by name.

    Raises:
      SettingError: a number was not measured, or differs; or none is declared.
    """
    if not declared:
        raise SettingError(
            f"{setting}: declares nothing that a round could measure, so its noise "
            "cannot be compared with the plan; let declared_noise have at least one "
            "value"
        )
    for name, expected in declared.items():
        value = measured.get(name)
        if value is None:
            raise SettingError(
                f"{setting}: the round measured no {name}, so its noise cannot be "
                "compared with the plan; build the aggregator with plan.build, and "
                f"let its measurements have {name}"
            )
        if not math.isclose(value, expected, rel_tol=MEASURED_TOLERANCE):
            raise SettingError(
                f"{setting}: the plan declares {name} = {expected:.6g}, but the round "
                f"measured {value:.6g}: the noise that was added is not the noise "
                "that is charged; build the aggregator with plan.build"
            )
