"""Speeches by speaking role, parsed from the text of a play."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Optional

# A stage direction runs from its opening bracket to its closing one. Where the
# closing one was forgotten, a blank line ends it; in places a brace opens it.
_DIRECTION = re.compile(r"[\[{](?:[^\]}\n]|\n(?![ \t]*\n))*[\]}]?")
# A direction that was printed without brackets, at the start of a paragraph...
_BARE_DIRECTION = re.compile(
    r"^(?:(?:Re-)?[Ee]nter [A-Z]|Flourish\b|Alarums?\b|Spoken by |The [A-Z]{5})"
)
# ... or at the end of a line.
_BARE_EXIT = re.compile(r"\b(?:Exit|Exeunt)\b(?: [A-Z][A-Za-z]*)*\.?$")
# Marks between the lines of a song: titles, numbers of verses, ornaments.
_MARK = re.compile(r"^(?:SONG|[IVX]+|[@*= ]+)\.?$")
_HEADING = re.compile(
    r"^(?:ACT|SCENE|DUMB SHOW|THE (?:END|PROLOGUE|ORDER))\b", re.IGNORECASE
)
_HEADING_OR_ROLE = re.compile(r"^(?:PROLOGUE|EPILOGUE|INDUCTION)\.?$")
_BODY_START = re.compile(
    r"^(?:ACT\b.{0,25}|(?:THE )?PROLOGUE\.?|INDUCTION\.?)$",
    re.IGNORECASE | re.MULTILINE,
)
_CUE_CHARACTERS = re.compile(r"^[A-Z0-9][A-Za-z0-9 .,'&-]{0,39}$")
_MIXED_CUE = re.compile(r"^(?:(?:[A-Z][a-z]*\.?|[1-4]|and) )*[A-Z][a-z]+\.$")
_INLINE_CUE = re.compile(r"^([A-Z0-9][A-Za-z0-9 '-]{1,30})\. +(\S.*)$")
_ORDINALS = {"1": "FIRST", "I": "FIRST", "2": "SECOND", "3": "THIRD", "4": "FOURTH"}
_GROUP = re.compile(r"^(?:ALL|BOTH|SOME)\b|[&,]|\b(?:AND|ALL|OTHERS?)\b")


def normalised_role(cue: str) -> str:
    """Returns the role that a cue names: upper case, no dots, ordinals as words.

    `"1. Clown."` and `"FIRST CLOWN"` both name the role `"FIRST CLOWN"`.
    """
    words = cue.replace(".", " ").rstrip(":]- ").upper().split()
    if len(words) > 1:
        words[0] = _ORDINALS.get(words[0], words[0])
    return " ".join(words)


def is_group(role: str) -> bool:
    """Whether a cue stands for several roles at once ("ALL", "HOR AND MAR")."""
    return _GROUP.search(role) is not None


def speeches(
    text: str, aliases: Optional[Mapping[str, str]] = None
) -> dict[str, list[str]]:
    """Finds each role's speeches, in the order of the play.

    A cue is a line with only a name, after a blank line. It has the style of
    most cues of the play: upper case (`"HAMLET."`, `"OBERON"`) or capitalised
    with a full stop (`"Ham."`, `"Lady Capulet."`). If a name is a cue elsewhere,
    speech may follow the name on the same line
    (`"KEEPER.  Your Grace may enter now."`). Stage directions, headings, the
    list of persons and speeches of several roles at once are left out.

    Args:
      text: a play, with its list of persons, headings and stage directions.
      aliases: `{normalised role: role}` of cues that name the same role.

    Returns:
      `{role: [speech, ...]}`; lines of a speech are separated by newlines.
    """
    start = _BODY_START.search(text)
    body = text[start.start() :] if start else text
    paragraphs = list(_paragraphs(_DIRECTION.sub("", body).replace("_", "")))
    upper = [p[0] for p in paragraphs if _is_upper_cue(p[0])]
    mixed = [p[0] for p in paragraphs if len(p) > 1 and _MIXED_CUE.match(p[0])]
    cues = upper if len(upper) > len(mixed) else mixed
    known = {normalised_role(cue) for cue in cues}

    result: dict[str, list[str]] = {}
    role: Optional[str] = None
    for lines in paragraphs:
        spoken = lines
        cue = _cue(lines, known)
        if cue is not None:
            name, rest = cue
            role = None if is_group(name) else (aliases or {}).get(name, name)
            if role is not None:
                result.setdefault(role, []).append("")
            spoken = rest
        elif _HEADING.match(lines[0]) or _HEADING_OR_ROLE.match(lines[0]):
            role = None
        if role is not None and spoken and not _BARE_DIRECTION.match(spoken[0]):
            so_far = result[role][-1]
            result[role][-1] = "\n".join(([so_far] if so_far else []) + spoken)
    kept = {role: [s for s in spoken if s] for role, spoken in result.items()}
    return {role: spoken for role, spoken in kept.items() if spoken}


def _paragraphs(body: str) -> Iterator[list[str]]:
    """Splits text into paragraphs: lists of lines without surplus spaces."""
    for paragraph in re.split(r"\n[ \t]*\n", body):
        lines = [" ".join(line.split()) for line in paragraph.split("\n")]
        lines = [
            _BARE_EXIT.sub("", line).rstrip()
            for line in lines
            if line and not _MARK.match(line)
        ]
        lines = [line for line in lines if line]
        for position, line in enumerate(lines):
            # A closing bracket is left only if its opening bracket is missing.
            if "]" in line and not _is_upper_cue(line.rstrip("]")):
                lines = lines[position + 1 :]
                break
        if lines:
            yield lines


def _is_upper_cue(line: str) -> bool:
    if not _CUE_CHARACTERS.match(line) or _HEADING.match(line):
        return False
    letters = [c for c in line.replace(" and ", " ") if c.isalpha()]
    # Half is enough: the texts have cues such as "LADY FalcoNBRIDGE.".
    return len(letters) > 1 and 2 * sum(c.isupper() for c in letters) > len(letters)


def _cue(lines: list[str], known: set[str]) -> Optional[tuple[str, list[str]]]:
    """Returns the role whose cue opens a paragraph, and the lines of its speech."""
    first, rest = lines[0].rstrip("]"), lines[1:]
    if _HEADING_OR_ROLE.match(first) and not rest:
        return None
    if _CUE_CHARACTERS.match(first) and normalised_role(first) in known:
        # "Gloster." alone may be a cue; within speech it would not be alone.
        return normalised_role(first), rest
    inline = _INLINE_CUE.match(first)
    if inline and normalised_role(inline.group(1)) in known:
        return normalised_role(inline.group(1)), [inline.group(2), *rest]
    return None
