"""Settings declared as fields of a frozen dataclass: name, default, range and help.

A group of settings is a plain Python object that checks itself. `cli` makes flags of
it; nothing here knows of command lines.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import operator
import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Optional, TypeVar, Union

from tfl_research.errors import SettingError, in_python

Self = TypeVar("Self", bound="Settings")
# Names that are known at once, or a function that gives those that are registered.
Names = Union[Sequence[str], Callable[[], Sequence[str]]]
_KIND = "kind"
_HELP = "help"
# What a text may be given as: a name that is a number, a path.
_LIKE_TEXT = (str, int, float, os.PathLike)


class Kind:
    """What values a setting has.

    Attributes:
      syntax: the kind in one word, for `--help`: "integer", "a|b".
      expected: what a value must be, in words, for messages.
      convert: the value from itself or from text; raises TypeError, ValueError or
        OverflowError for others.
    """

    def __init__(self, syntax: str, expected: str, convert: Callable[[Any], Any]):
        self._syntax = syntax
        self._expected = expected
        self._convert = convert

    @property
    def syntax(self) -> str:
        """See the class."""
        return self._syntax

    @property
    def expected(self) -> str:
        """See the class."""
        return self._expected

    def parse(self, value: Any) -> Any:
        """The checked value.

        Raises:
          ValueError: "must be ...", for what is no such value.
        """
        try:
            return self._convert(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"must be {self.expected}") from None


class _OneOf(Kind):
    """One of several names; which there are is asked at every use."""

    def __init__(self, names: Names):
        super().__init__("", "", str)
        self._names = names

    @property
    def names(self) -> tuple[str, ...]:
        """The names now."""
        return tuple(self._names() if callable(self._names) else self._names)

    @property
    def fixed_names(self) -> tuple[str, ...]:
        """The names, if no others can be registered; empty otherwise."""
        return () if callable(self._names) else tuple(self._names)

    @property
    def syntax(self) -> str:
        """See `Kind`."""
        return "|".join(self.names)

    @property
    def expected(self) -> str:
        """See `Kind`."""
        return f"one of {', '.join(self.names)}"

    def parse(self, value: Any) -> Any:
        """See `Kind.parse`."""
        if not isinstance(value, str) or value not in self.names:
            raise ValueError(f"must be {self.expected}")
        return value


class Switch(Kind):
    """True or false."""

    def __init__(self) -> None:
        super().__init__("", "True or False", _truth)


class Repeated(Kind):
    """Texts, of which there may be any number: a tuple."""

    def __init__(self) -> None:
        super().__init__("text", "a tuple of texts", _texts)


def _truth(value: Any) -> bool:
    if not isinstance(value, (bool, int)) or value not in (0, 1):
        raise TypeError(value)
    return bool(value)


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, _LIKE_TEXT):
        raise TypeError(value)
    return str(value)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(value)
    return tuple(_text(text) for text in value)


def _field(default: Any, help_text: str, kind: Kind) -> Any:
    return dataclasses.field(default=default, metadata={_KIND: kind, _HELP: help_text})


def _range_text(
    what: str,
    minimum: Optional[float],
    above: Optional[float],
    maximum: Optional[float],
    below: Optional[float],
) -> str:
    bounds = [
        f"{word} {bound:g}"
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
    """A whole number within the bounds.

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
    """A finite number within the bounds.

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
    """One of `names`; a function of them where they can be registered.

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
    return _field(default, help_text, _OneOf(names))


def text(default: Optional[str], help_text: str) -> Any:
    """Any text.

    Example:
      >>> import dataclasses
      >>> from typing import Optional
      >>> @dataclasses.dataclass(frozen=True)
      ... class Source(tfl.settings.Settings):
      ...     folder: Optional[str] = tfl.settings.text(None, "Folder of the data.")
      >>> Source("data/wards")
      Source(folder='data/wards')
    """
    return _field(default, help_text, Kind("text", "text", _text))


