"""scripts/_setup.sh: which Python is taken, and when what is installed again."""

from __future__ import annotations

import fcntl
import os
import pathlib
import signal
import time

import pytest

RUN = ("scripts/run", "experiments/x.py")


def _kinds(calls: list[str]) -> list[str]:
    """The calls in short: venv, lock (all packages) and project."""
    kinds = []
    for call in calls:
        if call == "venv":
            kinds.append("venv")
        else:
            kinds.append("lock" if "--require-hashes" in call else "project")
            assert "--no-deps" in call
    return kinds


def _error(result) -> str:
    """The only line on standard error, with exit code 1."""
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


class TestWhichPython:
    def test_only_newer_ones(self, machine):
        machine.add_python("python3", 12)
        machine.add_python("python", 13)
        error = _error(machine.run(*RUN))
        assert "3.9, 3.10 or 3.11" in error
        assert "found 3.12 3.13" in error
        assert "apt install" in error
        assert machine.calls() == []

    def test_none_at_all(self, machine):
        assert "found none" in _error(machine.run(*RUN))

    def test_older_ones(self, machine):
        machine.add_python("python3", 8)
        machine.add_python("python", 7, major=2)
        assert "found 3.8 2.7" in _error(machine.run(*RUN))

    def test_a_shim_that_fails_is_passed_over(self, machine):
        machine.add_broken_python("python3.11")
        machine.add_python("python3.10", 10)
        machine.add_python("python3", 12)
        result = machine.run(*RUN)
        assert result.returncode == 0, result.stderr
        assert f"with {machine.path / 'python3.10'} and pip" in result.stderr

    def test_python3_will_do(self, machine):
        machine.add_python("python3", 9)
        result = machine.run(*RUN)
        assert result.returncode == 0, result.stderr
        assert f"with {machine.path / 'python3'} and pip" in result.stderr

    def test_pyenv_versions_without_a_shim(self, machine):
        bin_folder = machine.home / ".pyenv/versions/3.11.4/bin"
        bin_folder.mkdir(parents=True)
        machine.add_python("hidden", 11)
        (bin_folder / "python").write_text((machine.path / "hidden").read_text())
        (bin_folder / "python").chmod(0o755)
        assert machine.run(*RUN).returncode == 0
        assert _kinds(machine.calls()) == ["venv", "lock", "project"]


class TestPlatform:
    @pytest.mark.parametrize(
        ("system", "arch"), [("Linux", "aarch64"), ("Darwin", "x86_64")]
    )
    def test_another_platform(self, machine, system, arch):
        machine.add_python("python3.11", 11)
        machine.add(
            "uname",
            f'#!/bin/bash\n[ "$1" = -s ] && echo {system} || echo {arch}\n',
        )
        error = _error(machine.run(*RUN))
        assert "Linux x86-64" in error
        assert f"{system} {arch}" in error

    @pytest.mark.parametrize(
        ("output", "found"),
        [
            ("echo glibc 2.28", "2.28"),
            ("exit 1", "no glibc"),
            ("echo glibc 2.9", "2.9"),
        ],
    )
    def test_an_old_c_library(self, machine, output, found):
        machine.add_python("python3.11", 11)
        machine.add("getconf", f"#!/bin/bash\n{output}\n")
        error = _error(machine.run(*RUN))
        assert "glibc 2.31" in error
        assert found in error

    def test_a_new_c_library(self, machine):
        machine.add_python("python3.11", 11)
        machine.add("getconf", "#!/bin/bash\necho glibc 2.100\n")
        assert machine.run(*RUN).returncode == 0


