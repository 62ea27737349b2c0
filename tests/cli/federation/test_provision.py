"""scripts/federation provision: keys, federation.toml, folders to hand over."""

from __future__ import annotations

import pathlib
import shutil
import stat
from typing import ClassVar

import pytest

from tfl_research.cli.federation.__main__ import main
from tfl_research.federation import federation_file
from tfl_research.federation.engines import deployment, deployments
from tfl_research.federation.wire import authentication


def _mode(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _provision(folder, sites="north,south", *more: str) -> int:
    return main(["provision", f"--sites={sites}", f"--folder={folder}", *more])


def test_a_federation_is_made(tmp_path, capsys):
    folder = tmp_path / "wards"
    assert _provision(folder, "north,south", "--label_column=fell") == 0
    file = federation_file.read(folder / "federation.toml")
    assert (file.name, file.carrier) == ("wards", "local")
    assert file.site_names == ("north", "south")
    keys = file.keys()
    for name in ("north", "south"):
        site = folder / "sites" / name
        assert authentication.read_key(site / "site.key") == keys[name]
        assert len(keys[name]) == 32
        assert _mode(site) == 0o700
        assert _mode(site / "site.key") == _mode(site / "site.toml") == 0o600
        assert file.sockets()[name] == site / "site.sock"
        assert (
            f"{site}: give this folder to the site" in capsys.readouterr().out
            or name == "south"
        )
    assert _mode(folder / "keys") == _mode(folder) == 0o700
    assert _mode(folder / "keys" / "north.key") == 0o600


def test_sites_are_added_and_keys_stay(tmp_path, capsys):
    folder = tmp_path / "wards"
    assert _provision(folder, "north", "--round_deadline=7") == 0
    file = folder / "federation.toml"
    file.write_text(file.read_text() + "# a note of the coordinator's\n")
    before = (folder / "keys" / "north.key").read_bytes()
    assert _provision(folder, "south") == 0
    assert "# a note of the coordinator's" in file.read_text()
    found = federation_file.read(file)
    assert (found.site_names, found.round_deadline) == (("north", "south"), 7.0)
    capsys.readouterr()
    assert _provision(folder, "west,north") == 2
    error = capsys.readouterr().err
    assert error.startswith("federation: --sites=north: ")
    assert str(folder / "keys" / "north.key") in error
    assert (folder / "keys" / "north.key").read_bytes() == before
    assert not (folder / "keys" / "west.key").exists()
    assert federation_file.read(file).site_names == ("north", "south")


def test_an_interrupted_call_can_be_repeated(tmp_path):
    folder = tmp_path / "wards"
    assert _provision(folder) == 0
    keys = {p.name: p.read_bytes() for p in (folder / "keys").iterdir()}
    (folder / "federation.toml").unlink()
    (folder / "sites" / "south" / "site.key").unlink()
    (folder / "sites" / "south" / "site.toml").unlink()
    assert _provision(folder) == 0
    assert {p.name: p.read_bytes() for p in (folder / "keys").iterdir()} == keys
    site = folder / "sites" / "south" / "site.key"
    assert site.read_bytes() == keys["south.key"]


def test_another_key_at_a_site_is_not_overwritten(tmp_path, capsys):
    folder = tmp_path / "wards"
    assert _provision(folder, "north") == 0
    (folder / "federation.toml").unlink()
    key = folder / "sites" / "north" / "site.key"
    key.unlink()
    own = authentication.make_key(key)
    assert _provision(folder, "north") == 2
    assert "are different keys" in capsys.readouterr().err
    assert authentication.read_key(key) == own


@pytest.mark.parametrize(
    ("sites", "more", "message"),
    [
        ("", (), "is empty; give the names"),
        ("a,b,a", (), "names a twice"),
        ("a/b", (), "--sites is 'a/b'"),
        ("a", ("--carrier=mail",), "--carrier=mail: must be one of local, flare"),
        ("a", ("--round_deadline=0",), "--round_deadline=0: must be above 0"),
    ],
)
def test_what_is_refused_leaves_nothing(tmp_path, capsys, sites, more, message):
    folder = tmp_path / "wards"
    assert _provision(folder, sites, *more) == 2
    assert message in capsys.readouterr().err
    assert not folder.exists()


class _Engine(deployment.Deployment):
    """Stands in for an engine: notes down what it is asked to provision."""

    asked: ClassVar[list] = []

    def __init__(self, place, say, *, insecure=False):
        self._place, self._say = place, say

    def provision(self, folder, names, sites):
        self.asked.append((self._place, tuple(names), tuple(sites)))
        for own in sites.values():
            (own / "certificate").write_text(self._place.engine)

    def server(self, folder, socket, sites, started):
        raise NotImplementedError

    def site(self, folder, name, socket, started):
        raise NotImplementedError


def test_an_engine_gets_its_certificates(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(deployments, "_DEPLOYMENTS", {"flare": _Engine})
    monkeypatch.setattr(_Engine, "asked", [])
    folder = tmp_path / "Wards of 2026"
    assert _provision(folder, "north", "--carrier=flare", "--port=9000") == 0
    assert "socket" not in (folder / "federation.toml").read_text()
    assert "each site runs: scripts/federation carry" in capsys.readouterr().out
    place = deployment.Place("flare", "wards-of-2026", "localhost", 9000)
    assert _Engine.asked == [(place, ("north",), ("north",))]
    own = folder / "sites" / "north" / "engine"
    assert deployment.Place.read(own) == place
    assert (own / "certificate").read_text() == "flare"
    assert _mode(own) == _mode(folder / "engine") == 0o700
    # The folder of a site that was handed over is not made again.
    shutil.rmtree(folder / "sites" / "north")
    assert _provision(folder, "south") == 0
    assert _Engine.asked[1:] == [(place, ("north", "south"), ("south",))]
    assert not (folder / "sites" / "north").exists()
    for flag, present in (("--carrier=local", "flare"), ("--port=9001", "9000")):
        assert _provision(folder, "west", flag) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"federation: {flag}: ")
        assert present in error
    # A call that failed in between can be repeated.
    assert _provision(folder, "west") == 0


def test_the_carrier_local_has_no_server(tmp_path, capsys):
    folder = tmp_path / "wards"
    assert _provision(folder, "north", "--port=9000") == 2
    assert "--port=9000: the carrier local opens no port" in capsys.readouterr().err
    assert not folder.exists()


def test_a_folder_that_others_may_enter_is_refused(tmp_path, capsys):
    folder = tmp_path / "wards"
    folder.mkdir()
    folder.chmod(0o755)
    assert _provision(folder) == 2
    assert f"{folder}: others can enter this folder" in capsys.readouterr().err
