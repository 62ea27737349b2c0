"""Engines for tests that start them for real, and what their processes listen on."""

import contextlib
import os
import pathlib
import socket
import struct
import threading
import time

import numpy as np
import pytest
from federations import written

import tfl_research as tfl
from tfl_research import errors
from tfl_research.experiment.at_sites import compare
from tfl_research.federation.engines import environments, training_socket
from tfl_research.federation.engines.training_socket import Trained

SITES = ("one", "two")
FIRST = [np.zeros((3, 2), np.float32), np.ones(4, np.float32)]


def environment(engine):
    """The engine's environment; a named skip where it cannot be installed.

    In CI that is a failure: there the engines must run.
    """
    # Tests have a cache of their own, and an installation takes a minute.
    cache = pathlib.Path.home() / ".cache" / "tfl_research"
    try:
        return environments.ensure(engine, cache=cache)
    except errors.UserError as error:
        if os.environ.get("CI"):
            raise
        return pytest.skip(f"{engine} cannot be installed: {error}")


# What is trained over each engine; the second in campaigns.
RUNS = {
    "fed_avg": {},
    "records": {"privacy": tfl.RecordLevelPrivacy(record_noise_multiplier=1.0)},
}
EACH_RUN = pytest.mark.parametrize(
    "name", ["fed_avg", pytest.param("records", marks=pytest.mark.campaign)]
)


def free_port():
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def addresses(processes):
    """The addresses that processes and theirs listen on; IPv6 ones as hex."""
    inodes = set()
    for pid in [pid for process in processes for pid in process.family()]:
        for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = os.readlink(entry)
                if target.startswith("socket:"):
                    inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A" and parts[9] in inodes:
                number = parts[1].split(":")[0]
                if table == "tcp":
                    raw = struct.pack("<I", int(number, 16))
                    found.add(socket.inet_ntoa(raw))
                else:
                    found.add(number)
    return found


def until(asked, seconds):
    """Asks again until there is an answer; what fails meanwhile is no answer."""
    end = time.monotonic() + seconds
    while True:
        try:
            answer = asked()
            if answer:
                return answer
        except errors.UserError:
            if time.monotonic() > end:
                raise
        if time.monotonic() > end:
            raise TimeoutError(f"no answer within {seconds} s")
        time.sleep(0.2)


@contextlib.contextmanager
def federation_of(network, engine):
    """A federation with real sites and data over the engine's relays.

    From here on the network has no stand-ins any more.
    """
    for site in network.sites.values():
        site.close()
    network.coordinator.close()
    folder = network.folder
    # The relays know the coordinator's socket, which is beside federation.toml.
    federation = written(folder, names=SITES, carrier=engine)
    try:
        for name in SITES:
            path = folder / "sites" / name / "site.toml"
            text = f'socket = "{folder / name / "site.sock"}"\n[data]'
            path.write_text(path.read_text().replace("[data]", text))
            federation.start(name)
        yield federation
    finally:
        for name in list(federation.servers):
            federation.stop(name)


def differences(federation, folder, **parts):
    """Trains for two rounds over the engine: what differs from the simulation."""
    training = {"rounds": 2, "evaluate_every": 2}
    experiment = federation.experiment(
        training=training, execution="separate_graph", **parts
    )
    result = experiment.run(folder / "run")
    simulated = compare.simulate(
        result.path,
        folder / "simulation",
        compiler="graph",
        site_of=federation.state_folders,
        changes={"data_dir": str(federation.folder / "all")},
    )
    return compare.differences(result.path, simulated)


class Shrinks:
    """Trains by a formula: shrinks the weights and adds a multiple of the round."""

    def __init__(self, share, examples):
        self.share = share
        self.examples = examples

    def train(self, weights, round_number):
        trained = [
            np.asarray(
                w * (1 - 0.1 * self.share) + self.share * round_number, np.float32
            )
            for w in weights
        ]
        return Trained(trained, self.examples, {"accuracy": 0.5 + 0.1 * round_number})

    def evaluate(self, weights):
        return Trained([], self.examples, {"accuracy": 0.25})


def serve_trainers(folders):
    """Training sockets of site one (10 examples) and site two (30 examples)."""
    for folder, trainer in zip(folders, (Shrinks(1, 10), Shrinks(2, 30))):
        server = training_socket.TrainingServer(folder / "train.sock", trainer, print)
        threading.Thread(target=server.serve, daemon=True).start()


def averaged(rounds):
    """FedAvg of both sites by hand: weights of a quarter and three quarters."""
    weights = [w.astype(np.float64) for w in FIRST]
    for number in range(1, rounds + 1):
        weights = [
            0.25 * (0.9 * w + number) + 0.75 * (0.8 * w + 2 * number) for w in weights
        ]
    return weights
