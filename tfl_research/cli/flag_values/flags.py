"""Defines flags from settings, and parses command lines."""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from tfl_research import registry
from tfl_research.cli.flag_values import flag_files
from tfl_research.cli.preset import Given, Preset
from tfl_research.errors import (
    SettingError,
    UserError,
    message_for_command_line,
)
from tfl_research.experiment.configs import Cohorts
from tfl_research.registry import SettingsRegistry
from tfl_research.sampling import OWN_SAMPLERS
from tfl_research.settings import (
    Kind,
    Repeated,
    Switch,
    declared,
    help_of,
    kind_of,
)


class _Parser(flags.ArgumentParser):
    """absl's parser of a kind of setting, or of several kinds.

    If choices share the name of a parameter, the parser keeps the text, since the
    chosen class decides the parameter's kind.
    """

    def __init__(self, kinds: Sequence[Kind]):
        super().__init__()
        self._kinds = kinds
        self.syntactic_help = kinds[0].syntax

    def parse(self, argument: Any) -> Any:
        if len(self._kinds) == 1:
            return self._kinds[0].parse(argument)
        for kind in self._kinds[:-1]:
            try:
                kind.parse(argument)
            except ValueError:
                continue
            return argument
        self._kinds[-1].parse(argument)
        return argument

    def flag_type(self) -> str:
        return str(self.syntactic_help)


class _SwitchParser(flags.BooleanParser):
    """absl's parser of true and false, with a plain error message."""

    def parse(self, argument: Any) -> bool:
        try:
            return bool(super().parse(argument))
        except (TypeError, ValueError):
            raise ValueError("must be true or false") from None


@dataclasses.dataclass(frozen=True)
class Defined:
    """The flags of a preset.

    Attributes:
      values: absl's flags, separate for each command line.
      sections: flag names by heading.
    """

    values: flags.FlagValues
    sections: Mapping[str, Sequence[str]]


def define(preset: Preset) -> Defined:
    """Defines the flags of a preset's groups, with the preset's defaults.

    Raises:
      SettingError: two groups have a setting with the same name.
    """
    values = flags.FlagValues()
    sections: dict[str, list[str]] = {}

    def add(
        title: str, name: str, kinds: Sequence[Kind], default: Any, text: str
    ) -> None:
        if name in preset.missing or name in preset.fixed:
            return
        if name in values:
            other = next(head for head, own in sections.items() if name in own)
            raise SettingError(
                f"--{name}: {other} and {title} both have a setting of this name, so "
                "its value would reach both; give the plugin's setting another name"
            )
        default = preset.defaults.get(name, default)
        sections.setdefault(title, []).append(name)
        if isinstance(kinds[0], Switch):
            flags.DEFINE_boolean(name, default, text, flag_values=values)
            values[name].parser = _SwitchParser()
        elif isinstance(kinds[0], Repeated):
            flags.DEFINE_multi_string(name, list(default), text, flag_values=values)
        else:
            serializer: Any = flags.ArgumentSerializer()
            flags.DEFINE(
                _Parser(kinds),
                name,
                default,
                text,
                flag_values=values,
                serializer=serializer,
            )

    for group in preset.groups:
        if isinstance(group, SettingsRegistry):
            _define_choice(group, add)
            continue
        for field in declared(group):
            add(
                group.TITLE,
                group.PREFIX + field.name,
                [kind_of(field)],
                field.default,
                help_of(field),
            )
        if group is Cohorts:
            _define_parameters(OWN_SAMPLERS, Cohorts.TITLE, add)
    return Defined(values, sections)


def _define_choice(choices: SettingsRegistry[Any], add: Any) -> None:
    """Defines the flag that chooses, and the parameters of every choice."""
    members = [chosen for _, chosen in choices.items()]
    title = members[0].TITLE
    lines = [f"{chosen.NAME}: {chosen.title()}" for chosen in members]
    names = Kind(
        "|".join(choices.names()),
        f"one of {', '.join(choices.names())}",
        _name_of(choices),
    )
    which = (
        f"Which {choices.what}; parameters below show their defaults in parentheses."
    )
    text = "\n".join([which, *lines])
    add(title, choices.setting, [names], members[0].NAME, text)
    _define_parameters(choices, title, add)


def _define_parameters(choices: SettingsRegistry[Any], title: str, add: Any) -> None:
    """Defines the parameters of every choice."""
    for parameter, owners in choices.parameters().items():
        fields = [
            (owner, field)
            for owner in owners
            for field in declared(choices.get(owner))
            if choices.get(owner).PREFIX + field.name == parameter
        ]
        add(
            title,
            parameter,
            list(dict.fromkeys(kind_of(field) for _, field in fields)),
            () if isinstance(kind_of(fields[0][1]), Repeated) else None,
            _parameter_help(fields),
        )


