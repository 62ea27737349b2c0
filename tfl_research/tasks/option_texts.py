"""Reads a task's options from the texts of a command line."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable
from typing import Any

_TRUTHS = {
    "true": True,
    "yes": True,
    "1": True,
    "false": False,
    "no": False,
    "0": False,
}

# The types of options that can be read from a text.
READ = frozenset({"int", "float", "bool", "str", "None"})


def kinds_of(parameter: inspect.Parameter) -> list[str]:
    """Returns names of the types that an option may have.

    An option without annotation has the type of its default.
    """
    annotation = parameter.annotation
    if annotation is parameter.empty:
        default = parameter.default
        annotation = "" if default in (None, parameter.empty) else type(default)
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        annotation = annotation.__name__
    text = re.sub(r"\b(typing|t|types|builtins)\.", "", str(annotation))
    text = text.replace("NoneType", "None")
    if match := re.fullmatch(r"Optional\[(.*)\]", text):
        text = f"{match[1]}|None"
    if match := re.fullmatch(r"Union\[(.*)\]", text):
        text = match[1].replace(",", "|")
    return [kind.strip() for kind in text.split("|")]


def read(name: str, option: str, text: str, parameter: inspect.Parameter) -> Any:
    """Converts the text of a task's option to the option's type.

    Args:
      name: the name of the task.
      option: the name of the option.
      text: what the command line has; for a bool "true" or "false", and "none" for an
        optional option.
      parameter: the option among the parameters of the task's builder.

    Raises:
      ValueError: the text does not have the option's type, or the builder does not
        say the type.
    """
    kinds = kinds_of(parameter)
    if not set(kinds) <= READ:
        got = "|".join(kinds) or "no annotation"
        raise ValueError(
            f"option {option!r} of task {name!r} cannot be read from a text: its "
            f"builder gives it {got}; annotate it with int, float, bool, str or "
            "Optional of these"
        )
    if "None" in kinds and text.lower() == "none":
        return None
    # In this order: 1 is a number if the option may be a number.
    converters: tuple[tuple[str, Callable[[str], Any]], ...] = (
        ("int", int),
        ("float", float),
        ("bool", _truth),
    )
    for kind, convert in converters:
        if kind in kinds:
            with contextlib.suppress(ValueError):
                return convert(text)
    if "str" in kinds:
        return text
    expected = " or ".join(kinds)
    raise ValueError(
        f"option {option!r} of task {name!r} must be {expected}, got {text!r}"
    )


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTHS:
        raise ValueError(f"expected one of {', '.join(_TRUTHS)}, got {text!r}")
    return _TRUTHS[text.lower()]
