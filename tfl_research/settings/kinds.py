"""Kinds of values that a setting can have, and their conversion from text."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Union

# Fixed names, or a function that returns the names that are registered now.
Names = Union[Sequence[str], Callable[[], Sequence[str]]]
# Types of values that are taken as text: a name can be a number, a folder a path.
_LIKE_TEXT = (str, int, float, os.PathLike)

# The largest seed of initial weights that NumPy and TensorFlow both take.
LARGEST_SEED = 2**32 - 1


class Kind:
    """The kind of values that a setting takes.

    Attributes:
      syntax: the kind in one word, for `--help`: "integer", "a|b".
      expected: what a value must be, in words, for messages.
      convert: converts a value or its text; raises TypeError, ValueError or
        OverflowError if it cannot.
    """

    def __init__(self, syntax: str, expected: str, convert: Callable[[Any], Any]):
        self._syntax = syntax
        self._expected = expected
        self._convert = convert

    @property
    def syntax(self) -> str:
        """The kind in one word, for `--help`."""
        return self._syntax

    @property
    def expected(self) -> str:
        """The words that follow "must be" in an error message."""
        return self._expected

    def parse(self, value: Any) -> Any:
        """Converts and checks a value or its text.

        Raises:
          ValueError: the value is not of this kind; the message says "must be ...".
        """
        try:
            return self._convert(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"must be {self.expected}") from None


class OneOf(Kind):
    """One of several names, looked up at each use, since users can register names."""

    def __init__(self, names: Names):
        super().__init__("", "", str)
        self._names = names

    @property
    def names(self) -> tuple[str, ...]:
        """The current names."""
        return tuple(self._names() if callable(self._names) else self._names)

    @property
    def fixed_names(self) -> tuple[str, ...]:
        """The names, or no names if users can register further names."""
        return () if callable(self._names) else tuple(self._names)

    @property
    def syntax(self) -> str:
        return "|".join(self.names)

    @property
    def expected(self) -> str:
        return f"one of {', '.join(self.names)}"

    def parse(self, value: Any) -> Any:
        if not isinstance(value, str) or value not in self.names:
            raise ValueError(f"must be {self.expected}")
        return value


class Switch(Kind):
    """True or false."""

    def __init__(self) -> None:
        super().__init__("", "True or False", _truth)


class Text(Kind):
    """A text, or a number or path that stands for its text.

    Args:
      may_be_empty: whether the empty text is one of its values.
    """

    def __init__(self, *, may_be_empty: bool = False) -> None:
        if may_be_empty:
            super().__init__("text", "text", _text)
        else:
            super().__init__("text", "a text that is not empty", _some_text)


class Repeated(Kind):
    """A tuple of any number of texts."""

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


def _some_text(value: Any) -> str:
    text = _text(value)
    # No path, name or column can contain a NUL character.
    if not text or "\0" in text:
        raise ValueError(value)
    return text


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(value)
    return tuple(_text(text) for text in value)
