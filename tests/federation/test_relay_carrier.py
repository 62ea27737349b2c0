"""The coordinator's end of a relay: relays come, go, cheat and come back."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

import pytest
from fake_sites import Doubling, asked

from tfl_research.errors import UserError
from tfl_research.federation.wire.exchange import Refusal
from tfl_research.federation.wire.messages import Message
from tfl_research.federation.wire.relay_carrier import RelayCarrier, relayed, unrelayed
from tfl_research.federation.wire.sockets import FrameError


class Relay(threading.Thread):
    """A relay as another engine's environment has one: standard library alone."""

    def __init__(self, carrier_path, sockets, change=None, lives=1):
        super().__init__()
        self.path, self.sockets = carrier_path, sockets
        # Changes the reply's payload; may return several, or none to end the relay.
        self.change = change or (lambda payload: [payload])
        self.lives = lives
        self.requests: list[bytes] = []
        self.start()

    def run(self):
        for _ in range(self.lives):
            # The carrier may close first.
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as up:
                self.upstream = up
                up.connect(str(self.path))
                _send(up, b"sites\n" + "\n".join(self.sockets).encode())
                self._serve()

    def _serve(self):
        while (payload := _received(self.upstream)) is not None:
            self.requests.append(payload)
            (length,) = struct.unpack(">H", payload[:2])
            site = payload[2 : 2 + length].decode()
            front, message = payload[: 10 + length], payload[10 + length :]
            replies = self.change(front + self._asked(site, message))
            if not replies:
                return
            for reply in replies:
                _send(self.upstream, reply)

    def _asked(self, site, message):
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(self.sockets[site]))
                _send(connection, message)
                return _received(connection) or b""
        except OSError:
            return b""


def _send(connection, payload):
    connection.sendall(struct.pack(">Q", len(payload)) + payload)


def _received(connection):
    front = connection.recv(8, socket.MSG_WAITALL)
    if len(front) < 8:
        return None
    return connection.recv(struct.unpack(">Q", front)[0], socket.MSG_WAITALL)


@pytest.fixture
def relayed_sites(sites):
    """The sites, and a function that starts a relay to them."""
    carrier = RelayCarrier(
        sites.folder / "federation" / "coordinator.sock",
        sites.lines.append,
        patience=0.4,
    )
    relays = []

    def start(*names, **options):
        paths = {name: sites.socket(name) for name in names}
        relays.append(
            Relay(sites.folder / "federation/coordinator.sock", paths, **options)
        )
        _until(lambda: set(names) <= set(carrier.sites))
        return relays[-1]

    with contextlib.closing(carrier):
        yield sites, carrier, start
    for relay in relays:
        relay.join(5)
        assert not relay.is_alive()