def switch(default: Optional[bool], help_text: str) -> Any:
    """True or false: on a command line `--name`, `--noname` or `--name=true`.

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
    """Text that may be given several times; a tuple of texts.

    Example:
      >>> import dataclasses
      >>> @dataclasses.dataclass(frozen=True)
      ... class Columns(tfl.settings.Settings):
      ...     dropped: tuple[str, ...] = tfl.settings.repeated("A column to leave out.")
      >>> Columns(dropped=("name", "street"))
      Columns(dropped=('name', 'street'))
    """
    return _field((), help_text, Repeated())


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base of the groups of settings.

    Subclasses are frozen dataclasses whose fields are made by the functions above.
    Values are converted and checked when a group is built. A setting's name is its
    field's after `PREFIX`; its flag is called like that.

    Attributes:
      TITLE: heading of the group in `--help`.
      PREFIX: put before the names of the fields.

    Raises:
      SettingError: a value that is out of its range, or that another one excludes.

    Example:
      >>> import dataclasses
      >>> @dataclasses.dataclass(frozen=True)
      ... class Decay(tfl.settings.Settings):
      ...     TITLE = "Decay"
      ...     rate: float = tfl.settings.real(0.5, "Factor of each step.", above=0)
      ...     steps: int = tfl.settings.integer(3, "Number of steps.", minimum=1)
      >>> Decay(rate=0.1).flat()
      {'rate': 0.1, 'steps': 3}
      >>> Decay.from_flat({"steps": 5})
      Decay(rate=0.5, steps=5)
      >>> Decay(rate=0)
      Traceback (most recent call last):
          ...
      tfl_research.errors.SettingError: rate=0: must be a number, above 0
    """

    TITLE: ClassVar[str] = ""
    PREFIX: ClassVar[str] = ""

    def __init_subclass__(cls, **more: Any) -> None:
        """Adds the fields, with their help and defaults, to the class's docstring."""
        super().__init_subclass__(**more)
        cls.__doc__ = _with_settings_listed(cls)
        if "__repr__" not in vars(cls):
            # In the class itself, or the dataclass would write another one.
            setattr(cls, "__repr__", Settings._short_repr)  # noqa: B010

    def _short_repr(self) -> str:
        """The class with the fields that differ from their defaults."""
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if field.repr and getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __post_init__(self) -> None:
        for field in declared(type(self)):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            try:
                object.__setattr__(self, field.name, kind_of(field).parse(value))
            except ValueError as error:
                raise self.refused(field.name, str(error)) from None
        self.check()

    def check(self) -> None:
        """Raises SettingError for values that do not go together."""

    @classmethod
    def flag(cls, field: str) -> str:
        """How a field's flag is typed: "--client_optimizer"."""
        return f"--{cls.PREFIX}{field}"

    def refused(self, field: str, why: str) -> SettingError:
        """The error for a field's value: "--rounds=0: must be at least 1"."""
        value = getattr(self, field)
        if isinstance(value, float):
            value = f"{value:g}"
        shown = " ".join(str(value).splitlines())
        return SettingError(f"{self.flag(field)}={shown}: {why}")

    def flat(self) -> dict[str, Any]:
        """The values by the settings' names."""
        return {
            self.PREFIX + field.name: getattr(self, field.name)
            for field in declared(type(self))
        }

    @classmethod
    def from_flat(cls: type[Self], values: Mapping[str, Any]) -> Self:
        """The group with these values, and its defaults where there are none.

        Args:
          values: by the settings' names; names of other groups are ignored.

        Raises:
          SettingError: see the class.
        """
        return cls(
            **{
                field.name: values[cls.PREFIX + field.name]
                for field in declared(cls)
                if cls.PREFIX + field.name in values
            }
        )


def _with_settings_listed(group: type[Settings]) -> Optional[str]:
    """The docstring of a class, which is not a dataclass yet, with its settings."""
    own = {k: v for k, v in vars(group).items() if isinstance(v, dataclasses.Field)}
    fields = {**getattr(group, "__dataclass_fields__", {}), **own}
    listed = {k: v.metadata for k, v in fields.items() if _KIND in v.metadata}
    written = inspect.cleandoc(vars(group).get("__doc__") or "")
    if not listed:
        return written or None
    named = vars(group).get("SUMMARY") or f"settings of {group.__name__}"
    lines = [written or f"{named[:1].upper()}{named[1:]}.", "", "Settings:"]
    for name, metadata in listed.items():
        default = fields[name].default
        ending = "" if default in (None, ()) else f" (default: {default!r})"
        lines += textwrap.wrap(
            f"{name}: {in_python(metadata[_HELP])}{_choices(metadata)}{ending}",
            width=84,
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines) + "\n"


def _choices(metadata: Mapping[str, Any]) -> str:
    """The names of a choice, unless its help has them or they can be registered."""
    kind = metadata[_KIND]
    names = kind.fixed_names if isinstance(kind, _OneOf) else ()
    if all(name in metadata[_HELP] for name in names):
        return ""
    return f" One of {', '.join(names)}."


def declared(group: type[Settings]) -> list[dataclasses.Field[Any]]:
    """The fields of a group that are settings, in order."""
    return [field for field in dataclasses.fields(group) if _KIND in field.metadata]


def kind_of(field: dataclasses.Field[Any]) -> Kind:
    """What values a declared field has."""
    kind: Kind = field.metadata[_KIND]
    return kind


def help_of(field: dataclasses.Field[Any]) -> str:
    """What a declared field is, in words."""
    return str(field.metadata[_HELP])


@dataclasses.dataclass(frozen=True)
class NamedSettings(Settings):
    """Base of what is registered by name: an algorithm, a mechanism, an aggregator.

    A subclass is one specification: its name, what it is, its papers, its parameters
    as fields, and, by what the subclasses of this class define, what builds it and
    what it goes with. Flags, `--help` and tables follow from the registered classes.

    Attributes:
      NAME: by which it is chosen.
      SUMMARY: what it is, in a few words.
      PAPERS: author and year with the arXiv number, the main one first.

    Example:
      >>> scaffold = tfl.algorithms.Scaffold(scaffold_option=1)
      >>> scaffold.NAME, scaffold.flat()
      ('scaffold', {'scaffold_option': 1})
      >>> print(scaffold.title())
      control variates against client drift (Karimireddy et al. 2020, arXiv 1910.06378)
    """

    NAME: ClassVar[str] = ""
    SUMMARY: ClassVar[str] = ""
    PAPERS: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def title(cls) -> str:
        """Summary and papers in one line."""
        if not cls.PAPERS:
            return cls.SUMMARY
        return f"{cls.SUMMARY} ({'; '.join(cls.PAPERS)})"


Value = TypeVar("Value")


def comma_separated(
    group: Settings, field: str, convert: Callable[[str], Value]
) -> list[Value]:
    """The values of a setting that holds a list with commas, none of them twice.

    Args:
      group: the settings.
      field: which of them.
      convert: a value from its text; raises ValueError for others.

    Raises:
      SettingError: an empty list, a value that `convert` refuses, or one that is given
        twice.
    """
    values: list[Value] = []
    for part in str(getattr(group, field)).split(","):
        try:
            value = convert(part.strip())
        except ValueError as error:
            raise group.refused(field, f"{part.strip()!r}: {error}") from None
        if value in values:
            raise group.refused(field, f"{part.strip()!r} is given twice")
        values.append(value)
    return values
