"""Reads a task's options from the texts of a command line."""

from __future__ import annotations

import inspect
import re
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
    """Names of the types that an option may have; of the default's without a name."""
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
    try:
        if "bool" in kinds:
            return _TRUTHS[text.lower()]
        if "int" in kinds:
            return int(text)
        if "float" in kinds:
            return float(text)
    except (KeyError, ValueError):
        if "str" in kinds:
            return text
        expected = " or ".join(kinds)
        raise ValueError(
            f"option {option!r} of task {name!r} must be {expected}, got {text!r}"
        ) from None
    return text
