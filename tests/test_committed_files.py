"""A clone has every file of the checkout that programs and tests need."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
_PLACES = ("tfl_research", "tests", "experiments", "scripts")
_MADE = ("__pycache__", ".hypothesis", ".egg-info")


def _ignored(root: pathlib.Path) -> list[str]:
    """Files of these folders that git's rules leave out of every commit."""
    output = subprocess.run(
        ["git", "ls-files", "-z", "-o", "-i", "--exclude-standard", "--", *_PLACES],
        cwd=root,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    names = [name for name in output.split("\0") if name]
    return [n for n in names if not any(made in n for made in _MADE)]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_git_ignores_no_source_file():
    assert _ignored(ROOT) == []


def test_no_folder_of_the_package_is_ignored_whatever_its_name(tmp_path):
    """`results/` without a slash before it left out the package `program.results`."""
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for folder in ("tfl_research/program/results", "tfl_research/build", "results"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "module.py").touch()
    listed = subprocess.run(
        ["git", "ls-files", "-o", "--exclude-standard"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split()
    assert listed == [
        ".gitignore",
        "tfl_research/build/module.py",
        "tfl_research/program/results/module.py",
    ]