class TestStaleness:
    @pytest.fixture(autouse=True)
    def _built(self, machine):
        machine.add_python("python3.11", 11)
        result = machine.run(*RUN)
        assert result.returncode == 0, result.stderr
        assert _kinds(machine.calls()) == ["venv", "lock", "project"]

    def test_a_complete_environment_is_left_alone_and_silent(self, machine):
        result = machine.run(*RUN)
        assert result.returncode == 0
        assert result.stderr == ""
        assert machine.calls() == []

    def test_a_changed_lock_installs_everything(self, machine):
        stray = machine.checkout / ".venv/lib"
        stray.mkdir()
        with (machine.checkout / "requirements.lock").open("a") as lock:
            lock.write("# changed\n")
        assert machine.run(*RUN).returncode == 0
        assert _kinds(machine.calls()) == ["venv", "lock", "project"]
        assert not stray.exists()

    def test_a_changed_setup_installs_only_the_project(self, machine):
        with (machine.checkout / "setup.py").open("a") as file:
            file.write("# changed\n")
        assert machine.run(*RUN).returncode == 0
        assert _kinds(machine.calls()) == ["project"]
        assert machine.run(*RUN).returncode == 0
        assert machine.calls() == []

    def test_a_moved_checkout_installs_everything(self, machine):
        moved = machine.checkout.with_name("moved")
        machine.checkout.rename(moved)
        machine.checkout = moved
        assert machine.run(*RUN).returncode == 0
        assert _kinds(machine.calls()) == ["venv", "lock", "project"]

    def test_a_python_that_is_gone_installs_everything(self, machine):
        (machine.checkout / ".venv/bin/python").unlink()
        assert machine.run(*RUN).returncode == 0
        assert _kinds(machine.calls()) == ["venv", "lock", "project"]

    def test_a_failed_installation_is_told_and_redone(self, machine):
        with (machine.checkout / "requirements.lock").open("a") as lock:
            lock.write("# changed\n")
        result = machine.run(*RUN, FAKE_PIP_FAILS="1")
        assert result.returncode == 1
        assert "no such wheel" in result.stderr
        assert str(machine.checkout / ".venv/install.log") in result.stderr
        assert "ran" not in result.stdout
        assert _kinds(machine.calls()) == ["venv", "lock"]
        assert machine.run(*RUN).returncode == 0
        assert _kinds(machine.calls()) == ["venv", "lock", "project"]

    def test_an_installation_that_was_killed_is_redone(self, machine):
        with (machine.checkout / "requirements.lock").open("a") as lock:
            lock.write("# changed\n")
        process = machine.start(RUN, FAKE_PIP_SECONDS="60")
        while not machine.calls_file.exists():
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        assert machine.calls() == ["venv"]
        assert machine.run(*RUN).returncode == 0
        assert _kinds(machine.calls()) == ["venv", "lock", "project"]


