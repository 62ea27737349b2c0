"""Damage to the folder of a run, drawn from a seed."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import random
import shutil
from collections.abc import Callable

# (file's content, generator) -> content.
Change = Callable[[bytes, random.Random], bytes]


@dataclasses.dataclass(frozen=True)
class Damage:
    """One change of one file or folder.

    Attributes:
      name: what is done, and to what.
      apply: does it.
    """

    name: str
    apply: Callable[[], object]


def _position(content: bytes, draw: random.Random) -> int:
    return draw.randrange(len(content)) if content else 0


def _flipped(content: bytes, draw: random.Random) -> bytes:
    at = _position(content, draw)
    return (
        content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]
    )


def _with_digit(content: bytes, draw: random.Random) -> bytes:
    digits = [i for i, byte in enumerate(content) if chr(byte).isdigit()]
    if not digits:
        return content + b"7"
    at = draw.choice(digits)
    new = draw.choice([d for d in b"0123456789" if d != content[at]])
    return content[:at] + bytes([new]) + content[at + 1 :]


def _with_letter(content: bytes, draw: random.Random) -> bytes:
    digits = [i for i, byte in enumerate(content) if chr(byte).isdigit()]
    at = draw.choice(digits) if digits else 0
    return content[:at] + b"x" + content[at + 1 :]


def _inserted(what: bytes) -> Change:
    def change(content: bytes, draw: random.Random) -> bytes:
        at = _position(content, draw)
        return content[:at] + what + content[at:]

    return change


def _lines(content: bytes) -> list[bytes]:
    return content.splitlines(keepends=True)


def _doubled(content: bytes, draw: random.Random) -> bytes:
    lines = _lines(content) or [b"x\n"]
    at = draw.randrange(len(lines))
    return b"".join([*lines[: at + 1], *lines[at:]])


def _without_line(content: bytes, draw: random.Random) -> bytes:
    lines = _lines(content) or [b"x\n"]
    at = draw.randrange(len(lines))
    return b"".join(lines[:at] + lines[at + 1 :])


def _swapped(content: bytes, draw: random.Random) -> bytes:
    lines = _lines(content)
    if len(lines) < 2:
        return content + b"\n\n"
    at = draw.randrange(len(lines) - 1)
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    return b"".join(lines)


def _empty_cell(content: bytes, draw: random.Random) -> bytes:
    parts = content.split(b",")
    if len(parts) < 2:
        return b""
    parts[draw.randrange(len(parts))] = b""
    return b",".join(parts)


CHANGES: dict[str, Change] = {
    "cut": lambda content, draw: content[: _position(content, draw)],
    "emptied": lambda content, draw: b"",
    "flipped": _flipped,
    "with another digit": _with_digit,
    "with a letter": _with_letter,
    "with a NUL": _inserted(b"\0"),
    "with bytes": _inserted(b"\xff\xfe\x80"),
    "with a line end": _inserted(b"\n"),
    "with a doubled line": _doubled,
    "without a line": _without_line,
    "with swapped lines": _swapped,
    "with an empty cell": _empty_cell,
    "with a tail": lambda content, draw: content + b"garbage\n",
    "nested deep": lambda content, draw: b"[" * 100_000 + b"]" * 100_000,
    "a huge number": lambda content, draw: b'{"format": ' + b"9" * 6000 + b"}",
    "infinite": lambda content, draw: b'{"format": 1e999, "points": NaN}',
    "a list": lambda content, draw: b"[1, 2]\n",
    "random": lambda content, draw: bytes(draw.randrange(256) for _ in range(200)),
}


def _removed(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _replaced(path: pathlib.Path, make: Callable[[], object]) -> None:
    _removed(path)
    make()


def _kinds(path: pathlib.Path) -> dict[str, Callable[[], object]]:
    """Other things in the place of a file or folder."""
    other = path.with_name("of another name")
    kinds: dict[str, Callable[[], object]] = {
        "removed": lambda: _removed(path),
        "a loop": lambda: _replaced(path, lambda: path.symlink_to(path.name)),
        "/dev/null": lambda: _replaced(path, lambda: path.symlink_to(os.devnull)),
        "a pipe": lambda: _replaced(path, lambda: os.mkfifo(path)),
        "a link to nothing": lambda: _replaced(path, lambda: path.symlink_to(other)),
    }
    if path.is_dir():
        kinds["a file"] = lambda: _replaced(path, lambda: path.write_text("x\n"))
    else:
        kinds["a folder"] = lambda: _replaced(path, path.mkdir)
    return kinds


def drawn(folder: pathlib.Path, seed: int) -> Damage:
    """The damage of a seed; the folder must be the same for the same damage."""
    draw = random.Random(seed)
    paths = sorted(p for p in folder.rglob("*") if "logdir" not in p.parts)
    path = draw.choice(paths)
    name = str(path.relative_to(folder))
    if path.is_dir() or draw.random() < 0.25:
        kind, apply = draw.choice(sorted(_kinds(path).items(), key=lambda k: k[0]))
        return Damage(f"{name}: {kind}", apply)
    kind = draw.choice(sorted(CHANGES))

    def change() -> None:
        path.write_bytes(CHANGES[kind](path.read_bytes(), draw))

    return Damage(f"{name}: {kind}", change)
