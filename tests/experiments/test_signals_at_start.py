"""SIGINT and SIGTERM at any moment of a program's start: one line, and its end."""

from __future__ import annotations

import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOTH = (signal.SIGINT, signal.SIGTERM)
# Far more rounds than a run gets to.
RUN = ["--task=heart", "--rounds=1000000"]
MODULES = {
    "tasks.describe_task": ["mnist"],
    "privacy_ledger": ["plan", "--help"],
    "site": ["--config=none.toml"],
    "federation": ["demo", "--help"],
    "worker": ["--port=1", "--bind=192.0.2.1"],
}


def ended(command, number, after, folder):
    """(exit code, standard output, standard error) of a program that gets a signal."""
    program = subprocess.Popen(
        [sys.executable, *command],
        # What `env --block-signal` does in scripts/_setup.sh.
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, BOTH),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TMPDIR": str(folder),
            "XDG_CACHE_HOME": str(folder / "cache"),
        },
    )
    time.sleep(after)
    program.send_signal(number)
    output, errors = program.communicate(timeout=60)
    return program.returncode, output, errors


def assert_one_line(code, output, errors, number):
    assert code == 128 + number, errors
    assert "Traceback" not in output + errors
    told = [line for line in errors.splitlines() if not line.startswith("warning:")]
    if told:
        assert told == ["interrupted"]
    else:
        # In the rounds: where the results are, and how to go on.
        assert output.splitlines()[-1].startswith("interrupted by SIG")


def some(count, seed, latest):
    moments = random.Random(seed)
    return [(BOTH[i % 2], moments.uniform(0, latest)) for i in range(count)]


def assert_ends(tmp_path, signals):
    for place, (number, after) in enumerate(signals):
        folder = tmp_path / str(place)
        folder.mkdir()
        command = ["experiments/fed_avg.py", *RUN, f"--output_dir={folder / 'run'}"]
        started = time.monotonic()
        assert_one_line(*ended(command, number, after, folder), number)
        # A call into TensorFlow must end first.
        assert time.monotonic() - started < after + 30
        # Nothing is left in the folder for temporary files.
        assert {path.name for path in folder.iterdir()} <= {"run", "cache"}
        shutil.rmtree(folder)


@pytest.mark.slow
def test_a_run_ends_whenever_it_starts(tmp_path):
    """In the interpreter's own start, in imports, and later."""
    assert_ends(tmp_path, [(number, 0.0) for number in BOTH])
    assert_ends(tmp_path, [(signal.SIGINT, 1.5), (signal.SIGTERM, 5.0)])


@pytest.mark.slow
@pytest.mark.campaign
def test_a_hundred_signals(tmp_path):
    assert_ends(tmp_path, some(20, seed=1, latest=0.4))
    assert_ends(tmp_path, some(80, seed=2, latest=14.0))


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("number", BOTH)
def test_scripts_at_their_first_instruction(tmp_path, module, number):
    """The signal waits until the program can take it, which it does at once."""
    command = ["-m", f"tfl_research.cli.{module}", *MODULES[module]]
    assert_one_line(*ended(command, number, 0.0, tmp_path), number)


def test_the_scripts_start_programs_in_this_way():
    programs = {*MODULES, "run"}
    for name in sorted(programs):
        text = (ROOT / "scripts" / name.rpartition(".")[2]).read_text(encoding="utf-8")
        assert "exec_program " in text
    for path in (ROOT / "experiments").glob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        first = lines.index('if __name__ == "__main__":')
        assert lines[first + 3] == "    starting.begin()"
        assert not any(line.startswith(("import", "from")) for line in lines[:first])
