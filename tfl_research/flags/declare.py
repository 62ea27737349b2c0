"""Flags declared as fields of a frozen dataclass: name, default, range and help."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Optional, TypeVar

from absl import flags

from tfl_research.errors import UserError


class FlagError(UserError):
    """A flag's value is refused: one line with the flag, the value and the fix."""


Self = TypeVar("Self", bound="FlagGroup")
_KIND = "flag_kind"
_HELP = "flag_help"


class _Parser(flags.ArgumentParser):
    """Text to value: absl's parser, with the expectation in words.

    Attributes:
      expected: what a value must be, for messages.
    """

    def __init__(
        self, syntactic_help: str, expected: str, convert: Callable[[Any], Any]
    ):
        super().__init__()
        self.syntactic_help = syntactic_help
        self.expected = expected
        self._convert = convert

    def parse(self, argument: Any) -> Any:
        try:
            return self._convert(argument)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"must be {self.expected}") from None

    def flag_type(self) -> str:
        return self.syntactic_help


def _field(default: Any, help_text: str, kind: Any) -> Any:
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
    """A whole number within the bounds."""

    def convert(argument: Any) -> int:
        if isinstance(argument, (bool, float)):
            raise TypeError(argument)
        value = int(argument)
        _check_range(value, minimum, None, maximum, None)
        return value

    expected = _range_text("a whole number", minimum, None, maximum, None)
    return _field(default, help_text, _Parser("integer", expected, convert))


def real(
    default: Optional[float],
    help_text: str,
    *,
    minimum: Optional[float] = None,
    above: Optional[float] = None,
    maximum: Optional[float] = None,
    below: Optional[float] = None,
) -> Any:
    """A finite number within the bounds."""

    def convert(argument: Any) -> float:
        if isinstance(argument, bool):
            raise TypeError(argument)
        value = float(argument)
        if not math.isfinite(value):
            raise ValueError(value)
        _check_range(value, minimum, above, maximum, below)
        return value

    expected = _range_text("a number", minimum, above, maximum, below)
    return _field(default, help_text, _Parser("number", expected, convert))


def choice(default: Optional[str], help_text: str, values: Sequence[str]) -> Any:
    """One of `values`."""

    def convert(argument: Any) -> str:
        if argument not in values:
            raise ValueError(argument)
        return str(argument)

    kind = _Parser("|".join(values), f"one of {', '.join(values)}", convert)
    return _field(default, help_text, kind)


def text(default: Optional[str], help_text: str) -> Any:
    """Any text."""
    return _field(default, help_text, _Parser("text", "text", str))


def switch(default: Optional[bool], help_text: str) -> Any:
    """True or false: `--name`, `--noname`, `--name=true`."""
    return _field(default, help_text, bool)


def repeated(help_text: str) -> Any:
    """Text that may be given several times; a tuple of texts."""
    return _field((), help_text, tuple)


@dataclasses.dataclass(frozen=True)
class FlagGroup:
    """Base of the flag groups; a group can also be built without flags.

    Subclasses are frozen dataclasses whose fields are made by the functions above;
    a field's flag is called like it, after `PREFIX`. Values are checked when a
    group is built.

    Attributes:
      TITLE: heading of the group in `--help`.
      PREFIX: put before the names of the fields.

    Raises:
      FlagError: a value that is out of its range, or that another one excludes.
    """

    TITLE: ClassVar[str] = ""
    PREFIX: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, kind = getattr(self, field.name), field.metadata[_KIND]
            if value is None or not isinstance(kind, _Parser):
                continue
            try:
                object.__setattr__(self, field.name, kind.parse(value))
            except ValueError:
                raise self.refused(field.name, f"must be {kind.expected}") from None
        self.check()

    def check(self) -> None:
        """Raises FlagError for values that do not go together."""

    @classmethod
    def flag(cls, field: str) -> str:
        """How the field's flag is typed: "--client_optimizer"."""
        return f"--{cls.PREFIX}{field}"

    def refused(self, field: str, why: str) -> FlagError:
        """The error for a field's value: "--rounds=0: must be at least 1"."""
        value = getattr(self, field)
        if isinstance(value, float):
            value = f"{value:g}"
        return FlagError(f"{self.flag(field)}={value}: {why}")

    @classmethod
    def define(cls) -> None:
        """Defines the group's flags, or gives defined ones their defaults again.

        Raises:
          absl.flags.DuplicateFlagError: another module has a flag of that name.
        """
        for field in dataclasses.fields(cls):
            name = cls.PREFIX + field.name
            default: Any = field.default
            if default == ():
                default = []
            if (
                name in flags.FLAGS
                and flags.FLAGS.find_module_defining_flag(name) == cls.TITLE
            ):
                flags.FLAGS.set_default(name, default)
                continue
            kind, help_text = field.metadata[_KIND], field.metadata[_HELP]
            if isinstance(kind, _Parser):
                flags.DEFINE(
                    kind,
                    name,
                    default,
                    help_text,
                    serializer=flags.ArgumentSerializer(),
                    module_name=cls.TITLE,
                )
            else:
                define = (
                    flags.DEFINE_boolean if kind is bool else flags.DEFINE_multi_string
                )
                define(name, default, help_text, module_name=cls.TITLE)

    @classmethod
    def undefine(cls) -> None:
        """Takes the group's flags away again, those that are defined."""
        for field in dataclasses.fields(cls):
            name = cls.PREFIX + field.name
            if (
                name in flags.FLAGS
                and flags.FLAGS.find_module_defining_flag(name) == cls.TITLE
            ):
                delattr(flags.FLAGS, name)

    @classmethod
    def get(cls: type[Self]) -> Self:
        """The parsed values of the group's flags, checked.

        Raises:
          FlagError: see the class.
        """
        values = {}
        for field in dataclasses.fields(cls):
            value = flags.FLAGS[cls.PREFIX + field.name].value
            values[field.name] = tuple(value) if field.default == () else value
        return cls(**values)
