"""scripts/test: what it runs, its exit code, and how its output ends."""

from __future__ import annotations

import pathlib
import time

import pytest

CLOSING = "=== 3 passed in 1.00s ==="


@pytest.fixture(autouse=True)
def _built(machine):
    machine.add_python("python3.11", 11)
    assert machine.run("scripts/run", "experiments/x.py").returncode == 0


def _installation(machine, script: str) -> None:
    """Stands in for scripts/test_install and scripts/docs, which take minutes."""
    (machine.checkout / "scripts/test_install").write_text(f"#!/bin/bash\n{script}\n")
    (machine.checkout / "scripts/docs").write_text("#!/bin/bash\n")


LINT = [
    "ruff check .",
    "ruff format --check .",
    "mypy ",
    "mypy tests_conftest.py tests_scripts_conftest.py",
    "lint-imports ",
]
NAMES = ("ruff check", "ruff format --check", "mypy", "lint-imports", "pytest")


def _told(result) -> list[str]:
    """The steps that the script says have failed."""
    return [line for line in result.stderr.splitlines() if "FAILED" in line]


def test_all_well(machine):
    _installation(machine, "sleep 1; echo 'ok: installed in 1 s'")
    result = machine.run("scripts/test")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-2:] == ["ok: installed in 1 s", CLOSING]
    assert machine.steps() == [
        *LINT,
        "pytest --color=auto -n 2 --dist loadfile --no-loadscope-reorder "
        "without_tensorflow=",
    ]
    for name in NAMES:
        assert f"== {name}\n" in result.stderr
    assert _told(result) == []


def test_a_part(machine):
    result = machine.run("scripts/test", "tests/sampling", "-k", "a b")
    assert result.returncode == 0, result.stderr
    assert machine.steps() == [
        *LINT,
        "pytest --color=auto tests/sampling -k a b without_tensorflow=",
    ]
    assert result.stdout.splitlines()[-1] == CLOSING


def test_a_part_that_is_not_there(machine):
    result = machine.run("scripts/test", "tests/simpling")
    assert result.returncode == 1
    assert _told(result) == ["FAILED: pytest"]
    last = result.stdout.splitlines()[-1]
    assert last == "ERROR: file or directory not found: tests/simpling"


class TestQuick:
    def test_no_tensorflow_and_two_rounds_of_the_main_job(self, machine):
        _installation(machine, "exit 1")
        result = machine.run("scripts/test", "--quick")
        assert result.returncode == 0, result.stderr
        *steps, last = sorted(machine.steps(), key=lambda step: step[:4] == "main")
        assert steps == [
            *LINT,
            "pytest --color=auto -n 2 --dist loadfile --no-loadscope-reorder -rfE "
            "without_tensorflow=1",
        ]
        flags = "--flagfile=experiments/configs/shakespeare_dp.flags --rounds=2"
        assert last.startswith(f"main job experiments/dp_fed_avg.py {flags} ")
        assert result.stdout.splitlines()[-2:] == [
            "ok: the main job ran for two rounds",
            CLOSING,
        ]

    @pytest.mark.parametrize(
        ("variables", "reason"),
        [
            ({"FAKE_ROUNDS": "1"}, "found 1"),
            ({"FAKE_ROUNDS": ""}, "found 0"),
            ({"FAKE_FAILS": "main job"}, "no such task"),
        ],
    )
    def test_a_main_job_that_fails(self, machine, variables, reason):
        result = machine.run("scripts/test", "--quick", **variables)
        assert result.returncode == 1
        assert _told(result) == ["FAILED: main job, two rounds"]
        assert reason in result.stdout

    def test_takes_no_path(self, machine):
        result = machine.run("scripts/test", "--quick", "tests/sampling")
        assert result.returncode == 1
        assert "got 'tests/sampling'" in result.stderr
        assert not machine.steps_file.exists()


@pytest.mark.parametrize("kind", [[], ["--quick"], ["tests/sampling"]])
@pytest.mark.parametrize("name", [*NAMES[:-1], "mypy tests", "pytest"])
def test_a_failure_is_told_after_everything_ran(machine, kind, name):
    _installation(machine, "echo ok")
    result = machine.run("scripts/test", *kind, FAKE_FAILS=name)
    assert result.returncode == 1
    assert _told(result) == [f"FAILED: {name.removesuffix(' tests')}"]
    steps = [step for step in machine.steps() if not step.startswith("main job")]
    assert steps[:-1] == LINT
    assert steps[-1].startswith("pytest ")
    closing = "=== 1 failed, 2 passed in 1.00s ===" if name == "pytest" else CLOSING
    assert result.stdout.splitlines()[-1] == closing


def test_help(machine):
    result = machine.run("scripts/test", "--help")
    assert result.returncode == 0
    assert "scripts/test --quick" in result.stdout
    assert not machine.steps_file.exists()


def test_a_failed_installation_fails_and_shows_why(machine):
    _installation(machine, "echo 'no matching distribution'; exit 1")
    result = machine.run("scripts/test")
    assert result.returncode == 1
    assert "FAILED: plain-pip installation" in result.stderr
    assert "no matching distribution" in result.stdout
    assert result.stdout.splitlines()[-1] == CLOSING


def test_the_installation_can_be_left_out_and_is_not_by_default(machine):
    _installation(machine, "exit 1")
    assert machine.run("scripts/test", TFL_TEST_INSTALL="0").returncode == 0
    assert machine.run("scripts/test").returncode == 1


def test_nothing_is_left_running_after_an_interruption(machine):
    _installation(machine, f"echo $$ >'{machine.home}/pid'; sleep 60 & wait")
    process = machine.start(["scripts/test"])
    pid_file = machine.home / "pid"
    while not (pid_file.exists() and pid_file.read_text().strip()):
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode != 0
    installation = f"/proc/{pid_file.read_text().strip()}"
    _wait_until_gone(installation)


def _wait_until_gone(folder: str) -> None:
    for _ in range(500):
        status = pathlib.Path(folder, "stat")
        if (
            not status.exists()
            or status.read_text().rpartition(")")[2].split()[0] == "Z"
        ):
            return
        time.sleep(0.01)
    pytest.fail(f"{folder} is still there")


def test_continuous_integration_runs_the_same(machine):
    _installation(machine, "echo ok")
    result = machine.run(".ci/run")
    assert result.returncode == 0
    assert result.stdout.splitlines()[-1] == CLOSING
