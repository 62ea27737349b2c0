"""Groups of settings: frozen dataclasses that convert and check their values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from tfl_research.errors import SettingError
from tfl_research.settings.docstrings import with_settings_listed
from tfl_research.settings.fields import declared, kind_of

Self = TypeVar("Self", bound="Settings")
Value = TypeVar("Value")


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
      SettingError: a value is out of its range, or another value excludes it.

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
      Decay(steps=5)
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
        cls.__doc__ = with_settings_listed(cls)
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

    def changed_from(self) -> dict[str, Any]:
        """The defaults of the settings that have another value, by the settings' names.

        Example:
          >>> tfl.Training(rounds=20).changed_from()
          {'rounds': 100}
        """
        return {
            self.PREFIX + field.name: field.default
            for field in declared(type(self))
            if getattr(self, field.name) != field.default
        }

    @classmethod
    def from_flat(cls: type[Self], values: Mapping[str, Any]) -> Self:
        """The group with these values, and with its defaults for the other settings.

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
