"""A machine says that its certificates are not valid, since engines hide it."""

from __future__ import annotations

import time

import pytest
from real_engines import environment

from tfl_research.errors import UserError
from tfl_research.federation.engines import certificates, deployments, processes
from tfl_research.federation.engines.deployment import Place

DAY = 86400.0
# What each machine of a federation has, below the coordinator's and a site's folder.
FILES = {
    "flower": (["keys/server.crt", "keys/ca.crt"], ["ca.crt"]),
    "flare": (
        ["server/startup/server.crt", "administrator/startup/client.crt"],
        ["kit/startup/client.crt", "kit/startup/rootCA.pem"],
    ),
}


@pytest.fixture(scope="module", params=sorted(FILES))
def network(request, tmp_path_factory):
    """What is provisioned: the deployment, and the folders of both sides."""
    engine = request.param
    environment(engine)
    folder = tmp_path_factory.mktemp(engine)
    server, site = folder / "engine", folder / "site"
    for each in (server, site):
        each.mkdir(mode=0o700)
    deployed = deployments.of(Place(engine, "federation", "localhost", 1), print)
    deployed.provision(server, ["north"], {"north": site})
    return engine, deployed, server, site


@pytest.fixture
def clock(monkeypatch):
    """Sets the clock so many days ahead."""
    now = time.time()

    def set_ahead(days):
        monkeypatch.setattr(certificates.time, "time", lambda: now + days * DAY)

    return set_ahead


def _paths(network):
    engine, _, server, site = network
    ours, theirs = FILES[engine]
    return [server / name for name in ours] + [site / name for name in theirs]


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (-2, "but the clock of this machine says .*; set the clock"),
        (
            361,
            "and the clock of this machine says .* if not, new ones are made when you",
        ),
    ],
)
def test_a_clock_outside_of_the_dates_starts_nothing(network, clock, days, words):
    _, deployed, server, site = network
    clock(days)
    with processes.Processes() as started:
        with pytest.raises(UserError, match=f"valid from .* UTC to .* UTC, {words}"):
            deployed.server(server, server / "socket", ["north"], started)
        with pytest.raises(UserError, match=f"valid from .* UTC to .* UTC, {words}"):
            deployed.site(site, "north", site / "site.sock", started)
        assert started._all == []


def test_each_file_of_a_machine_is_checked(network, clock):
    _, deployed, *_ = network
    clock(361)
    for path in _paths(network):
        with pytest.raises(UserError, match=f"^{path}: is valid from "):
            certificates.check(deployed._environment, [path], print)


def test_dates_that_hold_say_nothing_until_they_end_soon(network, clock):
    _, deployed, *_ = network
    paths, lines = _paths(network), []
    certificates.check(deployed._environment, paths, lines.append)
    assert lines == []
    clock(350)
    certificates.check(deployed._environment, paths, lines.append)
    assert len(lines) == len(paths)
    assert f"{paths[0]}: ends in 10 days, on " in lines[0]


def test_a_damaged_or_missing_file_is_named(network, tmp_path):
    _, deployed, *_ = network
    damaged = tmp_path / "ca.crt"
    damaged.write_bytes(_paths(network)[0].read_bytes()[:100])
    with pytest.raises(UserError, match=f"{damaged}: is damaged"):
        certificates.check(deployed._environment, [damaged], print)
    damaged.unlink()
    with pytest.raises(UserError, match=f"{damaged}: cannot be read"):
        certificates.check(deployed._environment, [damaged], print)
