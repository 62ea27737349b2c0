"""Reads JSON files of earlier starts, and checks that they can be read back exactly."""

from __future__ import annotations

import json
import math
import pathlib
from typing import Any, NoReturn

from tfl_research.storage.files import file_kinds

# Counts and seeds have far fewer; reading takes time with the square of the digits.
_MOST_DIGITS = 400


def read(path: pathlib.Path) -> Any:
    """Reads the value in a JSON file.

    Raises:
      FileNotFoundError: there is no file.
      ValueError: the path is not a file, the text is not UTF-8 or not JSON, or the JSON
        is not accepted: it is nested too deep, a number is not finite or has too many
        digits, or a key occurs twice. The message has only the reason.
    """
    wrong = file_kinds.problem(path)
    if wrong is not None:
        raise ValueError(wrong)
    return parsed(path.read_bytes())


def parsed(content: bytes, most_digits: int = _MOST_DIGITS) -> Any:
    """Parses a JSON text in UTF-8; see `read`.

    Args:
      content: the text.
      most_digits: the largest number of digits of a whole number.

    Raises:
      ValueError: see `read`.
    """
    try:
        return json.loads(
            content.decode(),
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_int=lambda text: _integer(text, most_digits),
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text at byte {error.start}") from None
    except RecursionError:
        raise ValueError("objects or lists are nested too deep") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number in JSON")


def _integer(text: str, most_digits: int) -> int:
    digits = len(text.lstrip("-"))
    if digits > most_digits:
        raise ValueError(
            f"a number has {digits} digits; at most {most_digits} are read"
        )
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is not finite")
    return number
