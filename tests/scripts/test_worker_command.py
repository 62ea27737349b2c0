"""Where scripts/worker listens. It refuses wrong arguments in one line."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys

import listening
import process_tree
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "tfl_research.cli.worker"]


def run(*arguments, before=()):
    return subprocess.run(
        [*before, *COMMAND, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --port"),
        (["--port=0"], "--port=0: must be a whole number from 1 to 65535"),
        (["--port=65536"], "--port=65536: must be a whole number from 1 to 65535"),
        (["--port=8e3"], "--port=8e3: must be a whole number from 1 to 65535"),
        (["--port=8001", "--bind="], "--bind=: must be an IP address"),
        (["--port=8001", "--bind=nonsense"], "--bind=nonsense: must be an IP address"),
        (["--port=8001", "--bind=300.1.1.1"], "--bind=300.1.1.1: must be an IP"),
        (["--port=8001", "--bind=10.0.0.0/8"], "--bind=10.0.0.0/8: must be an IP"),
        (["--port=8001", "--bound=::"], "unrecognized arguments: --bound=::"),
    ],
)
def test_refused_in_one_line(arguments, message):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_an_address_of_another_machine():
    done = run("--port=8001", "--bind=192.0.2.1")
    warning, error = done.stderr.splitlines()
    assert done.returncode == 2
    assert warning.startswith(
        "warning: --bind=192.0.2.1: the worker has no authentication and"
    )
    assert error.startswith("error: --bind=192.0.2.1 --port=8001: Cannot assign")


def test_a_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(f"--port={port}")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: --bind=127.0.0.1 --port={port}: Address already in use; give another "
        "port\n"
    )


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def test_variables_that_change_rounding():
    worker = subprocess.Popen(
        [*COMMAND, f"--port={free_port()}"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "--xla_cpu_enable_fast_math=true"},
    )
    try:
        line = worker.stderr.readline()
        assert line.startswith(
            "warning: XLA_FLAGS='--xla_cpu_enable_fast_math=true': changes how "
        )
        assert worker.stderr.readline().startswith("A TFF worker listens on ")
    finally:
        worker.send_signal(signal.SIGINT)
        assert worker.wait(20) == 130
    worker.stderr.close()


@pytest.mark.parametrize(
    ("bind", "shown", "off_loopback"),
    [
        ([], "127.0.0.1", False),
        (["--bind=localhost"], "127.0.0.1", False),
        (["--bind=0.0.0.0"], "0.0.0.0", True),
    ],
    ids=["default", "localhost", "all"],
)
def test_where_it_listens(bind, shown, off_loopback):
    port = free_port()
    worker = subprocess.Popen(
        [*COMMAND, f"--port={port}", *bind],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        if off_loopback:
            assert worker.stderr.readline().startswith("warning: --bind=0.0.0.0: ")
        line = worker.stderr.readline()
        assert line == f"A TFF worker listens on {shown}:{port}.\n"
        # Nothing else, TFF's own port included.
        assert listening.listeners(worker.pid) == {f"{shown} {port}"}
        [binary] = process_tree.descendants(worker.pid)
    finally:
        worker.send_signal(signal.SIGINT)
        assert worker.wait(20) == 130
    assert worker.stderr.read() == "interrupted\n"
    worker.stderr.close()
    assert not pathlib.Path(f"/proc/{binary}/exe").exists()


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_kernel_without_network_namespaces():
    none = 'echo 0 >/proc/sys/user/max_net_namespaces && exec "$@"'
    before = ["unshare", "-Ur", "sh", "-c", none, "-"]
    done = run(f"--port={free_port()}", before=before)
    if "unshare" in done.stderr:
        pytest.skip("no user namespaces here")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert (
        "would listen on all interfaces; give --bind=0.0.0.0 to accept that"
        in done.stderr
    )
