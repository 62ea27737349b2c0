"""Finds a mechanism's noise for a target ε, and its accountant; remembers results."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from tfl_research.errors import SettingError
from tfl_research.privacy.accounting.calibration import calibrate_event
from tfl_research.privacy.accounting.composition import resolve_accountant
from tfl_research.privacy.accounting.events import Event

# A sweep calibrates all of its points before it runs them, which takes seconds each.
_remembered = functools.lru_cache(maxsize=256)(calibrate_event)


def _says_all(value: Any) -> bool:
    """Whether a value is a plain value or an event of the toolkit.

    Equal values of these types need the same noise. A user's event can have further
    attributes, compare only some of its fields, or depend on something else. So two
    equal events of a user can need different noise.
    """
    if isinstance(value, tuple):
        return all(map(_says_all, value))
    if not dataclasses.is_dataclass(value):
        return value is None or type(value) in (bool, int, float, str)
    own = type(value).__module__.partition(".")[0] == __name__.partition(".")[0]
    fields = [field.name for field in dataclasses.fields(value)]
    return own and all(_says_all(getattr(value, name)) for name in fields)


def noise_for_event(
    event: Event, target_epsilon: float, rounds: int, delta: float, accountant: str
) -> float:
    """Finds the least noise multiplier for ε after all rounds, in steps of 0.001.

    Args:
      event: the event of a round with any noise.
      target_epsilon: largest allowed ε after the last round.
      rounds: the number of rounds.
      delta: target δ.
      accountant: "pld", "rdp", or "auto" for the tightest that applies.

    Raises:
      SettingError: the accountant does not apply to the event.
      ValueError: no noise meets the target.
    """
    checked_accountant(accountant, event)
    arguments = (event, target_epsilon, rounds, delta, accountant)
    return _remembered(*arguments) if _says_all(event) else calibrate_event(*arguments)


def checked_accountant(accountant: str, event: Event) -> str:
    """Chooses the accountant for an event.

    Raises:
      SettingError: the accountant does not apply; the message names the accountants
        that apply.
    """
    try:
        return resolve_accountant(accountant, event)
    except ValueError as error:
        fitting = " or ".join(f"--accountant={name}" for name in event.accountants)
        raise SettingError(
            f"--accountant={accountant}: {error}; give {fitting}"
        ) from error
