"""Names that are written differently although they may be the same name."""

from __future__ import annotations

import decimal
import re
import unicodedata
from collections.abc import Iterable
from typing import Optional

from tfl_research.data.tables import written

_SIGNS = re.compile("[^0-9]")
# Between letters, a space, a dash and an underscore separate words alike.
_BETWEEN = re.compile(r"(?<=[^\W\d_])[-_‐‑–—'’\"“”]+(?=[^\W\d_])")
# Signs around a text that a program took for a part of it, as in `a, "b"`.
_QUOTES = "\"'`´“”„‟‘’‚«»‹›"
_LETTERS = re.compile(r"([^\W\d_])\1+")
# Ends of words: signs, spaces, and a capital letter after a small one.
_WORDS = re.compile(r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])")
_CODE = re.compile(r"[IVXLCDM]+|[ivx]+|([^\W\d_])\1*", re.UNICODE)
# Shorter names are codes, such as A and AA.
_SHORTEST = 3


def plain(text: str) -> str:
    """The text without case, spaces, accents and quotes; a number as a number.

    Example:
      >>> from tfl_research.data.tables.comparison import spellings
      >>> spellings.plain("Béta Blocker") == spellings.plain("beta-blocker")
      True
      >>> spellings.plain("1.0") == spellings.plain("01")
      True
    """
    unquoted = text.strip().strip(_QUOTES)
    if unquoted.strip():
        text = unquoted
    number = written.value(text.strip())
    if number is not None:
        with decimal.localcontext() as context:
            context.prec = 1000
            return str(number.normalize()) if number else "0"
    if written.kind(text.strip()) == written.GROUPED:
        return str(decimal.Decimal(_SIGNS.sub("", text)).normalize())
    decomposed = unicodedata.normalize("NFKD", text)
    # Neither accents nor characters that are not seen.
    bare = "".join(
        c
        for c in decomposed
        if not unicodedata.combining(c) and unicodedata.category(c) not in ("Cc", "Cf")
    )
    joined = _BETWEEN.sub("", "".join(bare.casefold().split()))
    return joined.rstrip(".") or joined


def misread(text: str) -> Optional[str]:
    """The text that was UTF-8 and was read as Windows-1252; None for other texts.

    Example:
      >>> from tfl_research.data.tables.comparison import spellings
      >>> spellings.misread("CafÃ©")
      'Café'
      >>> spellings.misread("Café") is None
      True
    """
    for encoding in ("cp1252", "latin-1"):
        try:
            original = text.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
        return original if original != text else None
    return None


def squeezed(text: str) -> str:
    """The plain text with each letter once where it stands several times in a row.

    Words that are codes stay as they are: Roman numerals, and one letter repeated. So
    "Stage I" and "Stage II" differ, and "Type A" and "Type AA".

    Example:
      >>> from tfl_research.data.tables.comparison import spellings
      >>> spellings.squeezed("Yess") == spellings.squeezed("yes")
      True
      >>> spellings.squeezed("NYHA II") == spellings.squeezed("NYHA III")
      False
    """
    whole = plain(text)
    if not _LETTERS.search(whole):
        return whole
    # Composed, so that an accent is no end of a word.
    words = _WORDS.split(unicodedata.normalize("NFC", text))
    once = "".join(
        plain(word) if _CODE.fullmatch(word) else _LETTERS.sub(r"\1", plain(word))
        for word in words
        if word
    )
    return once if len(once) >= _SHORTEST else whole


def alike(levels: Iterable[str]) -> list[list[str]]:
    """Groups of levels that differ by case, space, accent or number format alone.

    Words of which one has a letter twice ("yes", "yess") are a group as well.
    """
    groups: dict[str, list[str]] = {}
    for level in levels:
        groups.setdefault(squeezed(level), []).append(level)
    return [group for group in groups.values() if len(group) > 1]


def differ_by_a_letter(one: str, two: str) -> bool:
    """Whether two names of four or more characters differ by a single letter.

    A letter more, less or another, or two neighbours in the other order; no digits.
    """
    one, two = plain(one), plain(two)
    if len(one) > len(two):
        one, two = two, one
    if len(one) < _SHORTEST or len(two) <= _SHORTEST or one == two:
        return False
    start = next((i for i, (a, b) in enumerate(zip(one, two)) if a != b), len(one))
    rest_one, rest_two = one[start:], two[start:]
    if len(two) == len(one) + 1:
        return rest_one == rest_two[1:] and rest_two[0].isalpha()
    if len(one) != len(two):
        return False
    if rest_one[1:] == rest_two[1:]:
        return rest_one[0].isalpha() and rest_two[0].isalpha()
    swapped = rest_one[:2] == rest_two[1::-1] and rest_one[2:] == rest_two[2:]
    return swapped and rest_one[:2].isalpha()
