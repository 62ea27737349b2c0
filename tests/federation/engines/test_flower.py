"""Flower for real: our relay, its certificates and keys."""

import os

import pytest
from engine_fakes import EchoSite, FakeCoordinator
from real_engines import (
    EACH_RUN,
    RUNS,
    SITES,
    addresses,
    differences,
    environment,
    federation_of,
    free_port,
    until,
)

from tfl_research.federation.engines import (
    flower,
    flower_app,
    processes,
)

pytestmark = pytest.mark.slow


class Network:
    """A SuperLink, two SuperNodes, their processes' stand-ins and the relay's run."""

    def __init__(self, folder, started):
        self.folder = folder
        self.environment = environment("flower")
        self.port = free_port()
        self.keys = flower.provision(
            self.environment, folder / "flower_keys", sites=SITES
        )
        self.link = flower.SuperLink(
            self.environment, self.keys, folder / "link", port=self.port
        )
        self.started = started
        self.processes = [started.add(self.link.process)]
        self.coordinator = FakeCoordinator(folder / "coordinator.sock")
        self.sites = {}
        for name in SITES:
            (folder / name).mkdir(mode=0o700)
            self.sites[name] = EchoSite(name, folder / name / "site.sock")
        until(lambda: self.register("one"), 120)
        self.register("two")
        for name in SITES:
            self.processes.append(self.start(name, self.keys, self.keys))
        self.run = self.link.run(
            flower_app.write_relay(folder / "relay"),
            {
                "coordinator-socket": str(folder / "coordinator.sock"),
                "minimum-sites": 2,
            },
        )
        self.coordinator.wait_for_sites(set(SITES), 240)

    def register(self, name):
        self.link.register(name)
        return True

    def start(self, name, keys, authority, folder=None):
        """Starts a site's SuperNode with a key of one folder, a trust of another."""
        return self.started.add(
            flower.start_site(
                self.environment,
                name=name,
                key=keys / f"{name}.key",
                authority=authority / "ca.crt",
                socket=self.folder / name / "site.sock",
                folder=self.folder / (folder or name) / "node",
                superlink=f"127.0.0.1:{self.port}",
                port=free_port(),
            )
        )


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flower")
    folder.chmod(0o700)
    with processes.Processes() as started:
        yield Network(folder, started)


def test_bytes_pass_unchanged(network):
    message = os.urandom(50 << 20)
    replies = network.coordinator.exchange({"one": message, "two": b""}, 240)
    assert replies == {"one": b"one|" + message, "two": b"two|"}


def test_they_listen_on_the_loopback_interface_alone(network):
    assert addresses(network.processes) == {"127.0.0.1"}


def test_a_site_that_is_missing_gives_no_bytes_and_comes_back(network):
    network.sites["two"].close()
    replies = network.coordinator.exchange({"one": b"1", "two": b"2"}, 240)
    assert replies == {"one": b"one|1", "two": b""}
    network.sites["two"] = EchoSite("two", network.folder / "two" / "site.sock")
    assert network.coordinator.exchange({"two": b"2"}, 240) == {"two": b"two|2"}


def test_strangers_are_refused(network):
    strange = flower.provision(
        network.environment, network.folder / "strange", sites=["one"]
    )
    # A key that is not registered; and a site that trusts another authority.
    unknown = network.start("one", strange, network.keys, "unknown")
    distrusting = network.start("one", network.keys, strange, "distrusting")
    until(lambda: not unknown.runs and not distrusting.runs, 120)
    assert "Failed to activate SuperNode" in unknown.log.read_text()
    assert "No SuperNode found" in network.link.process.log.read_text()
    assert "CERTIFICATE_VERIFY_FAILED" in distrusting.log.read_text()


@pytest.fixture(scope="module")
def federation(network):
    with federation_of(network, "flower") as federation:
        yield federation


@EACH_RUN
def test_training_is_the_simulations_to_the_last_bit(federation, tmp_path, name):
    assert differences(federation, tmp_path, **RUNS[name]) == []
