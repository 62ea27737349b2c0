"""What a program does first: it starts again in huge pages, idle threads sleep."""

from __future__ import annotations

import json
import os
import pathlib
import platform
import subprocess
import sys

import pytest

from tfl_research.cli import starting

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = """
from tfl_research.cli import starting
starting.prepare()
import ctypes, json, os, sys
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
block = libc.malloc(ctypes.c_size_t(64 << 20))
advised, inside = False, False
for line in open("/proc/self/smaps"):
    fields = line.split()
    if "-" in fields[0]:
        begin, end = (int(each, 16) for each in fields[0].split("-"))
        inside = begin <= block + (32 << 20) < end
    elif inside and fields[0] == "VmFlags:":
        advised = "hg" in fields
print(json.dumps({
    "pid": os.getpid(),
    "arguments": [os.fsencode(each).decode("latin-1") for each in sys.argv[1:]],
    "executable": sys.executable,
    "tunables": os.environ.get("GLIBC_TUNABLES"),
    "waiting": os.environ.get("OPENBLAS_THREAD_TIMEOUT"),
    "advised": advised,
    "input": sys.stdin.read(),
}))
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def told(command, *, tunables=None, waiting=None, **more):
    """What the program printed, and its process's id."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    given = {"GLIBC_TUNABLES": tunables, "OPENBLAS_THREAD_TIMEOUT": waiting}
    for name, value in given.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **more,
    )
    output = process.communicate(b"typed", timeout=60)[0]
    assert process.returncode == 0
    return json.loads(output), process.pid


def takes_advice():
    """Whether glibc (2.35 or newer) and the kernel have what the variable asks for."""
    path = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    version = tuple(map(int, platform.libc_ver()[1].split(".")))
    return version >= (2, 35) and path.exists() and "[madvise]" in path.read_text()


def test_the_same_command_in_the_same_process(program):
    arguments = ["--a=b c", "", "line\nline", b"\xff", "--", "-x"]
    found, pid = told([sys.executable, program, *arguments])
    assert found["tunables"] == "glibc.malloc.hugetlb=1"
    assert found["pid"] == pid
    assert found["arguments"] == ["--a=b c", "", "line\nline", "\xff", "--", "-x"]
    assert found["executable"] == sys.executable
    assert found["input"] == "typed"
    assert found["advised"] or not takes_advice()


def test_options_of_python_and_modules(program):
    command = [sys.executable, "-W", "ignore", "-m", "program", "x"]
    found, _ = told(command, cwd=program.parent)
    assert found["tunables"] == "glibc.malloc.hugetlb=1"
    assert found["arguments"] == ["x"]


def test_python_by_its_name_alone(program):
    environment = pathlib.Path(sys.executable).parent
    found, _ = told(["env", f"PATH={environment}:/usr/bin:/bin", "python", program])
    assert found["tunables"] == "glibc.malloc.hugetlb=1"
    assert found["executable"] == str(environment / "python")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("", "glibc.malloc.hugetlb=1"),
        (
            "glibc.malloc.arena_max=3",
            "glibc.malloc.arena_max=3:glibc.malloc.hugetlb=1",
        ),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
        ("glibc.malloc.hugetlb=2", "glibc.malloc.hugetlb=2"),
    ],
)
def test_what_the_user_has_set_stays(program, given, wanted):
    found, _ = told([sys.executable, program], tunables=given)
    assert found["tunables"] == wanted
    if given.endswith("=0"):
        assert not found["advised"]


def test_python_that_does_not_know_its_own_path_goes_on(program):
    found, _ = told(["another name", program], executable=sys.executable)
    assert found["tunables"] is None


@pytest.mark.parametrize("watch", ["sys.settrace", "sys.setprofile"])
def test_a_program_that_is_watched_goes_on(program, watch):
    """A debugger would lose the breakpoints that it was given."""
    code = f"import sys; {watch}(lambda *a: None); exec(open({str(program)!r}).read())"
    found, _ = told([sys.executable, "-c", code])
    assert found["tunables"] is None


def test_a_program_that_cannot_start_again_goes_on(program):
    code = f"import sys; sys.executable = '/none'; exec(open({str(program)!r}).read())"
    found, _ = told([sys.executable, "-c", code])
    assert found["tunables"] is None


@pytest.mark.parametrize("tunables", [None, "glibc.malloc.hugetlb=1"])
@pytest.mark.parametrize(("given", "wanted"), [(None, "4"), ("26", "26")])
def test_idle_threads_sleep_unless_the_user_says_otherwise(
    program, tunables, given, wanted
):
    found, _ = told([sys.executable, program], tunables=tunables, waiting=given)
    assert found["waiting"] == wanted


def test_idle_threads_of_numpy_take_no_time():
    """A product is computed by threads; then the main thread works alone."""
    code = (
        "from tfl_research.cli import starting; starting.prepare()\n"
        "import numpy, time; square = numpy.ones([600, 600]); square @ square\n"
        "wall, cpu = time.perf_counter(), time.process_time()\n"
        "for _ in range(200):\n"
        "    numpy.linalg.inv(numpy.eye(3)); sum(range(20_000))\n"
        "wall, cpu = time.perf_counter() - wall, time.process_time() - cpu\n"
        "print(cpu / wall)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("OPENBLAS_THREAD_TIMEOUT", None)
    output = subprocess.check_output(
        [sys.executable, "-c", code], env=environment, timeout=60
    )
    # Other work makes the wall clock longer, and never the time of the cores.
    assert float(output) < 1.5


@pytest.mark.parametrize(
    "given", ["glibc.malloc.hugetlb=0", "a=1:glibc.malloc.hugetlb=2"]
)
def test_an_environment_that_says_so_stays(given):
    environment = {
        "GLIBC_TUNABLES": given,
        "HOME": "/",
        "OPENBLAS_THREAD_TIMEOUT": "9",
    }
    assert starting.prepared(environment) == environment


def test_other_tunables_are_kept():
    ours = "glibc.malloc.hugetlb=1"
    idle = {"OPENBLAS_THREAD_TIMEOUT": "4"}
    found = starting.prepared({"GLIBC_TUNABLES": "a=1", "HOME": "/"})
    assert found == {"GLIBC_TUNABLES": f"a=1:{ours}", "HOME": "/", **idle}
    assert starting.prepared({}) == {"GLIBC_TUNABLES": ours, **idle}