def _until(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class TestRelays:
    def test_several_sites_and_requests(self, relayed_sites):
        sites, carrier, start = relayed_sites
        handlers = {name: sites.start(name) for name in ("nord", "ost", "west")}
        assert carrier.sites == ()
        start("nord", "ost")
        start("west")
        assert carrier.sites == ("nord", "ost", "west")
        exchange = sites.exchange(carrier)
        for number in (1, 2):
            answers = dict(exchange.ask(dict.fromkeys(handlers, asked(number)), 5.0))
            assert all(isinstance(one, Message) for one in answers.values()), answers
            assert set(answers) == set(handlers)
        assert all(len(one.requests) == 2 for one in handlers.values())

    @pytest.mark.parametrize("seconds", [3e6, 1e12, 1e300])
    def test_a_deadline_longer_than_the_kernel_waits(self, relayed_sites, seconds):
        sites, carrier, start = relayed_sites
        sites.start("nord")
        start("nord")
        for one in (carrier, sites.carrier()):
            exchange = sites.exchange(one)
            ((_, answer),) = exchange.ask({"nord": asked()}, seconds)
            assert isinstance(answer, Message)

    def test_a_site_that_no_relay_reaches(self, relayed_sites):
        sites, carrier, start = relayed_sites
        sites.start("nord")
        start("nord")
        exchange = sites.exchange(carrier, keys={"west": bytes(32)})
        answers = dict(exchange.ask({"nord": asked(), "west": asked()}, 5.0))
        assert isinstance(answers["nord"], Message)
        assert answers["west"] == Refusal("west", "cannot be reached", "unreached")

    def test_a_site_whose_process_is_gone_for_the_relay(self, relayed_sites):
        sites, carrier, start = relayed_sites
        sites.start("nord")
        relay = start("nord")
        sites.stop("nord")
        ((_, answer),) = sites.exchange(carrier).ask({"nord": asked()}, 5.0)
        assert answer == Refusal("nord", "cannot be reached", "unreached")
        # It was tried several times, under a number each.
        numbers = {unrelayed(payload)[1] for payload in relay.requests}
        assert len(numbers) == len(relay.requests) > 1

    def test_a_site_that_comes_back_behind_a_relay(self, relayed_sites):
        sites, carrier, start = relayed_sites
        sites.start("nord")
        start("nord")
        sites.stop("nord")
        handler = Doubling()
        timer = threading.Timer(0.2, lambda: sites.start("nord", handler))
        timer.start()
        ((_, answer),) = sites.exchange(carrier).ask({"nord": asked()}, 5.0)
        timer.join()
        assert isinstance(answer, Message)
        assert len(handler.requests) == 1

    def test_a_relay_that_restarts(self, relayed_sites):
        """The request is sent again; the site gives its kept reply."""
        sites, carrier, start = relayed_sites
        handler = sites.start("nord")
        ended = []

        def end_once(payload):
            if not ended:
                ended.append(payload)
                return []
            return [payload]

        start("nord", change=end_once, lives=2)
        ((_, answer),) = sites.exchange(carrier).ask({"nord": asked()}, 5.0)
        assert isinstance(answer, Message)
        assert len(ended) == 1
        assert len(handler.requests) == 1
        assert "the relay of the sites nord is gone" in sites.lines

    def test_a_late_reply(self, relayed_sites):
        sites, carrier, start = relayed_sites
        free = threading.Event()

        class Late(Doubling):
            def handle(self, request):
                free.wait(10)
                return super().handle(request)

        handler = sites.start("nord", Late())
        start("nord")
        exchange = sites.exchange(carrier)
        ((_, answer),) = exchange.ask({"nord": asked(1)}, 0.2)
        assert answer.kind == "silent"
        free.set()
        _until(lambda: len(handler.requests) == 1)
        ((_, answer),) = exchange.ask({"nord": asked(2)}, 5.0)
        assert answer.integer("round") == 2
        assert any("came late or twice: dropped" in line for line in sites.lines)

    def test_a_reply_twice(self, relayed_sites):
        sites, carrier, start = relayed_sites
        sites.start("nord")
        start("nord", change=lambda payload: [payload, payload])
        exchange = sites.exchange(carrier)
        for number in (1, 2):
            ((_, answer),) = exchange.ask({"nord": asked(number)}, 5.0)
            assert answer.integer("round") == number
        assert any("came late or twice" in line for line in sites.lines)

    @pytest.mark.parametrize("payload", [b"", b"\xff\xff", b"\0\1\xff" + bytes(8)])
    def test_garbage_drops_the_relay(self, relayed_sites, payload):
        sites, carrier, start = relayed_sites
        sites.start("nord")
        start("nord", change=lambda _: [payload])
        ((_, answer),) = sites.exchange(carrier).ask({"nord": asked()}, 5.0)
        assert answer.kind == "unreached"
        assert carrier.sites == ()
        assert any("is not a reply" in line for line in sites.lines)

    def test_an_altered_message(self, relayed_sites):
        sites, carrier, start = relayed_sites
        sites.start("nord")
        start("nord", change=lambda p: [p[:-1] + bytes([p[-1] ^ 1])])
        ((_, answer),) = sites.exchange(carrier).ask({"nord": asked()}, 5.0)
        assert answer.kind == "wrong"
        assert "altered" in answer.reason

    def test_sites_that_change(self, relayed_sites):
        _, carrier, start = relayed_sites
        relay = start("nord")
        _send(relay.upstream, b"sites\nost\nwest")
        _until(lambda: carrier.sites == ("ost", "west"))
        _send(relay.upstream, b"sites\n")
        _until(lambda: carrier.sites == ())

    def test_a_name_that_does_not_fit(self, relayed_sites):
        sites, carrier, start = relayed_sites
        relay = start("nord")
        _send(relay.upstream, b"sites\n../x")
        _until(lambda: carrier.sites == ())
        assert any("dropped a relay: the name of a site" in x for x in sites.lines)

    def test_a_second_coordinator(self, relayed_sites):
        sites, _, _ = relayed_sites
        with pytest.raises(UserError, match="another process listens"):
            RelayCarrier(sites.folder / "federation" / "coordinator.sock")


def test_payload_of_the_documentation():
    payload = b"\x00\x04nord" + bytes([0, 0, 0, 0, 0, 0, 1, 2]) + b"message"
    assert relayed("nord", 258, b"message") == payload
    assert unrelayed(payload) == ("nord", 258, b"message")
    with pytest.raises(FrameError):
        unrelayed(payload[:13])
