"""Dataclass fields that are settings: kind, default, range and help."""

from __future__ import annotations

import dataclasses
import math
import operator
from typing import TYPE_CHECKING, Any, Optional

from tfl_research.settings.kinds import (
    Kind,
    Names,
    OneOf,
    Repeated,
    Switch,
    Text,
)

if TYPE_CHECKING:
    from tfl_research.settings.groups import Settings

_KIND = "kind"
_HELP = "help"
_SECRET = "secret"


def _field(default: Any, help_text: str, kind: Kind, *, secret: bool = False) -> Any:
    return dataclasses.field(
        default=default,
        metadata={_KIND: kind, _HELP: help_text, _SECRET: secret},
    )


def _range_text(
    what: str,
    minimum: Optional[float],
    above: Optional[float],
    maximum: Optional[float],
    below: Optional[float],
) -> str:
    bounds = [
        # Shows every digit of a whole bound; 'g' would round the bound to six digits.
        f"{word} {bound if isinstance(bound, int) else format(bound, 'g')}"
        for word, bound in (
            ("at least", minimum),
            ("above", above),
            ("at most", maximum),
            ("below", below),
        )
        if bound is not None
    ]
    return ", ".join([what, " and ".join(bounds)]) if bounds else what


def _check_range(
    value: float,
    minimum: Optional[float],
    above: Optional[float],
    maximum: Optional[float],
    below: Optional[float],
) -> None:
    if (
        (minimum is not None and value < minimum)
        or (above is not None and value <= above)
        or (maximum is not None and value > maximum)
        or (below is not None and value >= below)
    ):
        raise ValueError(value)


def integer(
    default: Optional[int],
    help_text: str,
    *,
    minimum: Optional[int] = None,
    maximum: Optional[int] = None,
) -> Any:
    """Declares a setting that is a whole number within the bounds.

    Example:
      >>> import dataclasses
      >>> @dataclasses.dataclass(frozen=True)
      ... class Length(tfl.settings.Settings):
      ...     rounds: int = tfl.settings.integer(100, "Rounds of training.", minimum=1)
      >>> Length(rounds=20)
      Length(rounds=20)
      >>> Length(rounds=0)
      Traceback (most recent call last):
          ...
      tfl_research.errors.SettingError: rounds=0: must be a whole number, at least 1
    """

    def convert(value: Any) -> int:
        if isinstance(value, bool):
            raise TypeError(value)
        number = int(value) if isinstance(value, str) else operator.index(value)
        _check_range(number, minimum, None, maximum, None)
        return number

    expected = _range_text("a whole number", minimum, None, maximum, None)
    return _field(default, help_text, Kind("integer", expected, convert))


def real(
    default: Optional[float],
    help_text: str,
    *,
    minimum: Optional[float] = None,
    above: Optional[float] = None,
    maximum: Optional[float] = None,
    below: Optional[float] = None,
) -> Any:
    """Declares a setting that is a finite number within the bounds.

    Example:
      >>> import dataclasses
      >>> @dataclasses.dataclass(frozen=True)
      ... class Decay(tfl.settings.Settings):
      ...     factor: float = tfl.settings.real(0.5, "Of a step.", above=0, maximum=1)
      >>> Decay(factor=1)
      Decay(factor=1.0)
      >>> Decay(factor=1.5)
      Traceback (most recent call last):
          ...
      tfl_research.errors.SettingError: factor=1.5: must be a number, above 0 ...
    """

    def convert(value: Any) -> float:
        if isinstance(value, bool):
            raise TypeError(value)
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(number)
        _check_range(number, minimum, above, maximum, below)
        return number

    expected = _range_text("a number", minimum, above, maximum, below)
    return _field(default, help_text, Kind("number", expected, convert))


def choice(default: Optional[str], help_text: str, names: Names) -> Any:
    """Declares a setting that is one of several names.

    Args:
      default: the default; None for a setting that need not be given.
      help_text: the setting's help.
      names: the names, or a function that returns them if users can register names.

    Example:
      >>> import dataclasses
      >>> @dataclasses.dataclass(frozen=True)
      ... class Decay(tfl.settings.Settings):
      ...     shape: str = tfl.settings.choice("linear", "Shape.", ("linear", "step"))
      >>> Decay("step")
      Decay(shape='step')
      >>> Decay("square")
      Traceback (most recent call last):
          ...
      tfl_research.errors.SettingError: shape=square: must be one of linear, step
    """
    return _field(default, help_text, OneOf(names))


def text(default: Optional[str], help_text: str, *, secret: bool = False) -> Any:
    """Declares a setting that is a text.

    The empty text is allowed only if the setting has a default.

    Args:
      default: the default.
      help_text: what the setting means.
      secret: whether the setting's group shows "<secret>" in place of the value.

    Example:
      >>> import dataclasses
      >>> from typing import Optional
      >>> @dataclasses.dataclass(frozen=True)
      ... class Source(tfl.settings.Settings):
      ...     folder: Optional[str] = tfl.settings.text(None, "Folder of the data.")
      >>> Source("data/wards")
      Source(folder='data/wards')
      >>> Source("")
      Traceback (most recent call last):
          ...
      tfl_research.errors.SettingError: folder=: must be a text that is not empty
    """
    kind = Text(may_be_empty=default is not None)
    return _field(default, help_text, kind, secret=secret)


def switch(default: Optional[bool], help_text: str) -> Any:
    """Declares a setting that is true or false.

    On a command line, the flag is `--name`, `--noname` or `--name=true`.

    Example:
      >>> import dataclasses
      >>> @dataclasses.dataclass(frozen=True)
      ... class Momentum(tfl.settings.Settings):
      ...     nesterov: bool = tfl.settings.switch(False, "Nesterov's momentum.")
      >>> Momentum(nesterov=True)
      Momentum(nesterov=True)
      >>> Momentum(nesterov="yes")
      Traceback (most recent call last):
          ...
      tfl_research.errors.SettingError: nesterov=yes: must be True or False
    """
    return _field(default, help_text, Switch())


def repeated(help_text: str) -> Any:
    """Declares a setting that is a tuple of texts; its flag may be given several times.

    Example:
      >>> import dataclasses
      >>> @dataclasses.dataclass(frozen=True)
      ... class Columns(tfl.settings.Settings):
      ...     dropped: tuple[str, ...] = tfl.settings.repeated("A column to leave out.")
      >>> Columns(dropped=("name", "street"))
      Columns(dropped=('name', 'street'))
    """
    return _field((), help_text, Repeated())


def is_setting(field: dataclasses.Field[Any]) -> bool:
    """Whether a field of a dataclass was made by a function of this module."""
    return _KIND in field.metadata


def is_secret(field: dataclasses.Field[Any]) -> bool:
    """Whether a field holds a secret, which no text may show."""
    return bool(field.metadata.get(_SECRET))


def declared(group: type[Settings]) -> list[dataclasses.Field[Any]]:
    """Returns the fields of a group that are settings, in order."""
    return [field for field in dataclasses.fields(group) if is_setting(field)]


def kind_of(field: dataclasses.Field[Any]) -> Kind:
    """Returns the kind of values that a declared field takes."""
    kind: Kind = field.metadata[_KIND]
    return kind


def help_of(field: dataclasses.Field[Any]) -> str:
    """Returns the help text of a declared field."""
    return str(field.metadata[_HELP])
