"""Checks of the settings that all kinds of plans have."""

from __future__ import annotations

import math
from typing import Optional

from tfl_research.errors import SettingError
from tfl_research.privacy.accounting import events


def check_settings(
    prefix: str,
    *,
    l2_norm_clip: float,
    rounds: int,
    noise_multiplier: Optional[float],
    target_epsilon: Optional[float],
    delta: Optional[float],
    budget_epsilon: Optional[float],
) -> None:
    """Checks ranges, and that either the noise or a target ε is set.

    Args:
      prefix: the prefix of the settings' names, "" or "record_".
      l2_norm_clip: above 0.
      rounds: at least 1.
      noise_multiplier: at least 0, or None for a target.
      target_epsilon: above 0, or None for a noise multiplier.
      delta: between 0 and 1, or None for the default.
      budget_epsilon: at least the target, or None.

    Raises:
      SettingError: a setting is missing or out of range; the message names it.
    """
    flag = f"--{prefix}"
    if noise_multiplier is not None and target_epsilon is not None:
        raise SettingError(
            f"{flag}target_epsilon={target_epsilon:g}: already decides the noise; "
            f"leave it or {flag}noise_multiplier out"
        )
    if noise_multiplier is None and target_epsilon is None:
        raise SettingError(
            f"{flag}noise_multiplier or {flag}target_epsilon is missing; give one of "
            "them"
        )
    try:
        events.check_noise_multiplier(noise_multiplier or 0.0)
    except ValueError as error:
        raise SettingError(
            f"{flag}noise_multiplier={noise_multiplier}: {error}"
        ) from error
    for name, value in (
        ("l2_norm_clip", l2_norm_clip),
        ("target_epsilon", target_epsilon),
        ("budget_epsilon", budget_epsilon),
    ):
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise SettingError(f"{flag}{name}={value:g}: must be above 0 and finite")
    if delta is not None and not 0 < delta < 1:
        raise SettingError(f"{flag}delta={delta:g}: must be above 0 and below 1")
    if rounds < 1:
        raise SettingError(f"--rounds={rounds}: must be at least 1")
    if (
        target_epsilon is not None
        and budget_epsilon is not None
        and budget_epsilon < target_epsilon
    ):
        raise SettingError(
            f"{flag}budget_epsilon={budget_epsilon:g}: is below "
            f"{flag}target_epsilon={target_epsilon:g}, so the run would stop early; "
            "leave it out or raise it"
        )
