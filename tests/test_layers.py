"""The contracts of imports in pyproject.toml refuse what they are there to refuse."""

from __future__ import annotations

import ast
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
_LINT = "from importlinter.cli import lint_imports_command as run; run()"


@pytest.fixture
def checkout(tmp_path) -> pathlib.Path:
    """A copy of the package's sources and of the contracts."""
    shutil.copytree(
        ROOT / "tfl_research",
        tmp_path / "tfl_research",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (tmp_path / "scripts").mkdir()
    for name in ("pyproject.toml", "scripts/import_contracts.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def _broken(checkout: pathlib.Path) -> tuple[list[str], str]:
    """The names of the contracts that the copy breaks, and all of the output."""
    result = subprocess.run(
        [sys.executable, "-c", _LINT, "--no-cache"],
        cwd=checkout,
        env={"PATH": "/usr/bin:/bin", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    output = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)
    lines = [line.strip() for line in output.splitlines()]
    broken = [line[: -len("BROKEN")].strip() for line in lines if "BROKEN" in line]
    kept = [line for line in lines if "KEPT" in line]
    assert kept or broken, output + result.stderr
    assert result.returncode == (1 if broken else 0)
    return broken, output


def _append(checkout: pathlib.Path, module: str, line: str) -> None:
    with (checkout / "tfl_research" / module).open("a") as file:
        file.write(f"\n{line}\n")


def test_the_package_keeps_every_contract(checkout):
    broken, output = _broken(checkout)
    assert broken == [], output


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("errors.py", "from tfl_research import data", "Imports go down"),
        (
            "models/optimizers.py",
            "def late():\n    import tfl_research.program.loop",
            "Imports go down",
        ),
        # clients and aggregators stand on one layer, and do not know each other.
        (
            "clients/messages.py",
            "from tfl_research.aggregators import stack",
            "Imports go down",
        ),
        (
            "privacy/accounting/planning.py",
            "from tfl_research.privacy.ledger import hash_chain",
            "Imports go down within privacy",
        ),
        (
            "privacy/mechanisms/catalogue/registry.py",
            "from tfl_research.privacy.ledger import hash_chain",
            "Imports go down within privacy",
        ),
        (
            "sampling/samplers.py",
            "import argparse",
            "Command lines are read in cli alone",
        ),
        (
            "program/loop.py",
            "from absl import flags",
            "Command lines are read in cli alone",
        ),
        (
            "report/page.py",
            "import tensorflow as tf",
            "Who takes part and what it cost need no TensorFlow",
        ),
    ],
)
def test_an_import_is_refused(checkout, module, line, contract):
    _append(checkout, module, line)
    broken, output = _broken(checkout)
    assert contract in broken, output
    assert "tfl_research." + module[: -len(".py")].replace("/", ".") in output


def test_an_import_for_types_alone_is_accepted(checkout):
    _append(
        checkout,
        "errors.py",
        "import typing\nif typing.TYPE_CHECKING:\n    import tfl_research.data",
    )
    assert _broken(checkout)[0] == []


def test_a_new_package_needs_its_place(checkout):
    (checkout / "tfl_research" / "anything").mkdir()
    (checkout / "tfl_research" / "anything" / "__init__.py").write_text("")
    broken, output = _broken(checkout)
    assert broken == ["Imports go down"], output
    assert "anything" in output


class TestCircles:
    def test_between_two_modules_of_a_package(self, checkout):
        package = checkout / "tfl_research" / "storage"
        (package / "first.py").write_text("import tfl_research.storage.second\n")
        (package / "second.py").write_text(
            "def late():\n    from tfl_research.storage import first\n"
        )
        broken, output = _broken(checkout)
        assert broken == ["No circles"], output
        assert "tfl_research.storage.first -> tfl_research.storage.second" in output
        assert "tfl_research.storage.second -> tfl_research.storage.first" in output

    def test_between_two_packages_without_a_circle_of_modules(self, checkout):
        for name in ("first", "second"):
            package = checkout / "tfl_research" / "storage" / name
            package.mkdir()
            for module in ("__init__", "high", "low"):
                (package / f"{module}.py").write_text("")
        storage = checkout / "tfl_research" / "storage"
        (storage / "first/high.py").write_text("import tfl_research.storage.second.low")
        assert _broken(checkout)[0] == []
        (storage / "second/high.py").write_text("import tfl_research.storage.first.low")
        broken, output = _broken(checkout)
        assert broken == ["No circles"], output
        assert (
            "tfl_research.storage.second.high -> tfl_research.storage.first.low"
            in output
        )


def test_experiments_import_the_command_line_and_no_parser():
    programs = sorted((ROOT / "experiments").glob("*.py"))
    assert len(programs) > 10
    for program in programs:
        imported = set()
        for node in ast.walk(ast.parse(program.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.module is not None, program
                imported.add(node.module)
                imported.update(f"{node.module}.{alias.name}" for alias in node.names)
        assert "tfl_research.cli" in {".".join(n.split(".")[:2]) for n in imported}
        tops = {name.split(".")[0] for name in imported}
        assert not tops & {"absl", "argparse"}, program
