"""What both relays share, without an engine: frames, sites and the coordinator."""

import pathlib
import socket
import sys
import threading
import time

import pytest
from engine_fakes import EchoSite, FakeCoordinator

from tfl_research.federation.engines import environments
from tfl_research.federation.wire.relay_carrier import RelayCarrier

sys.path.insert(0, str(pathlib.Path(environments.__file__).with_name("relays")))
import tfl_relay_coordinator
import tfl_relay_frames as frames


@pytest.fixture
def relay(tmp_path):
    """A relay of two sites. No coordinator listens yet."""
    stopped = threading.Event()
    sites = {name: EchoSite(name, tmp_path / f"{name}.sock") for name in ("a", "b")}

    def ask(name, message):
        return frames.ask(str(tmp_path / f"{name}.sock"), message)

    coordinator = tfl_relay_coordinator.Coordinator(
        str(tmp_path / "coordinator.sock"), ask
    )
    coordinator.announce({"a", "b"})
    thread = threading.Thread(target=coordinator.serve, args=(stopped.is_set,))
    thread.start()
    yield tmp_path, sites, coordinator
    stopped.set()
    thread.join(10)
    assert not thread.is_alive()


def test_bytes_pass_unchanged_and_sites_answer_at_once(relay):
    folder, _, _ = relay
    coordinator = FakeCoordinator(folder / "coordinator.sock")
    coordinator.wait_for_sites({"a", "b"}, 10)
    large = bytes(range(256)) * 20_000
    assert coordinator.exchange({"a": large, "b": b""}, 30) == {
        "a": b"a|" + large,
        "b": b"b|",
    }
    coordinator.close()


def test_a_site_that_cannot_be_reached_gives_no_bytes(relay):
    folder, sites, announced = relay
    coordinator = FakeCoordinator(folder / "coordinator.sock")
    coordinator.wait_for_sites({"a", "b"}, 10)
    sites["b"].close()
    assert not frames.reachable(str(folder / "b.sock"))
    announced.announce({"a"})
    coordinator.wait_for_sites({"a"}, 10)
    assert coordinator.exchange({"a": b"1", "b": b"2"}, 30) == {"a": b"a|1", "b": b""}
    coordinator.close()


def test_a_coordinator_that_comes_back_is_told_of_the_sites(relay):
    folder, _, _ = relay
    first = FakeCoordinator(folder / "coordinator.sock")
    first.wait_for_sites({"a", "b"}, 10)
    first.close()
    second = FakeCoordinator(folder / "coordinator.sock")
    second.wait_for_sites({"a", "b"}, 10)
    assert second.exchange({"a": b"again"}, 30) == {"a": b"a|again"}
    second.close()


def test_the_real_carrier_exchanges_over_it(relay):
    folder, _, _ = relay
    folder.chmod(0o700)
    lines = []
    carrier = RelayCarrier(folder / "coordinator.sock", lines.append)
    try:
        end = time.monotonic() + 10
        while set(carrier.sites) != {"a", "b"} and time.monotonic() < end:
            time.sleep(0.05)
        replies = dict(carrier.exchange({"a": b"1", "b": b"2" * 100_000}, 30))
        assert replies == {"a": b"a|1", "b": b"b|" + b"2" * 100_000}
    finally:
        carrier.close()


def test_a_frame_longer_than_any_message_is_refused():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"\xff" * 8)
        with pytest.raises(ConnectionError, match="longer than any message"):
            frames.receive(ours)
