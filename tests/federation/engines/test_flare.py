"""NVIDIA FLARE for real: our relay, its certificates, and its own averaging."""

import os
import pathlib
import shutil
import socket
import ssl

import numpy as np
import pytest
from engine_fakes import EchoSite, FakeCoordinator
from real_engines import (
    EACH_RUN,
    FIRST,
    RUNS,
    SITES,
    addresses,
    averaged,
    differences,
    environment,
    federation_of,
    free_port,
    serve_trainers,
    until,
)

from tfl_research.federation.engines import (
    flare,
    flare_job,
    processes,
    training_socket,
)

pytestmark = pytest.mark.slow


class Network:
    """A server, two sites, their processes' stand-ins and the relay's job."""

    def __init__(self, folder, started):
        self.folder = folder
        self.environment = environment("flare")
        self.port = free_port()
        self.kits = flare.provision(
            self.environment,
            folder / "kits",
            name="hospitals",
            sites=SITES,
            port=self.port,
        )
        self.sites = {}
        for name in SITES:
            (folder / name).mkdir(mode=0o700)
            path = folder / name / "site.sock"
            flare.prepare_kit(self.kits[name], socket=path)
            self.sites[name] = EchoSite(name, path)
        serve_trainers([folder / name for name in SITES])
        path = folder / "coordinator.sock"
        flare.prepare_kit(self.kits["server"], socket=path, is_server=True)
        self.coordinator = FakeCoordinator(path)
        self.started = started
        self.processes = [flare.start_server(self.environment, self.kits["server"])]
        started.add(self.processes[0])
        for name in SITES:
            process = flare.start_site(self.environment, self.kits[name], name)
            self.processes.append(started.add(process))
        until(lambda: self.ask("sites") == "one two", 120)
        self.job_folder = flare_job.write_relay(folder / "relay", minimum_sites=2)
        self.job = self.ask("submit", str(self.job_folder))
        self.coordinator.wait_for_sites(set(SITES), 120)

    def ask(self, command, argument=""):
        kit = self.kits["administrator"]
        return flare.ask_server(self.environment, kit, command, argument)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flare")
    folder.chmod(0o700)
    with processes.Processes() as started:
        yield Network(folder, started)


def test_bytes_pass_unchanged(network):
    for size in (0, 1, 50 << 20):
        message = os.urandom(size)
        replies = network.coordinator.exchange({"one": message, "two": b"x"}, 120)
        assert replies == {"one": b"one|" + message, "two": b"two|x"}


def test_it_listens_on_the_loopback_interface_alone(network):
    assert addresses(network.processes) == {"127.0.0.1"}


def test_a_site_whose_process_is_missing_gives_no_bytes_until_it_is_back(network):
    network.sites["two"].close()
    network.coordinator.wait_for_sites({"one"}, 30)
    replies = network.coordinator.exchange({"one": b"1", "two": b"2"}, 60)
    assert replies == {"one": b"one|1", "two": b""}
    path = network.folder / "two" / "site.sock"
    network.sites["two"] = EchoSite("two", path)
    network.coordinator.wait_for_sites({"one", "two"}, 30)
    assert network.coordinator.exchange({"two": b"2"}, 60) == {"two": b"two|2"}


@pytest.mark.campaign
def test_an_exchange_goes_on_when_the_carrier_has_begun_anew(network):
    network.ask("abort", network.job)
    network.coordinator.start({"one": b"1", "two": b"2"})
    network.job = network.ask("submit", str(network.job_folder))
    assert network.coordinator.replies(120) == {"one": b"one|1", "two": b"two|2"}


def answer(network, certificates=None):
    """What the server says over TLS to somebody with these certificates, or none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificates is not None:
        context.load_cert_chain(
            certificates / "client.crt", certificates / "client.key"
        )
    try:
        with (
            socket.create_connection(("127.0.0.1", network.port), 10) as plain,
            context.wrap_socket(plain) as secure,
        ):
            secure.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return secure.recv(100)
    except (ssl.SSLError, ConnectionError):
        # The server's alert comes as such or as a closed connection.
        return b""


def test_strangers_are_refused(network):
    strange = flare.provision(
        network.environment,
        network.folder / "strange",
        name="hospitals",
        sites=["three"],
        port=network.port,
    )
    kit = strange["three"]
    # It trusts our server; the server must not trust it.
    ours = network.kits["one"] / "startup"
    shutil.copyfile(ours / "rootCA.pem", kit / "startup" / "rootCA.pem")
    flare.prepare_kit(kit, socket=network.folder / "three.sock")
    process = network.started.add(flare.start_site(network.environment, kit, "three"))
    until(lambda: "registered aux handler" in process.log.read_text(), 60)
    assert answer(network, ours).startswith(b"HTTP/1.1 ")
    assert answer(network) == b""
    assert answer(network, kit / "startup") == b""
    assert network.ask("sites") == "one two"
    process.kill()


def test_a_job_that_brings_code_is_refused(network):
    job = flare_job.write_training(
        network.folder / "with_code",
        FIRST,
        rounds=1,
        minimum_clients=2,
        simulated_sockets={"one": pathlib.Path("/"), "two": pathlib.Path("/")},
    )
    status = network.ask("wait", network.ask("submit", str(job)))
    assert status == "FINISHED:FAILED_TO_RUN"
    assert "BYOC not permitted" in network.processes[0].log.read_text()


@pytest.mark.campaign
def test_flares_own_average_is_ours(network):
    job = flare_job.write_training(
        network.folder / "training",
        FIRST,
        rounds=2,
        minimum_clients=2,
        seconds_after_minimum=1,
        site_weights={"one": 1.0, "two": 1.0},
    )
    number = network.ask("submit", str(job))
    assert network.ask("wait", number) == "FINISHED:COMPLETED"
    folder = pathlib.Path(network.ask("download", number))
    found = training_socket.load_weights(next(folder.rglob("models/weights.npz")))
    for ours, theirs in zip(averaged(2), found):
        np.testing.assert_allclose(theirs, ours, atol=1e-6, rtol=0)
    # The selector judges the model that came: of round one, 0.6, after its two rounds.
    best = training_socket.load_weights(next(folder.rglob("models/best_weights.npz")))
    for ours, theirs in zip(averaged(1), best):
        np.testing.assert_allclose(theirs, ours, atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def federation(network):
    with federation_of(network, "flare") as federation:
        yield federation


@EACH_RUN
def test_training_is_the_simulations_to_the_last_bit(federation, tmp_path, name):
    assert differences(federation, tmp_path, **RUNS[name]) == []
