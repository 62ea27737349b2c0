"""Values that a user-level plan takes when its user leaves them out."""

from __future__ import annotations

import warnings
from typing import Optional

from tfl_research.errors import SettingError
from tfl_research.privacy.accounting.budget import default_delta, delta_warning
from tfl_research.privacy.mechanisms.run_context import RunShape
from tfl_research.privacy.mechanisms.specification import MechanismSettings


def checked_delta(delta: Optional[float], population: int) -> float:
    """δ of a plan: `default_delta` of the population for None.

    Warns of a large δ on behalf of the caller of a plan's `create`.
    """
    if delta is None:
        delta = default_delta(population)
    warning = delta_warning(delta, population)
    if warning is not None:
        warnings.warn(warning, stacklevel=3)
    return float(delta)


def calibrated_noise_multiplier(
    mechanism: MechanismSettings,
    target_epsilon: float,
    shape: RunShape,
    delta: float,
    accountant: str,
) -> float:
    """See `MechanismSettings.calibrate`; every refusal is a SettingError."""
    try:
        return mechanism.calibrate(target_epsilon, shape, delta, accountant)
    except SettingError:
        raise
    except ValueError as error:
        raise SettingError(f"--target_epsilon={target_epsilon:g}: {error}") from error


def unknown_dimension() -> int:
    """The `Dimension` of a run that gave none.

    Raises:
      ValueError: always; says what to give.
    """
    raise ValueError(
        "the noise depends on the size of the model: give model_dimension, a function "
        "that returns the number of scalars in an update"
    )
