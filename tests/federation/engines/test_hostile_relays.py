"""What a hostile site sends through an engine does not harm the other sites."""

from __future__ import annotations

import contextlib
import importlib
import pathlib
import sys
import threading
import time
import types

import pytest
from engine_fakes import EchoSite

from tfl_research.federation.engines import environments
from tfl_research.federation.wire import authentication
from tfl_research.federation.wire.messages import LIMIT_BYTES
from tfl_research.federation.wire.relay_carrier import RelayCarrier
from tfl_research.federation.wire.sockets import Listener

sys.path.insert(0, str(pathlib.Path(environments.__file__).with_name("relays")))
import tfl_relay_coordinator
import tfl_relay_frames as frames
import tfl_relay_requests

RELAYS = pathlib.Path(environments.__file__).with_name("relays")


def _exchanged(folder, ask, requests, seconds=20.0):
    """The replies and the coordinator's lines, with a relay of the sites a and b."""
    folder.chmod(0o700)
    stopped, lines = threading.Event(), []
    relay = tfl_relay_coordinator.Coordinator(str(folder / "coordinator.sock"), ask)
    relay.announce({"a", "b"})
    thread = threading.Thread(target=relay.serve, args=(stopped.is_set,))
    thread.start()
    carrier = RelayCarrier(folder / "coordinator.sock", lines.append, patience=0.5)
    try:
        end = time.monotonic() + 10
        while set(carrier.sites) != {"a", "b"} and time.monotonic() < end:
            time.sleep(0.02)
        return dict(carrier.exchange(requests, seconds)), lines
    finally:
        stopped.set()
        carrier.close()
        thread.join(10)


@pytest.mark.parametrize("reply", ["text", [1, 2], 5, None])
def test_a_reply_of_another_type_keeps_the_stream(tmp_path, reply):
    answered = threading.Event()

    def ask(name, message):
        if name == "a":
            answered.set()
            return reply
        answered.wait(10)
        time.sleep(0.2)
        return b"b|" + message

    replies, lines = _exchanged(tmp_path, ask, {"a": b"1", "b": b"2"})
    assert replies["b"] == b"b|2"
    assert authentication.why_no_reply(replies["a"]) == "the reply is not bytes"
    assert not [line for line in lines if "dropped" in line or "gone" in line]


def test_an_error_at_one_site_is_no_silence(tmp_path):
    def ask(name, message):
        if name == "a":
            raise KeyError("reply")
        return b"b|" + message

    replies, _ = _exchanged(tmp_path, ask, {"a": b"1", "b": b"2"}, 60.0)
    assert replies == {"a": b"", "b": b"b|2"}


def test_a_reply_above_the_limit_keeps_the_relay(tmp_path, monkeypatch):
    monkeypatch.setattr(tfl_relay_coordinator, "_LONGEST_REPLY", 1000)
    replies, lines = _exchanged(
        tmp_path, lambda name, message: bytes(1001), {"a": b"1", "b": b"2"}
    )
    for reply in replies.values():
        reason = authentication.why_no_reply(reply)
        assert reason == "a reply of 1001 bytes, above the limit of 1000"
    assert set(replies) == {"a", "b"}
    assert not [line for line in lines if "dropped" in line]


def test_the_limits_of_relay_and_coordinator_are_alike(tmp_path):
    assert tfl_relay_coordinator._LONGEST_REPLY == LIMIT_BYTES
    assert authentication.no_reply("") == tfl_relay_coordinator._NO_REPLY
    # The longest message fits a frame, with the name and the number before it.
    tmp_path.chmod(0o700)
    stopped = threading.Event()
    relay = tfl_relay_coordinator.Coordinator(
        str(tmp_path / "coordinator.sock"), lambda name, message: bytes(1000)
    )
    relay.announce({"a"})
    thread = threading.Thread(target=relay.serve, args=(stopped.is_set,))
    thread.start()
    carrier = RelayCarrier(tmp_path / "coordinator.sock", limit_bytes=1000)
    try:
        while carrier.sites != ("a",):
            time.sleep(0.02)
        assert dict(carrier.exchange({"a": b"1"}, 20.0)) == {"a": bytes(1000)}
    finally:
        stopped.set()
        carrier.close()
        thread.join(10)


def test_a_socket_with_a_long_path_is_reached(tmp_path):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    path = folder / "site.sock"
    assert not frames.reachable(str(path))
    folder.chmod(0o700)
    listener = Listener(path, 100)
    assert frames.reachable(str(path))
    listener.close()


def test_a_message_that_is_none_gets_an_answer(tmp_path):
    site = EchoSite("a", tmp_path / "a.sock")
    asked = tfl_relay_requests.Requests(str(tmp_path / "a.sock")).get("1", "text")
    assert asked.done.wait(10)
    assert asked.reply == b""
    site.close()


class _Record(dict):
    """A ConfigRecord."""


class _Grid:
    """Flower's connection, with nodes that answer by functions."""

    def __init__(self, nodes):
        self.nodes = nodes
        self._sent = {}

    def get_node_ids(self):
        return list(self.nodes)

    def push_messages(self, messages):
        for message in messages:
            self._sent[id(message)] = message
        return [id(message) for message in messages]

    def pull_messages(self, numbers):
        message = self._sent[numbers[0]]
        reply = self.nodes[message.dst_node_id](message.content["relay"])
        if reply is None:
            return []
        records = {} if reply == "empty" else {"relay": _Record(reply)}
        content = types.SimpleNamespace(config_records=records)
        return [types.SimpleNamespace(has_error=lambda: False, content=content)]


