"""TFL_WITHOUT_TENSORFLOW=1 skips the tests that need TensorFlow, and no others."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent

_MIXED = """
import importlib.util, os, subprocess, sys
import pytest

CHILD = [sys.executable, "-c", "import tensorflow; print('ready')"]

def test_plain_passes():
    assert os.environ["TFL_WITHOUT_TENSORFLOW"]

def test_plain_fails():
    assert False

def test_asking_is_not_importing_passes():
    assert importlib.util.find_spec("tensorflow") is not None
    assert importlib.util.find_spec("tensorflow_federated") is not None

def test_imports_skipped():
    import tensorflow

def test_imports_through_another_package_skipped():
    import tensorflow_federated

def test_child_skipped():
    assert subprocess.run(CHILD, capture_output=True, check=True).stdout

def test_child_whose_output_is_not_looked_at_skipped():
    subprocess.run(CHILD)

@pytest.fixture(scope="module")
def trained():
    return subprocess.run(CHILD, capture_output=True)

@pytest.mark.parametrize("time", ["first", "second"])
def test_shared_fixture_skipped(trained, time):
    assert trained.returncode == 0

def test_after_them_fails():
    assert False

def test_after_them_passes():
    pass
"""


@pytest.fixture
def outcomes(tmp_path):
    """Runs pytest on a folder of tests: {test: its outcome}."""
    shutil.copytree(HERE / "blocked_tensorflow", tmp_path / "blocked_tensorflow")
    for name in ("conftest.py", "process_tree.py", "without_tensorflow.py"):
        shutil.copy(HERE / name, tmp_path / name)
    (tmp_path / "test_mixed.py").write_text(_MIXED)
    (tmp_path / "test_module.py").write_text(
        "import tensorflow\n\ndef test_anything():\n    assert False\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-rs", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "TFL_WITHOUT_TENSORFLOW": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(
        r"::(\w+)(?:\[\w+\])? (PASSED|FAILED|SKIPPED|ERROR)", result.stdout
    )
    return found, result.stdout


def test_each_test_ends_as_its_name_says(outcomes):
    found, output = outcomes
    assert len(found) == 11, output
    # One more is the module that imports TensorFlow at once.
    assert "2 failed, 3 passed, 7 skipped" in output
    expected = {"passes": "PASSED", "fails": "FAILED", "skipped": "SKIPPED"}
    for name, outcome in found:
        assert outcome == expected[name.rpartition("_")[2]], f"{name}: {outcome}"
