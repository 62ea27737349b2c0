"""The reference has every public name, and every public name has a docstring."""

from __future__ import annotations

import ast
import importlib
import inspect
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pages():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs"))
        yield importlib.import_module("reference_pages")
        del sys.modules["reference_pages"]


def documented(pages):
    """The public names of all pages, with what they are."""
    for package in pages.PACKAGES:
        module = importlib.import_module(package)
        for name in pages.public_names(module):
            yield f"{package}.{name}", getattr(module, name)


def test_every_public_package_has_a_page(pages):
    import tfl_research

    public = {
        f"tfl_research.{name}"
        for name in tfl_research.__all__
        if inspect.ismodule(getattr(tfl_research, name))
    }
    # Command lines have pages of flags; runs are documented at the front door.
    left_out = {"tfl_research.cli", "tfl_research.experiment"}
    assert public - left_out <= set(pages.PACKAGES)


def test_every_public_name_has_a_docstring(pages):
    lacking = []
    for name, value in documented(pages):
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        if not inspect.getdoc(value):
            lacking.append(name)
        if inspect.isclass(value):
            for member, method in vars(value).items():
                public = not member.startswith("_")
                if (
                    public
                    and inspect.isroutine(method)
                    and not inspect.getdoc(getattr(value, member))
                ):
                    lacking.append(f"{name}.{member}")
    assert lacking == []


def test_a_name_is_documented_once_and_nowhere_lost(pages):
    text = {package: pages.api_page(package) for package in pages.PACKAGES}
    for name, value in documented(pages):
        package, _, short = name.rpartition(".")
        page = pages._page_of(package, value)
        directive = [
            f".. {kind}:: {page}.{short}"
            for kind in ("autoclass", "autofunction", "py:data")
        ]
        found = [line for line in text[page].splitlines() if line in directive]
        assert len(found) == 1, f"{name} on the page {page}: {found}"


def test_a_docstring_says_what_it_is_before_it_points_elsewhere(pages):
    """At least three words beside "see `Another`"."""
    pointer = re.compile(r"[;,.:]? *\b[Ss]ee `[^`]*`(,? (and )?`[^`]*`)*")
    short = []
    for name, value in documented(pages):
        if inspect.isclass(value) or inspect.isroutine(value):
            first = (inspect.getdoc(value) or "").split("\n\n")[0]
            if len(pointer.sub("", first).split()) < 3:
                short.append(f"{name}: {first}")
    assert short == []


def docstrings(source):
    """The docstrings of a file, with their lines."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, kinds):
            text = ast.get_docstring(node)
            if text is not None:
                yield getattr(node, "lineno", 1), text


def test_no_docstring_begins_by_pointing_elsewhere():
    """Also not "See `Another`; further words", nor "As `Another`, but ..."."""
    pointing = re.compile(r"(See|As|Like) (the class|the attributes|Keras|argparse|`)")
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for folder in ("tfl_research", "experiments", "scripts")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in docstrings(path.read_text(encoding="utf-8"))
        if pointing.match(text)
    ]
    assert found == []
