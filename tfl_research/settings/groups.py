"""Groups of settings: frozen dataclasses that convert and check their values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from tfl_research.errors import SettingError, shortened
from tfl_research.settings.docstrings import with_settings_listed
from tfl_research.settings.fields import declared, is_secret, kind_of

Self = TypeVar("Self", bound="Settings")
Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base class of groups of settings.

    Subclasses are frozen dataclasses whose fields are made by `integer`, `real`,
    `choice`, `text`, `switch` and `repeated`. Values are converted and checked when a
    group is built. The name of a setting, and of its flag, is `PREFIX` followed by the
    field's name.

    Attributes:
      TITLE: heading of the group in `--help`.
      PREFIX: a text before the names of the fields.

    Raises:
      SettingError: a value is out of its range, or two values exclude each other.

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
            # Set on the class itself, so that the dataclass does not write its own.
            setattr(cls, "__repr__", Settings._short_repr)  # noqa: B010

    def _short_repr(self) -> str:
        """Shows the class's name and the fields that differ from their defaults."""
        shown = [
            f"{field.name}="
            f"{'<secret>' if is_secret(field) else repr(getattr(self, field.name))}"
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
        """Checks that the values fit together; subclasses override it.

        Raises:
          SettingError: two values exclude each other, or a value needs another one.
        """

    @classmethod
    def flag(cls, field: str) -> str:
        """Returns a field's flag as it is typed, such as "--client_optimizer"."""
        return f"--{cls.PREFIX}{field}"

    def refused(self, field: str, why: str) -> SettingError:
        """Returns the error for a field's value: "--rounds=0: must be at least 1"."""
        value = getattr(self, field)
        if isinstance(value, float):
            value = f"{value:g}"
        shown = " ".join(shortened(value).splitlines())
        return SettingError(f"{self.flag(field)}={shown}: {why}")

    def flat(self) -> dict[str, Any]:
        """Returns the values by the settings' names."""
        return {
            self.PREFIX + field.name: getattr(self, field.name)
            for field in declared(type(self))
        }

    def changed_from(self) -> dict[str, Any]:
        """Returns the default of each setting that has another value, by name.

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
        """Makes a group from these values, with defaults for the other settings.

        Args:
          values: values by the settings' names; names of other groups are ignored.

        Raises:
          SettingError: a value is out of its range, two values exclude each other, or a
            setting without default is missing.
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
    """Base class of parts that are registered by name, such as algorithms.

    The subclass for a kind of part (algorithms, mechanisms, aggregators) defines how a
    part is built and what the part is compatible with. A registered class has a name, a
    summary, papers, and parameters as fields. Flags, `--help` and tables are made from
    the registered classes.

    Attributes:
      NAME: the name by which users choose the part.
      SUMMARY: a few words that describe the part.
      PAPERS: author and year with the arXiv number of each paper, the main paper first.

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
        """Returns summary and papers in one line."""
        if not cls.PAPERS:
            return cls.SUMMARY
        return f"{cls.SUMMARY} ({'; '.join(cls.PAPERS)})"


def comma_separated(
    group: Settings, field: str, convert: Callable[[str], Value]
) -> list[Value]:
    """Reads the values of a setting that holds a list with commas.

    Args:
      group: the settings.
      field: the name of the field that holds the list.
      convert: converts the text of a value; raises ValueError if it cannot.

    Raises:
      SettingError: the list is empty, `convert` refuses a value, or a value is given
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
