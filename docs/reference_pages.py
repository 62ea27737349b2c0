"""Writes the pages under docs/reference/ from the package: public names and flags."""

from __future__ import annotations

import importlib
import inspect
import os
import pathlib
import re
import subprocess
import sys
import types

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Packages whose public names have a page, in the order of the table of contents.
PACKAGES = (
    "tfl_research",
    "tfl_research.tasks",
    "tfl_research.tasks.objectives",
    "tfl_research.data",
    "tfl_research.data.tables",
    "tfl_research.models",
    "tfl_research.algorithms",
    "tfl_research.clients",
    "tfl_research.processes",
    "tfl_research.aggregators",
    "tfl_research.attacks",
    "tfl_research.privacy",
    "tfl_research.sampling",
    "tfl_research.devices",
    "tfl_research.program",
    "tfl_research.runtime",
    "tfl_research.storage",
    "tfl_research.report",
    "tfl_research.settings",
    "tfl_research.registry",
    "tfl_research.errors",
)
# Pages of the checkout's root that the documentation shows as well.
ROOT_PAGES = ("BUILD_NOTES", "CHANGELOG", "CONTRIBUTING")
# Programs beside the experiments, and their commands.
PROGRAMS = {
    "describe_task": ("tfl_research.cli.tasks.describe_task", ()),
    "privacy_ledger": (
        "tfl_research.cli.privacy_ledger",
        ("show", "plan", "verify", "budget"),
    ),
    "federation": (
        "tfl_research.cli.federation",
        ("schema", "provision", "environments", "carry", "export", "demo"),
    ),
    "site": ("tfl_research.cli.site", ()),
}


def public_names(module: types.ModuleType) -> list[str]:
    """A package's public names that are no modules, in the package's order."""
    names = getattr(module, "__all__", None)
    if names is None:
        names = [name for name in vars(module) if not name.startswith("_")]
    return [
        name
        for name in names
        if not inspect.ismodule(getattr(module, name))
        and name not in ("annotations", "TYPE_CHECKING")
        and _is_ours(getattr(module, name))
    ]


def _is_ours(value: object) -> bool:
    """Whether a name belongs to the package; constants do."""
    owner = getattr(value, "__module__", None)
    return owner is None or str(owner).startswith("tfl_research")


def _page_of(package: str, value: object) -> str:
    """The package on whose page a name is documented: the nearest to its module."""
    module = str(getattr(value, "__module__", package))
    around = [each for each in PACKAGES if f"{module}.".startswith(f"{each}.")]
    nearest = max(around, key=len, default=package)
    name = getattr(value, "__name__", None)
    return nearest if hasattr(importlib.import_module(nearest), str(name)) else package


def _entry(package: str, name: str, value: object) -> list[str]:
    page = _page_of(package, value)
    if page != package:
        return [f"- `{name}`: :doc:`{page}`", ""]
    if inspect.isclass(value):
        return [f".. autoclass:: {package}.{name}", "   :members:", ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: {package}.{name}", ""]
    return [f".. py:data:: {package}.{name}", ""]


def api_page(package: str) -> str:
    """The page of a package, as reStructuredText."""
    module = importlib.import_module(package)
    lines = [package, "=" * len(package), "", f".. automodule:: {package}", ""]
    for name in public_names(module):
        lines += _entry(package, name, getattr(module, name))
    return "\n".join(lines)


def root_page(path: pathlib.Path) -> str:
    """A page of the checkout's root, with its links as seen from docs/reference/."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"\]\(docs/", "](../", text)
    return re.sub(r"\]\(([A-Z_]+)\.md", lambda found: f"]({found[1].lower()}.md", text)


def _help(*command: str) -> str:
    """What a program prints with --help."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "88"}
    done = subprocess.run(
        [sys.executable, *command, "--help"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout:
        raise RuntimeError(f"{' '.join(command)} --help printed nothing: {done.stderr}")
    return done.stdout


def _block(title: str, text: str) -> list[str]:
    return [f"## {title}", "", "```text", text.rstrip(), "```", ""]


def flags_page() -> str:
    """Every flag of every program, as the programs print them."""
    lines = ["# Flags", "", "What each program prints with `--help`.", ""]
    for path in sorted((ROOT / "experiments").glob("*.py")):
        lines += _block(f"experiments/{path.name}", _help(str(path)))
    for program, (module, commands) in PROGRAMS.items():
        lines += _block(f"scripts/{program}", _help("-m", module))
        for command in commands:
            lines += _block(
                f"scripts/{program} {command}", _help("-m", module, command)
            )
    return "\n".join(lines)


def write(folder: pathlib.Path) -> None:
    """Writes all pages into a folder, which it makes."""
    (folder / "api").mkdir(parents=True, exist_ok=True)
    index = ["API", "===", "", ".. toctree::", "   :maxdepth: 1", ""]
    for package in PACKAGES:
        (folder / "api" / f"{package}.rst").write_text(
            api_page(package), encoding="utf-8"
        )
        index.append(f"   api/{package}")
    (folder / "api.rst").write_text("\n".join(index) + "\n", encoding="utf-8")
    for page in ROOT_PAGES:
        (folder / f"{page.lower()}.md").write_text(
            root_page(ROOT / f"{page}.md"), encoding="utf-8"
        )
    (folder / "flags.md").write_text(flags_page(), encoding="utf-8")
