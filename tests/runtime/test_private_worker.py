"""TFF's worker is reached by its owner only, answers in time, and does not grow."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

import listening
import process_tree
import pytest
import tensorflow_federated as tff
from toy_processes import slow_process, summing_process

from tfl_research import runtime
from tfl_research.private_worker import keeper, network
from tfl_research.private_worker.door import Door
from tfl_research.runtime.workers import worker as workers_module
from tfl_research.runtime.workers.connection import Connection

NOBODY = 65534
RESET = "ConnectionResetError: [Errno 104] Connection reset by peer"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
ASKS = """
import socket, sys
kind, _, rest = sys.argv[1].partition(":")
if kind == "unix":
    to = socket.socket(socket.AF_UNIX)
    to.connect(rest)
else:
    host, _, port = sys.argv[1].rpartition(":")
    to = socket.create_connection((host.strip("[]"), int(port)))
to.settimeout(5)
to.sendall(b"x")
print(to.recv(1))
"""


def asked_by(user, address):
    """What a process of the user gets from an address, or its error."""
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-c", ASKS, address],
        capture_output=True,
        text=True,
        user=user,
        cwd="/",
        check=False,
    )
    return done.stdout.strip() or done.stderr.strip().rpartition("\n")[2]


def threads(pid):
    return len(list(pathlib.Path(f"/proc/{pid}/task").iterdir()))


def resident(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


class TestWhoReachesIt:
    @pytest.fixture(scope="class")
    def engine(self):
        with runtime.tff_local(summing_process(tff.federated_sum)) as engine:
            engine.initialize()
            yield engine

    def test_nothing_listens_in_this_network(self, engine):
        assert engine.worker_pid in process_tree.descendants(os.getpid())
        assert listening.listeners(os.getpid()) == set()

    def test_the_test_sees_listeners(self):
        with socket.create_server(("", 0)) as server:
            seen = listening.off_loopback(os.getpid())
            assert seen == {f"0.0.0.0 {server.getsockname()[1]}"}
        with socket.create_server(("127.0.0.1", 0)) as server:
            assert listening.off_loopback(os.getpid()) == set()
            assert len(listening.listeners(os.getpid())) == 1

    @AS_ROOT
    def test_the_socket_is_closed_to_other_users(self, engine):
        address = engine._worker.address
        assert asked_by(NOBODY, address).startswith("PermissionError")
        folder = os.path.dirname(address[len("unix:") :])
        assert os.stat(folder).st_mode & 0o777 == 0o700

    def test_the_socket_goes_with_the_worker(self):
        worker = runtime.Worker()
        worker.stub()
        path = worker.address[len("unix:") :]
        assert os.path.exists(path)
        worker.close()
        assert not os.path.exists(os.path.dirname(path))


@AS_ROOT
@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0"])
def test_a_loopback_port_turns_other_users_away(listen):
    door = Door(listen)

    def echo():
        with door.accept() as connection:
            connection.sendall(connection.recv(1))

    threading.Thread(target=echo, daemon=True).start()
    assert asked_by(0, door.address) == "b'x'"
    threading.Thread(target=echo, daemon=True).start()
    assert asked_by(NOBODY, door.address) in ("b''", RESET)
    door.close()


def test_without_namespaces_it_starts_only_where_that_was_accepted(monkeypatch):
    refuses = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); "
        "from tfl_research.private_worker import keeper, network\n"
        "def refuse(): raise OSError(1, 'no')\n"
        "network.isolate = refuse\n"
        "sys.exit(keeper.main())"
    )
    monkeypatch.setattr(workers_module, "_KEEPER", refuses)
    with pytest.raises(
        runtime.NotIsolated, match=r"Operation not permitted\).*anybody who"
    ):
        runtime.Worker().stub()
    worker = runtime.Worker(open_port=True)
    worker.stub()
    # What the acceptance is for.
    assert len(listening.off_loopback(os.getpid())) == 1
    worker.close()


def test_a_kernel_that_refuses_half_way_leaves_the_process_where_it_was():
    """As some kernels do for user namespaces without a profile."""
    refuses = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); "
        "from tfl_research.private_worker import network\n"
        "unshared = network._enter\n"
        "def refuse():\n"
        "    unshared()\n"
        "    raise OSError(13, 'no')\n"
        "network._enter = refuse\n"
        "before = os.readlink('/proc/self/ns/net')\n"
        "try:\n"
        "    network.isolate()\n"
        "except OSError as error:\n"
        "    print(error.errno, os.readlink('/proc/self/ns/net') == before)\n"
    )
    package = str(pathlib.Path(network.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", refuses, package],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "13 True\n"


def test_connections_that_fail_end_no_worker():
    class Doors:
        """No descriptor is left for the first client."""

        def __init__(self):
            self.ends = socket.socketpair()
            self.given = [OSError(24, "Too many open files"), self.ends[0]]

        def accept(self):
            if not self.given:
                threading.Event().wait()
            found = self.given.pop(0)
            if isinstance(found, OSError):
                raise found
            return found

    with socket.create_server(("127.0.0.1", 0)) as worker:
        door = Doors()
        keeping = keeper.Keeper("", door, renews=False, isolated=False)
        keeping._port = worker.getsockname()[1]
        threading.Thread(target=keeping._accept, daemon=True).start()
        door.ends[1].sendall(b"x")
        worker.settimeout(20)
        connection, _ = worker.accept()
        assert connection.recv(1) == b"x"
        connection.close()


class TestAnswers:
    """A worker that is stopped does not answer; one that computes does."""

    def test_a_long_round_is_no_silence(self, workers):
        addresses = [workers[0].address]
        with runtime.remote(slow_process(), addresses, answer_seconds=0.6) as engine:
            state, count, took = engine.initialize(), 200_000, 0.0
            # A shorter round shows nothing, and machines differ.
            while took < 1.2:
                count, started = 2 * count, time.monotonic()
                _, total = engine.next(state, [count])
                took = time.monotonic() - started
                assert int(total) == count

    def test_a_stopped_worker_is_lost_and_comes_back(self, workers):
        said = []
        stopped, other = workers
        addresses = [stopped.address, other.address]
        with runtime.remote(
            slow_process(),
            addresses,
            mode=runtime.Mode("folded", "graph"),
            connect_seconds=2.0,
            answer_seconds=1.5,
            on_change=said.append,
        ) as engine:
            state = engine.initialize()
            # Both have the program then.
            engine.next(state, [1, 1])
            timer = threading.Timer(0.2, os.kill, (stopped.pid, signal.SIGSTOP))
            timer.start()
            started = time.monotonic()
            try:
                state, total = engine.next(state, [300_000, 300_000])
            finally:
                timer.join()
                os.kill(stopped.pid, signal.SIGCONT)
            assert int(total) == int(state) == 600_000
            lost = (
                f"no TFF worker answers at {stopped.address}; other workers compute "
                "its part"
            )
            assert said == [lost]
            assert time.monotonic() - started < 30
            for _ in range(200):
                state, total = engine.next(state, [1, 2])
                if len(said) == 2:
                    break
            assert said[1:] == [f"the TFF worker at {stopped.address} is back"]

    def test_a_stopped_worker_of_this_process(self):
        process = slow_process()
        with runtime.tff_local(process, answer_seconds=1.0) as engine:
            state = engine.initialize()
            pid = engine.worker_pid
            timer = threading.Timer(0.2, os.kill, (pid, signal.SIGSTOP))
            timer.start()
            started = time.monotonic()
            with pytest.raises(runtime.WorkerUnavailable, match="within 1 s"):
                engine.next(state, [10_000_000])
            assert time.monotonic() - started < 20
            timer.join()
            assert not pathlib.Path(f"/proc/{pid}/exe").exists()
            # A new one does the round.
            assert int(engine.next(state, [3])[1]) == 3

    def test_closing_ends_a_call_that_is_running(self, workers):
        engine = runtime.remote(slow_process(), [workers[0].address])
        state = engine.initialize()
        call = threading.Thread(target=_ignoring, args=(engine, state))
        call.start()
        time.sleep(0.5)
        started = time.monotonic()
        engine.close()
        call.join()
        assert time.monotonic() - started < 20


def _ignoring(engine, state):
    with pytest.raises(Exception, match=r"."):
        engine.next(state, [50_000_000])


@pytest.mark.parametrize("rounds", [12, pytest.param(120, marks=pytest.mark.campaign)])
def test_changing_cohorts_leave_nothing_behind(workers, rounds):
    worker = workers[0]
    process = summing_process(tff.federated_sum)
    with runtime.remote(process, [worker.address]) as engine:
        state = engine.initialize()
        seen = []
        for number in range(rounds):
            state, _ = engine.next(state, [1] * (1 + number * 7 % 23))
            seen.append(threads(worker.pid))
        grown = resident(worker.pid)
    # An executor has eight threads. Threads of the server and of an executor that is
    # being released come and go, so that single rounds can show more.
    assert statistics.median(seen[rounds // 2 :]) - min(seen) < 8
    if rounds > 100:
        assert grown < 150 * 2**20


def test_connections_do_not_leave_executors(workers):
    """Asking a worker whether it answers makes no executor."""
    connection = Connection(workers[0].address)
    connection.answers(5)
    before = threads(workers[0].pid)
    for _ in range(40):
        assert connection.answers(5)
    assert threads(workers[0].pid) - before < 8
    connection.close()


KEEP = """
import sys
from tfl_research.private_worker import keeper
keeper.keep(sys.argv[1], "127.0.0.1:0", lambda **c: print(c["address"], c["pid"],
            flush=True), renews=True)
"""


def test_what_clients_leave_in_a_worker_goes_with_its_last_client():
    from tensorflow_federated.proto.v0 import executor_pb2

    from tfl_research import _tff_compat

    keeper = subprocess.Popen(
        [sys.executable, "-c", KEEP, _tff_compat.worker_binary()],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address, pid = keeper.stdout.readline().split()
        connection = Connection(address)
        assert connection.answers(60)
        for clients in range(20):
            request = executor_pb2.GetExecutorRequest()
            cardinality = request.cardinalities.add()
            cardinality.cardinality = clients
            cardinality.placement.uri = "clients"
            connection.stub.get_executor(request)
        assert threads(int(pid)) > 100
        connection.close()
        deadline = time.monotonic() + 10
        renewed = int(pid)
        while renewed == int(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
            renewed = (*process_tree.descendants(keeper.pid), int(pid))[0]
        again = Connection(address)
        assert again.answers(60)
        assert process_tree.descendants(keeper.pid) == [renewed]
        assert renewed != int(pid)
        assert threads(renewed) < 50
        again.close()
    finally:
        keeper.terminate()
        assert keeper.wait(10) == 128 + signal.SIGTERM
    assert not pathlib.Path(f"/proc/{renewed}/exe").exists()