@pytest.fixture
def flower_server(monkeypatch):
    """The module of the relay at Flower's server, without Flower."""

    class App:
        def main(self):
            return lambda function: function

    app = types.ModuleType("flwr.app")
    app.ConfigRecord = _Record
    app.Message = types.SimpleNamespace
    app.MessageType = types.SimpleNamespace(QUERY="query")
    app.RecordDict = dict
    server = types.ModuleType("flwr.serverapp")
    server.ServerApp = App
    package = types.ModuleType("flower_relay")
    package.__path__ = [str(RELAYS / "flower_relay")]
    for name, module in {
        "flwr": types.ModuleType("flwr"),
        "flwr.app": app,
        "flwr.serverapp": server,
        "flower_relay": package,
        "flower_relay.tfl_relay_coordinator": tfl_relay_coordinator,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "flower_relay.server", raising=False)
    yield importlib.import_module("flower_relay.server")
    sys.modules.pop("flower_relay.server", None)


def _site(name):
    def answer(given):
        reply = {"site": name}
        if "message" in given:
            reply["reply"] = name.encode() + b"|" + given["message"]
        return reply

    return answer


def _known(nodes, count):
    end = time.monotonic() + 10
    while len(nodes.sites()) < count:
        assert time.monotonic() < end
        time.sleep(0.02)
    return nodes.sites()


class TestFlowerNodes:
    @pytest.mark.parametrize(
        "hostile",
        [
            {"site": "../x"},
            {"site": "one\ntwo"},
            {"site": ""},
            {"site": "x" * 65},
            {"other": 1},
            "empty",
            None,
        ],
    )
    def test_a_node_without_a_name_of_a_site(self, flower_server, hostile):
        """Such a name would end the relay of all sites at the coordinator."""
        grid = _Grid({1: lambda given: hostile, 2: _site("one"), 3: _site("two")})
        nodes = flower_server.Nodes(grid)
        assert _known(nodes, 2) == {"one", "two"}
        assert nodes.ask("two", b"m") == b"two|m"

    def test_a_reply_without_a_reply(self, flower_server):
        grid = _Grid({1: lambda given: {"site": "one"}, 2: lambda given: "empty"})
        nodes = flower_server.Nodes(grid)
        assert _known(nodes, 1) == {"one"}
        assert nodes.ask("one", b"m") == b""
        assert nodes.ask("two", b"m") == b""

    def test_two_nodes_with_one_name_take_turns(self, flower_server, capsys):
        """A node with another site's name cannot take all of its requests."""

        def thief(given):
            return {"site": "one", "reply": b"stolen"}

        nodes = flower_server.Nodes(_Grid({1: thief, 2: _site("one")}))
        nodes.sites()
        end = time.monotonic() + 10
        while len(nodes.names) < 2:
            assert time.monotonic() < end
            time.sleep(0.02)
        replies = [nodes.ask("one", b"m") for _ in range(4)]
        assert replies.count(b"one|m") == replies.count(b"stolen") == 2
        assert "say that they are this site" in capsys.readouterr().out


class _Shareable(dict):
    def get_return_code(self):
        return "ok"


@pytest.fixture
def flare_relay(monkeypatch):
    """The module of the relay at FLARE's server, without FLARE."""
    classes = {
        "nvflare.apis.event_type": {"EventType": object},
        "nvflare.apis.executor": {"Executor": object},
        "nvflare.apis.fl_constant": {"ReturnCode": types.SimpleNamespace(OK="ok")},
        "nvflare.apis.impl.controller": {"Controller": object},
        "nvflare.apis.shareable": {"Shareable": _Shareable, "make_reply": None},
    }
    for name in ("nvflare", "nvflare.apis", "nvflare.apis.impl", *classes):
        module = types.ModuleType(name)
        vars(module).update(classes.get(name, {}))
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "tfl_flare_relay", raising=False)
    yield importlib.import_module("tfl_flare_relay")
    sys.modules.pop("tfl_flare_relay", None)


def test_a_flare_site_whose_replies_lack_entries(flare_relay, monkeypatch, tmp_path):
    """The relay still announces the other site and carries its messages."""
    monkeypatch.setattr(flare_relay, "_socket_path", lambda context: str(path))
    path = tmp_path / "coordinator.sock"
    tmp_path.chmod(0o700)

    class Engine:
        def get_clients(self):
            return [types.SimpleNamespace(name=name) for name in ("a", "b")]

        @contextlib.contextmanager
        def new_context(self):
            yield None

        def send_aux_request(self, names, topic, request, seconds, context, optional):
            good = {"listens": True, "known": True, "reply": b"b|1"}
            return {n: _Shareable(good if n == "b" else {}) for n in names}

    signal = types.SimpleNamespace(triggered=False)
    context = types.SimpleNamespace(get_engine=Engine)
    relay = flare_relay.CoordinatorRelay()
    thread = threading.Thread(target=relay.control_flow, args=(signal, context))
    thread.start()
    carrier = RelayCarrier(path, patience=0.5)
    try:
        end = time.monotonic() + 10
        while carrier.sites != ("b",):
            assert time.monotonic() < end
            time.sleep(0.02)
        assert dict(carrier.exchange({"a": b"1", "b": b"1"}, 20.0)) == {
            "a": b"",
            "b": b"b|1",
        }
    finally:
        signal.triggered = True
        carrier.close()
        thread.join(10)
