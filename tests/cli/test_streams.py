"""Output that survives closed pipes, full disks and poor encodings."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from tfl_research.cli import last_resort

def main(arguments):
    for number in range(int(arguments[0])):
        print(f"round {number}  ε 0.5 → ± \\udcff 东")
        sys.stdout.flush()
    with open(arguments[1], "w") as file:
        file.write("done")
    return 0

last_resort.exit_with("program", main)
"""


def started(tmp_path, lines=20000, environment=None, before="", after=""):
    """Runs the program in a shell; whether it came to its end, exit code, output."""
    (tmp_path / "program.py").write_text(PROGRAM)
    end = tmp_path / "end"
    end.unlink(missing_ok=True)
    command = f"{before} {sys.executable} program.py {lines} {end} {after}"
    found = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=False,
        timeout=120,
    )
    return end.exists(), found.returncode, found.stdout, found.stderr.decode()


@pytest.fixture
def environment():
    import os

    return {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_closed_pipe(tmp_path, environment):
    ended, code, out, errors = started(
        tmp_path, environment=environment, after="| head -1"
    )
    assert (ended, code) == (True, 0)
    assert out.count(b"\n") == 1
    assert errors == (
        "warning: standard output takes no more lines (Broken pipe); the program "
        "goes on without this output\n"
    )


def test_both_are_closed(tmp_path, environment):
    ended, code, _, errors = started(
        tmp_path, environment=environment, after="2>&1 | head -1"
    )
    assert (ended, code, errors) == (True, 0, "")


def test_no_standard_output_at_all(tmp_path, environment):
    ended, code, _, errors = started(
        tmp_path, environment=environment, after=">&- 2>&-"
    )
    assert (ended, code, errors) == (True, 0, "")


def test_a_full_disk(tmp_path, environment):
    ended, code, _, errors = started(
        tmp_path, environment=environment, after="> /dev/full"
    )
    assert (ended, code) == (True, 2)
    first, second = errors.splitlines()
    assert first.startswith("warning: standard output takes no more lines (No space")
    assert second.startswith("program: standard output could not be written (No space")


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("ascii", "round 0  eps 0.5 -> +- \\udcff \\u4e1c\n"),
        ("latin-1", "round 0  eps 0.5 -> ± \\udcff \\u4e1c\n"),
        ("utf-8", "round 0  ε 0.5 → ± \\udcff 东\n"),
    ],
)
def test_encodings(tmp_path, environment, encoding, line):
    environment["PYTHONIOENCODING"] = encoding
    ended, code, out, errors = started(tmp_path, 1, environment)
    assert (ended, code, errors) == (True, 0, "")
    assert out.decode(encoding) == line
