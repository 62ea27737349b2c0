"""Kinds of values that a setting can have, and their conversion from text."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Union

# Names that are known at once, or a function that gives those that are registered.
Names = Union[Sequence[str], Callable[[], Sequence[str]]]
# What a text may be given as: a name that is a number, a path.
_LIKE_TEXT = (str, int, float, os.PathLike)

# What NumPy and TensorFlow take as the seed of a model's initial weights.
LARGEST_SEED = 2**32 - 1


class Kind:
    """The kind of values that a setting takes.

    Attributes:
      syntax: the kind in one word, for `--help`: "integer", "a|b".
      expected: what a value must be, in words, for messages.
      convert: the value from itself or from text; raises TypeError, ValueError or
        OverflowError for others.
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
        """The expected values in words: the second half of an error's sentence."""
        return self._expected

    def parse(self, value: Any) -> Any:
        """The checked value.

        Raises:
          ValueError: "must be ...", for a text that is not such a value.
        """
        try:
            return self._convert(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"must be {self.expected}") from None


class OneOf(Kind):
    """One of several names, which are looked up at each use: there may be new names."""

    def __init__(self, names: Names):
        super().__init__("", "", str)
        self._names = names

    @property
    def names(self) -> tuple[str, ...]:
        """The names now."""
        return tuple(self._names() if callable(self._names) else self._names)

    @property
    def fixed_names(self) -> tuple[str, ...]:
        """The names, if no others can be registered; empty otherwise."""
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
    """Texts, of which there may be any number: a tuple."""

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
    # No path, name or column has a NUL.
    if not text or "\0" in text:
        raise ValueError(value)
    return text


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(value)
    return tuple(_text(text) for text in value)