class TestSurroundings:
    def test_a_callers_python_settings_are_kept_out(self, machine):
        machine.add_python("python3.11", 11)
        result = machine.run(
            *RUN, PYTHONPATH="/elsewhere", VIRTUAL_ENV="/other", PIP_USER="1"
        )
        assert result.returncode == 0, result.stderr
        installs = [call for call in machine.calls() if call != "venv"]
        assert len(installs) == 2
        for call in installs:
            assert call.endswith("PYTHONPATH= VIRTUAL_ENV=")

    def test_uv_installs_when_it_is_there(self, machine):
        machine.add_python("python3.11", 11)
        machine.add_uv()
        result = machine.run(*RUN)
        assert result.returncode == 0, result.stderr
        assert "and uv" in result.stderr
        calls = machine.calls()
        assert _kinds(calls) == ["venv", "lock", "project"]
        assert all(call.startswith("uv pip install") for call in calls[1:])

    def test_two_at_once_build_once(self, machine):
        machine.add_python("python3.11", 11)
        both = [machine.start(RUN, FAKE_PIP_SECONDS="1") for _ in range(2)]
        outputs = [process.communicate(timeout=60) for process in both]
        assert [process.returncode for process in both] == [0, 0], outputs
        assert _kinds(machine.calls()) == ["venv", "lock", "project"]
        assert sum("waiting for it" in stderr for _, stderr in outputs) == 1

    def test_a_start_waits_for_no_other_start(self, machine):
        """Whoever holds the lock, nothing is set up where nothing is to be done."""
        machine.add_python("python3.11", 11)
        assert machine.run(*RUN).returncode == 0
        with (machine.checkout / ".venv/.setup_lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            result = machine.run(*RUN)
        assert result.returncode == 0
        assert result.stderr == ""

    def test_the_set_up_lock_is_not_held_by_what_runs(self, machine):
        machine.add_python("python3.11", 11)
        assert machine.run(*RUN).returncode == 0
        lister = machine.checkout / ".venv/bin/python"
        lister.write_text(
            lister.read_text().replace("*) printf 'ran'", "*) echo /proc/$$/fd/9")
        )
        held = machine.run(*RUN).stdout.split()[0]
        assert not pathlib.Path(held).exists()

    def test_an_unwritable_checkout(self, machine):
        (machine.checkout / ".venv").write_text("in the way")
        assert "cannot create" in _error(machine.run(*RUN))


class TestRun:
    @pytest.fixture(autouse=True)
    def _built(self, machine):
        machine.add_python("python3.11", 11)
        assert machine.run(*RUN).returncode == 0

    def test_without_arguments_the_main_job_runs(self, machine):
        root = machine.checkout
        assert machine.run("scripts/run").stdout == (
            f"ran <{root}/experiments/dp_fed_avg.py> "
            f"<--flagfile={root}/experiments/configs/shakespeare_dp.flags> "
            f"<--output_dir={root}/results/shakespeare_dp>\n"
        )

    def test_flags_alone_change_the_main_job(self, machine):
        output = machine.run("scripts/run", "--rounds=2").stdout
        assert "dp_fed_avg.py>" in output
        assert output.endswith("<--rounds=2>\n")

    def test_a_program_is_found_here_or_in_the_checkout(self, machine):
        output = machine.run("scripts/run", "experiments/x.py", "--name=a b", "").stdout
        assert output == f"ran <{machine.checkout}/experiments/x.py> <--name=a b> <>\n"
        (machine.home / "mine.py").write_text("")
        output = machine.run("scripts/run", "mine.py", cwd=str(machine.home)).stdout
        assert output == "ran <mine.py>\n"

    def test_an_unknown_program_lists_the_known_ones(self, machine):
        error = _error(machine.run("scripts/run", "experiments/fed_agv.py"))
        assert "no program experiments/fed_agv.py" in error
        assert "experiments/x.py" in error

    def test_through_a_symbolic_link(self, machine):
        (machine.home / "run").symlink_to(machine.checkout / "scripts/run")
        machine.checkout, checkout = machine.home, machine.checkout
        output = machine.run("run", "experiments/x.py").stdout
        assert output == f"ran <{checkout}/experiments/x.py>\n"


def test_update_lock_says_how_to_get_uv(machine):
    assert "pip install uv" in _error(machine.run("scripts/update_lock"))


class TestInstallGpu:
    def test_once_into_the_environment_that_there_is(self, machine):
        (machine.checkout / "requirements-gpu.lock").write_text("cuda==1 --hash=x\n")
        machine.add_python("python3", 11)
        output = machine.run("scripts/install_gpu").stdout
        assert output == "ran <-m> <tfl_research.cli.gpus>\n"
        *_, cuda = machine.calls()
        assert "--require-hashes" in cuda
        assert "requirements-gpu.lock" in cuda
        machine.run("scripts/install_gpu")
        assert machine.calls() == []
        (machine.checkout / "requirements-gpu.lock").write_text("cuda==2 --hash=x\n")
        machine.run("scripts/install_gpu")
        assert len(machine.calls()) == 1

    def test_a_failure_is_tried_again(self, machine):
        (machine.checkout / "requirements-gpu.lock").write_text("cuda==1 --hash=x\n")
        machine.add_python("python3", 11)
        machine.run("scripts/run", "experiments/x.py")
        machine.calls()
        failed = machine.run("scripts/install_gpu", FAKE_PIP_FAILS="1")
        assert failed.returncode == 1
        assert "no such wheel" in failed.stderr
        machine.calls()
        machine.run("scripts/install_gpu")
        assert len(machine.calls()) == 1

    def test_help_installs_nothing(self, machine):
        output = machine.run("scripts/install_gpu", "--help").stdout
        assert output.startswith("scripts/install_gpu\nAdds the CUDA libraries")
        assert machine.calls() == []

    def test_takes_no_arguments(self, machine):
        assert "got --all" in _error(machine.run("scripts/install_gpu", "--all"))
