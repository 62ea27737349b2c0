"""README and the pages of docs/: their code, their commands, and how to run both."""

from __future__ import annotations

import contextlib
import importlib
import io
import pathlib
import re
import runpy
import shlex
from collections.abc import Iterator
from typing import Any

from tfl_research import cli
from tfl_research.cli import privacy_ledger
from tfl_research.cli.tasks import describe_task

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}


def fenced(page: str) -> list[tuple[str, str]]:
    """(language, text) of each block of a page; commands mostly have no language."""
    return re.findall(
        r"^```(\w*)\n(.*?)^```$", PAGES[page], flags=re.DOTALL | re.MULTILINE
    )


def code(word: str) -> str:
    """The one block of Python with a word in it, of all pages."""
    (found,) = [
        text
        for page in PAGES
        for language, text in fenced(page)
        if language == "python" and word in text
    ]
    return found


def executed(text: str, folder: pathlib.Path) -> dict[str, Any]:
    """The names that a block leaves, run as a file in a folder of its own."""
    path = folder / "mine.py"
    path.write_text(text, encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()):
        return runpy.run_path(str(path), run_name="__main__")


def lines_of_commands(page: str, *languages: str) -> Iterator[list[str]]:
    """Command lines of a page as words, with the block's own `X="..."` put in."""
    for language, block in fenced(page):
        if language not in ("", *languages):
            continue
        names: dict[str, str] = {}
        for line in block.replace("\\\n", " ").splitlines():
            line = line.split("   #")[0]
            given = re.match(r'([A-Z])="(.*)"$', line)
            for name, value in names.items():
                line = line.replace(f"${name}", value)
            if given:
                names[given[1]] = given[2]
            elif line.startswith("scripts/"):
                yield shlex.split(line)


def experiments(page: str) -> Iterator[list[str]]:
    """Commands of a page that start an experiment: the program and its flags."""
    for script, *words in lines_of_commands(page):
        program = words[0] if words else ""
        if script != "scripts/run" or "..." in words:
            continue
        if program.startswith("experiments/"):
            yield words


def run(page: str, words: str, *changed: str) -> str:
    """Runs the one command of a page with these words, in this process.

    Args:
      page: the page's path.
      words: what the command begins with, or a part of it.
      changed: flags that are put in the place of the page's own, so that CI need not
        do all of its rounds. A flag that the page's command lacks is refused.

    Returns:
      What the command printed.
    """
    (found,) = [
        command
        for command in lines_of_commands(page, "sh")
        if words in shlex.join(command)
    ]
    for flag in changed:
        name, _, _ = flag.partition("=")
        (place,) = [
            index
            for index, given in enumerate(found)
            if given.partition("=")[0] == name
        ]
        found[place] = flag
    return said(*found)


def said(script: str, *arguments: str) -> str:
    """What a command of the scripts prints; it must end well."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        if script == "scripts/run":
            binary = importlib.import_module(pathlib.PurePath(arguments[0]).stem)
            result = cli.execute(binary.PRESET, arguments)
        elif script == "scripts/describe_task":
            result = describe_task.main(arguments)
        elif script == "scripts/privacy_ledger":
            result = privacy_ledger.main(arguments)
        else:
            raise ValueError(f"{script}: this test knows no such script")
    assert result == 0, errors.getvalue()
    return output.getvalue()
