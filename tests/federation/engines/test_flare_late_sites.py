"""FLARE gives a running job to no late site: the relay begins the job anew."""

import pathlib

import pytest

from tfl_research.errors import UserError
from tfl_research.federation.engines import deployment, flare, flare_deployment


class Server:
    """The answers of FLARE's server."""

    def __init__(self):
        self.connected, self.asked, self.jobs = "", [], 0

    def answer(self, environment, administrator, command, argument, seconds):
        if command == "sites":
            return self.connected
        self.asked.append((command, argument))
        if command == "submit":
            self.jobs += 1
            return f"job{self.jobs}"
        return ""

    def check(self):
        """The process runs."""


@pytest.fixture
def server(monkeypatch):
    server = Server()
    monkeypatch.setattr(flare, "ask_server", server.answer)
    monkeypatch.setattr(flare_deployment, "SECONDS_TO_START", 0.0)
    return server


def test_a_late_site_is_said_and_gets_the_job(server, tmp_path):
    said = []
    relay = flare_deployment._FlareRelay(
        None, tmp_path, pathlib.Path("relay"), ["one", "two"], server, said.append
    )
    assert isinstance(relay, deployment.Relay)
    with pytest.raises(UserError, match="no site has connected"):
        relay.start()
    server.connected = "one"
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(flare_deployment, "SECONDS_TO_START", 0.6)
        relay.start()
    assert said == [
        "relay starts without site two; the job begins again when the site connects",
        "FLARE runs relay as the job job1",
    ]
    relay.look()
    assert len(said) == 2
    server.connected = "one two"
    relay.look()
    assert said[2].startswith("site two connected: the job begins again, because FLARE")
    assert server.asked == [("submit", "relay"), ("abort", "job1"), ("submit", "relay")]
    server.connected = "two"
    relay.look()
    assert said[-1] == "site one is no longer connected"
    assert server.jobs == 2
