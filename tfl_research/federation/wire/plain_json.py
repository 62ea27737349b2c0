"""The part of JSON that messages use, in which every value reads back unchanged.

These are refused: NaN, infinity, repeated keys, whole numbers of more than 20 digits,
halves of surrogate pairs, and values that are nested more than 32 deep.
"""

from __future__ import annotations

import math
from typing import Any

from tfl_research.storage.files import json_file

_DEPTH = 32
_DIGITS = 20


def parsed(text: bytes) -> Any:
    """The value of a JSON text in UTF-8, which anyone may have written.

    Raises:
      ValueError: the text is not JSON, or is JSON that is not accepted here.
    """
    value = json_file.parsed(text, _DIGITS)
    check(value, "value")
    return value


def check(value: Any, where: str, depth: int = 0) -> None:
    """Refuses values that JSON lacks, or that would not read back unchanged.

    Args:
      value: the value to write.
      where: the name of the value in errors.
      depth: how deep the value is nested in another value.

    Raises:
      ValueError: a part is refused; the message names the part and the reason.
    """
    if depth > _DEPTH:
        raise ValueError(f"{where[:80]} is nested more than {_DEPTH} deep")
    if isinstance(value, str):
        _check_text(value, where)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}, not finite; send it in a tensor")
    elif isinstance(value, int):
        if abs(value) >= 10**_DIGITS:
            raise ValueError(f"{where} has more than {_DIGITS} digits")
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{where} has the key {key!r}, which is not text")
            _check_text(key, f"a key of {where}")
            check(inner, f"{where}.{key}", depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            check(inner, f"{where}[{index}]", depth + 1)
    elif value is not None:
        raise ValueError(
            f"{where} is a {type(value).__name__}; JSON has only texts, numbers, "
            "booleans, None, lists and dictionaries"
        )


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} is not text ({error.reason})") from error
