"""scripts/bench --scale_out: its model, its network and its table, without workers."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import socket
import subprocess
import sys
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from benchmark import flags as command_line, scale_out  # noqa: E402
from benchmark.contender import ContenderFailed  # noqa: E402

# Seconds and bytes of a made-up workload; the terms' names are the module's.
MODEL = scale_out.Model(
    fixed=0.5,
    per_part=0.25,
    per_client=0.125,
    worker_fixed=1.0,
    worker_per_client=2.0,
    turns=6.0,
    sent_per_part=1000.0,
    sent_per_client=100.0,
    received=400.0,
)


def test_a_round_by_hand():
    # 0.5 + 2 x 0.25 + 10 x 0.125 = 2.25; 1 + 5 x 2 = 11.
    assert MODEL.seconds(10, 2) == pytest.approx(13.25)
    # Two workers on one core: 1 + 5 x 2 x 2 = 21.
    assert MODEL.seconds(10, 2, cores=1) == pytest.approx(23.25)
    # 6 calls, there and back; 2 x 1400 + 10 x 100 = 3800 bytes.
    late = MODEL.seconds(10, 2, latency=0.5, bandwidth=100.0)
    assert late == pytest.approx(13.25 + 6 + 38)
    # The slowest of three workers has four clients.
    assert MODEL.seconds(10, 3) == pytest.approx(2.5 + 1 + 8)
    # Workers without clients do nothing.
    assert MODEL.seconds(10, 50) == pytest.approx(MODEL.seconds(10, 10))


def figures(seconds, cpu):
    return {
        "seconds": seconds,
        "fastest_seconds": seconds,
        "driver_cpu_seconds": cpu,
        "workers_cpu_seconds": 1.0,
    }


def made_up_runs(model=MODEL):
    """What a machine with as many cores as workers would measure of `MODEL`."""
    runs = {}
    most = model.most_clients
    parts = {1: 1, 2: 2, 4: 4} if most is None else {1: 3, 2: 3, 4: 4}
    for workers in (1, 2, 4):
        cpu = 0.5 + 0.25 * parts[workers] + 0.125 * 8
        runs[workers] = {
            "clients": 8,
            "most_clients": most,
            "direct": figures(model.seconds(8, workers), cpu),
            "slow": figures(model.seconds(8, workers, 0.010, 12.5e6), cpu),
            "sent_bytes": (1000.0 * parts[workers] + 100 * 8) / workers,
            "received_bytes": 400.0 * parts[workers] / workers,
        }
    halves = 1 if most is None else 2
    half = 0.5 + 0.25 * halves + 0.125 * 4
    runs[1]["half"] = figures(model.seconds(4, 1), half)
    runs[1]["late"] = figures(model.seconds(8, 1, latency=0.010), 1.75)
    return runs


@pytest.mark.parametrize("most", [None, 3])
def test_the_model_is_found_again(most):
    model = dataclasses.replace(MODEL, most_clients=most)
    found = scale_out.fitted(made_up_runs(model))
    for name, value in vars(model).items():
        if value is not None:
            assert getattr(found, name) == pytest.approx(value), name


@pytest.mark.parametrize("clients", [1, 40])
def test_as_many_parts_on_one_worker_as_on_most(clients):
    """Then the costs of parts and of clients are one number."""
    runs = {}
    for workers in (1, 2, 4):
        told = figures(2.0, 1.0)
        runs[workers] = {
            **{"clients": clients, "most_clients": 4, "direct": told, "slow": told},
            **{"sent_bytes": 800.0 / workers, "received_bytes": 100.0},
        }
    runs[1].update(half=figures(1.0, 0.5), late=figures(2.2, 1.0))
    found = scale_out.fitted(runs)
    assert (found.per_part, found.sent_per_part) == (0.0, 0.0)
    assert found.sent_per_client == pytest.approx(800 / clients)
    half = max(1, clients // 2)
    assert found.per_client == pytest.approx(0.5 / half)


@pytest.mark.parametrize(
    ("clients", "workers", "most", "parts"),
    [(10, 4, None, 4), (3, 4, None, 3), (100, 1, 50, 2), (100, 2, 50, 2), (9, 2, 3, 3)],
)
def test_parts(clients, workers, most, parts):
    assert scale_out.parts_of(clients, workers, most) == parts


def test_predictions_and_table():
    runs = made_up_runs()
    found = {
        way: json.loads(json.dumps(scale_out.summary(runs, cores=4)))
        for way in scale_out.WAYS
    }
    for workers, run in runs.items():
        told = found["read"]["predicted_seconds"][str(workers)]
        assert told["direct"] == pytest.approx(run["direct"]["seconds"])
        assert told["slow"] == pytest.approx(run["slow"]["seconds"])
    many = found["read"]["seconds_of_100_workers_1000_clients"]
    expected = 0.5 + 100 * 0.25 + 1000 * 0.125 + 1 + 10 * 2
    # 100 x 1400 + 1000 x 100 bytes.
    assert many["100 Mbit/s, 20 ms"] == pytest.approx(
        expected + 2 * 6 * 0.020 + 240_000 / 12.5e6
    )
    rows = scale_out.table({"W1": found}).splitlines()
    assert sum(row.startswith("| W1 | shipped | ") for row in rows) == 4
    assert rows[3].startswith("| W1 | shipped | 1 | 18.750 | 1.750 | 1.000 | 2 | 0 |")


@pytest.fixture
def echo():
    """Address of a server that sends back what it gets."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = server.accept()
        while piece := connection.recv(1000):
            connection.sendall(piece)

    threading.Thread(target=serve, daemon=True).start()
    yield f"127.0.0.1:{server.getsockname()[1]}"
    server.close()


def test_the_network_counts_and_delays(echo, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "scripts"))
    network = subprocess.Popen(
        [sys.executable, "-m", "benchmark.slow_network", echo],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        [address] = json.loads(network.stdout.readline())
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port))) as connection:

            def ask(latency, bandwidth):
                limits = {"latency": latency, "bandwidth": bandwidth}
                print(json.dumps(limits), file=network.stdin, flush=True)
                return json.loads(network.stdout.readline())

            def exchange(size):
                begin = time.monotonic()
                connection.sendall(b"x" * size)
                received = 0
                while received < size:
                    received += len(connection.recv(size))
                return time.monotonic() - begin

            exchange(3)
            assert ask(0.1, None) == [[3, 3]]
            assert exchange(1) >= 0.2
            assert ask(0.0, 1000.0) == [[1, 1]]
            assert exchange(100) >= 0.2
    finally:
        network.kill()
        network.wait()
        network.stdin.close()
        network.stdout.close()


def test_a_run_that_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'scripts'}:{ROOT}")
    with pytest.raises(ContenderFailed, match="W1, 1 lent: ValueError: how must be"):
        scale_out.one_run("W1", 1, "lent", tmp_path)


def test_flags(capsys):
    assert command_line.parse(["--workloads=", "--scale_out"]).scale_out == [
        "W1",
        "W2",
        "W3",
    ]
    with pytest.raises(SystemExit):
        command_line.parse(["--scale_out=none"])
    assert "--scale_out: 'none' is not one of W1" in capsys.readouterr().err
