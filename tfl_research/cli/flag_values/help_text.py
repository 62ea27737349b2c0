"""The text of `--help`."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from typing import Any

from absl import flags

from tfl_research.cli.flag_values import flags as defined_flags
from tfl_research.cli.preset import Preset

_WIDTH = 88
_INDENT = 6
_REPEATED = ";\n    repeat this option"


def page(preset: Preset, argv: Sequence[str]) -> str:
    """Makes the text of --help: the flags by group, with their defaults.

    Args:
      preset: the preset of the binary.
      argv: the program's path, then arguments; the modules of --plugin are imported.
    """
    defined_flags.load_plugins(argv)
    defined = defined_flags.define(preset)
    lines = [
        preset.doc.strip(),
        "",
        f"Usage: {os.path.basename(argv[0])} --flag=value ...",
        "       --flagfile=FILE reads flags from a file, one to a line.",
    ]
    for title, names in defined.sections.items():
        lines += ["", f"{title}:", *(_entry(defined.values[name]) for name in names)]
    return "\n".join(lines) + "\n"


def _entry(flag: flags.Flag[Any]) -> str:
    if flag.boolean:
        name = f"--[no]{flag.name}"
    else:
        kind = getattr(flag.parser, "syntactic_help", "") or "text"
        name = f"--{flag.name}={kind}"
        if len(name) > _WIDTH - 2:
            # There are too many choices for a line, so the flag's help lists them.
            name = f"--{flag.name}=name"
    # For None and an empty list, the flag's help says what they mean.
    shown = "" if flag.default in (None, [], "") else f" (default: {_default(flag)})"
    # absl adds its own sentence to flags that may be repeated. Further lines of a
    # help are a list.
    first, *rest = flag.help.partition(_REPEATED)[0].split("\n")
    lines = [_filled(first + shown, 0), *(_filled(line, 2) for line in rest)]
    body = "\n".join(lines)
    return f"  {name}\n{body}"


def _filled(line: str, further: int) -> str:
    return textwrap.fill(
        line,
        _WIDTH,
        initial_indent=" " * (_INDENT + further),
        subsequent_indent=" " * (_INDENT + 2 * further),
        break_on_hyphens=False,
    )


def _default(flag: flags.Flag[Any]) -> str:
    if isinstance(flag.default, float):
        return f"{flag.default:g}"
    return str(flag.default).lower() if flag.boolean else str(flag.default)