def _name_of(choices: SettingsRegistry[Any]) -> Any:
    def convert(value: Any) -> str:
        if value not in choices:
            raise ValueError(value)
        return str(value)

    return convert


def _parameter_help(fields: Sequence[tuple[str, Any]]) -> str:
    """Describes a parameter: the choices that have it, its default, its meaning."""
    by_help: dict[str, list[str]] = {}
    shown = [_default(field.default) for _, field in fields]
    for (owner, field), default in zip(fields, shown):
        by_help.setdefault(help_of(field), []).append(f"{owner}{default}")
    if len(by_help) == len(set(shown)) == 1 and len(fields) > 6:
        return f"Robust rules{shown[0]}: {next(iter(by_help))}"
    return " ".join(f"{', '.join(who)}: {text}" for text, who in by_help.items())


def _default(value: Any) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return f" ({str(value).lower()})"
    return f" ({value:g})" if isinstance(value, float) else f" ({value})"


def parse(preset: Preset, argv: Sequence[str]) -> Given:
    """Parses the flags of a command line; first imports the modules of --plugin.

    Args:
      preset: the preset of the binary.
      argv: the program's path, then the arguments.

    Raises:
      UserError: a flag is unknown, a value is refused, or an argument is not a flag.
    """
    argv = [*argv[:1], *flag_files.expanded(argv[1:])]
    load_plugins(argv)
    defined = define(preset)
    try:
        rest = defined.values(list(argv))[1:]
    except flags.UnrecognizedFlagError as error:
        raise UserError(_unrecognised(preset, defined, error.flagname)) from None
    except (flags.Error, ValueError) as error:
        # absl raises ValueError for --noflag=value.
        raise UserError(_plain(str(error))) from None
    if rest:
        raise UserError(
            f"unexpected argument {rest[0]!r}; flags are given as --name=value"
        )
    return Given(preset, _given(defined.values))


def further(preset: Preset, setting: str, text: str, arguments: Sequence[str]) -> Any:
    """Parses settings inside another flag's text; returns `{name: value}`.

    Args:
      preset: the preset that has the settings as flags.
      setting, text: the other flag and its whole text, for messages.
      arguments: the settings as "--name=value", ...

    Raises:
      SettingError: see `parse`; the message begins with the other flag.
    """
    defined = define(preset)
    try:
        rest = defined.values([preset.name, *flag_files.expanded(arguments)])[1:]
    except flags.UnrecognizedFlagError as error:
        why = _unrecognised(preset, defined, error.flagname)
        raise SettingError(f"--{setting}={text}: {why}") from None
    except (flags.Error, ValueError) as error:
        why = message_for_command_line(error)
        raise SettingError(f"--{setting}={text}: {_plain(why)}") from None
    if rest:
        raise SettingError(
            f"--{setting}={text}: unexpected argument {rest[0]!r}; flags are given as "
            "--name=value"
        )
    return _given(defined.values)


def _given(values: flags.FlagValues) -> dict[str, Any]:
    return {
        name: tuple(values[name].value)
        if isinstance(values[name].value, list)
        else values[name].value
        for name in values
        if values[name].present
    }


def load_plugins(argv: Sequence[str]) -> None:
    """Imports the modules of a command line's --plugin flags.

    Raises:
      UserError: a module cannot be imported.
    """
    values = flags.FlagValues()
    flags.DEFINE_multi_string("plugin", [], "", flag_values=values)
    try:
        values(list(argv), known_only=True)
    except (flags.Error, ValueError) as error:
        # absl raises ValueError for --noflag=value.
        raise UserError(_plain(str(error))) from None
    if values["plugin"].value:
        here = os.getcwd()
        if here not in sys.path:
            sys.path.append(here)
    for module in values["plugin"].value:
        registry.load_plugin(module)


def _plain(message: str) -> str:
    """Removes absl's prefixes from its message."""
    line = " ".join(message.split())
    for start in ("flag ", "ERROR:: "):
        if line.startswith(start):
            line = line[len(start) :]
    return line


def _unrecognised(preset: Preset, defined: Defined, name: str) -> str:
    if name in preset.missing:
        return f"--{name}: {preset.missing[name]}"
    known = list(defined.values)
    # "learning_rate" is meant to be "client_learning_rate".
    similar = [n for n in known if n.endswith(f"_{name}")]
    similar += difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    suggestion = ", ".join(f"--{n}" for n in list(dict.fromkeys(similar))[:3])
    hint = f"; did you mean {suggestion}?" if similar else ""
    return f"unknown flag --{name}{hint} (--help lists all)"
