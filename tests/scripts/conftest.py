"""A copy of the checkout's scripts, and Pythons on PATH that only pretend."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Optional

import pytest

from tfl_research.cli import privacy_ledger

ROOT = pathlib.Path(__file__).resolve().parents[2]
# fmt: off
_TOOLS = (
    "bash", "cat", "chmod", "cut", "dirname", "env", "find", "flock", "getconf",
    "grep", "head", "ln", "mkdir", "mktemp", "mv", "nice", "readlink", "rm", "sed",
    "setsid", "sha256sum", "sleep", "sort", "tail", "tee", "uname", "wc",
)
# fmt: on

# Runs the scripts' own probes in a real Python that claims another version; notes
# down what is installed instead of installing it.
_PYTHON = """#!/bin/bash
me="$0"
case "$me" in /*) ;; *) me="$(command -v "$me")" ;; esac
case "$1 $2" in
  "-Ic "*)
    exec "{real}" -Ic "import sys
sys.version_info = ({major}, {minor}, 1, 'final', 0)
sys.executable = sys._base_executable = '{base}'
$2"
    ;;
  "-Im venv")
    echo "venv" >>"{calls}"
    folder="${{@: -1}}"
    mkdir -p "$folder/bin"
    cat "$me" >"$folder/bin/python"
    chmod +x "$folder/bin/python"
    ;;
  "-m pip")
    sleep "${{FAKE_PIP_SECONDS:-0}}"
    shift 2
    echo "pip $* PYTHONPATH=${{PYTHONPATH-}} VIRTUAL_ENV=${{VIRTUAL_ENV-}}" >>"{calls}"
    echo "Collecting something"
    if [ -n "${{FAKE_PIP_FAILS-}}" ]; then echo "no such wheel"; exit 1; fi
    ;;
  "-m ruff" | "-m mypy" | "-c from importlinter"*)
    case "$1 $2" in
      "-m ruff") shift 2; name="ruff" ;;
      "-m mypy") shift 2; name="mypy" ;;
      *) shift 2; name="lint-imports" ;;
    esac
    # Folders of the checks' own have names by chance.
    told="$name ${{*##*/}}"
    echo "$told" >>"{steps}"
    case "$told" in "${{FAKE_FAILS-nothing}}"*) exit 1 ;; esac
    ;;
  "-m compileall") ;;
  "-m pytest")
    shift 2
    echo "pytest $* without_tensorflow=${{TFL_WITHOUT_TENSORFLOW-}}" >>"{steps}"
    # Like pytest: exit code 4 and no test for a wrong command line.
    while [ "$#" -gt 0 ]; do
      case "$1" in
        -n | --dist | -k) shift ;;
        --color=* | -r* | --no-loadscope-reorder) ;;
        -*) echo "ERROR: unrecognized arguments: $1"; exit 4 ;;
        *)
          if [ ! -e "$1" ]; then
            echo "ERROR: file or directory not found: $1"
            exit 4
          fi
          ;;
      esac
      shift
    done
    if [ "${{FAKE_FAILS-}}" = pytest ]; then
      echo "=== 1 failed, 2 passed in 1.00s ==="
      exit 1
    fi
    echo "=== 3 passed in 1.00s ==="
    ;;
  "experiments/dp_fed_avg.py "*)
    echo "main job $*" >>"{steps}"
    for argument in "$@"; do
      case "$argument" in --output_dir=*) folder="${{argument#*=}}" ;; esac
    done
    mkdir -p "$folder"
    echo "round" >"$folder/metrics.csv"
    for round in ${{FAKE_ROUNDS-1 2}}; do echo "$round" >>"$folder/metrics.csv"; done
    if [ "${{FAKE_FAILS-}}" = "main job" ]; then echo "no such task"; exit 1; fi
    ;;
  *) printf 'ran'; printf ' <%s>' "$@"; echo ;;
esac
"""
_BROKEN = "#!/bin/bash\necho 'version is not installed' >&2\nexit 127\n"
_UV = """#!/bin/bash
case "$1" in
  python) exit 1 ;;
  *) echo "uv $*" >>"{calls}" ;;
esac
"""


@dataclasses.dataclass
class Machine:
    """A checkout, and a PATH with nothing on it but what a test puts there."""

    checkout: pathlib.Path
    path: pathlib.Path
    home: pathlib.Path

    @property
    def calls_file(self) -> pathlib.Path:
        return self.path / "calls"

    def calls(self) -> list[str]:
        """What was installed since the last time, one call a line."""
        if not self.calls_file.exists():
            return []
        lines = self.calls_file.read_text().splitlines()
        self.calls_file.unlink()
        return lines

    @property
    def steps_file(self) -> pathlib.Path:
        return self.path / "steps"

    def steps(self) -> list[str]:
        """What scripts/test ran since the last time, one command a line."""
        lines = self.steps_file.read_text().splitlines()
        self.steps_file.unlink()
        return lines

    def add(self, name: str, text: str) -> None:
        program = self.path / name
        program.unlink(missing_ok=True)
        program.write_text(text)
        program.chmod(0o755)

    def add_python(self, name: str, minor: int, major: int = 3) -> None:
        self.add(
            name,
            _PYTHON.format(
                real=sys.executable,
                major=major,
                minor=minor,
                base=self.path / name,
                calls=self.calls_file,
                steps=self.steps_file,
            ),
        )

    def add_broken_python(self, name: str) -> None:
        self.add(name, _BROKEN)

    def add_uv(self) -> None:
        self.add("uv", _UV.format(calls=self.calls_file))

    def environment(self, **variables: str) -> dict[str, str]:
        base = {"PATH": str(self.path), "HOME": str(self.home), "LC_ALL": "C.UTF-8"}
        return {**base, **variables}

    def start(self, arguments: Sequence[str], **variables: str) -> subprocess.Popen:
        return subprocess.Popen(
            [str(self.checkout / arguments[0]), *arguments[1:]],
            cwd="/",
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self, *arguments: str, cwd: Optional[str] = None, **variables: str
    ) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(self.checkout / arguments[0]), *arguments[1:]],
            cwd=cwd or "/",
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def call(capsys):
    """(arguments of privacy_ledger) -> (exit code, standard output, standard error)."""

    def run(*arguments: object) -> tuple[object, str, str]:
        try:
            code: object = privacy_ledger.main([str(a) for a in arguments])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def machine(tmp_path) -> Machine:
    checkout = tmp_path / "a check out"
    (checkout / "experiments" / "configs").mkdir(parents=True)
    shutil.copytree(ROOT / "scripts", checkout / "scripts")
    shutil.copytree(ROOT / ".ci", checkout / ".ci")
    for name in ("requirements.lock", "setup.py"):
        shutil.copy(ROOT / name, checkout / name)
    for folder in ("tests/sampling", "tests/scripts"):
        (checkout / folder).mkdir(parents=True)
    for folder in ("tests", "tests/scripts"):
        (checkout / folder / "conftest.py").write_text("")
    (checkout / "experiments" / "x.py").write_text("")
    path = tmp_path / "bin"
    path.mkdir()
    for tool in _TOOLS:
        found = shutil.which(tool)
        assert found is not None, f"the tests need {tool}"
        os.symlink(found, path / tool)
    home = tmp_path / "home"
    home.mkdir()
    return Machine(checkout, path, home)
