"""Docstrings of groups of settings, with every setting's help and default."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from typing import Any, Optional

from tfl_research.errors import in_python
from tfl_research.settings.fields import help_of, is_setting, kind_of
from tfl_research.settings.kinds import OneOf


def with_settings_listed(group: type[Any]) -> Optional[str]:
    """Returns a class's docstring with its settings; call it before `dataclass`."""
    own = {k: v for k, v in vars(group).items() if isinstance(v, dataclasses.Field)}
    fields = {**getattr(group, "__dataclass_fields__", {}), **own}
    listed = {name: field for name, field in fields.items() if is_setting(field)}
    written = inspect.cleandoc(vars(group).get("__doc__") or "")
    if not listed:
        return written or None
    named = vars(group).get("SUMMARY") or f"settings of {group.__name__}"
    lines = [written or f"{named[:1].upper()}{named[1:]}.", "", "Settings:"]
    for name, field in listed.items():
        default = field.default
        ending = "" if default in (None, ()) else f" (default: {default!r})"
        lines += textwrap.wrap(
            f"{name}: {in_python(help_of(field))}{_choices(field)}{ending}",
            width=84,
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines) + "\n"


def _choices(field: dataclasses.Field[Any]) -> str:
    """Lists a choice's names, unless the help has them or users can register names."""
    kind = kind_of(field)
    names = kind.fixed_names if isinstance(kind, OneOf) else ()
    if all(name in help_of(field) for name in names):
        return ""
    return f" One of {', '.join(names)}."
