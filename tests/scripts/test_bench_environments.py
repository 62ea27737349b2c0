"""The environments of the peers that scripts/bench measures."""

from __future__ import annotations

import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from benchmark import (  # noqa: E402
    flags as command_line,
    turns,
)
from benchmark.peers import environments  # noqa: E402

from tfl_research.errors import UserError  # noqa: E402


def test_peers_without_a_list_are_all():
    everyone = [*environments.PEERS]
    assert command_line.parse(["--peers"]).peers == everyone
    assert command_line.parse(["--peers=pfl"]).peers == ["pfl"]
    assert command_line.parse([]).peers == []
    assert command_line.parse(["--workloads=", "--memory"]).workloads == []


def test_peers_run_on_random_images_alone(monkeypatch, tmp_path):
    def python_of(environment):
        if environment == "flower":
            raise environments.PeerUnavailable("no wheel")
        return tmp_path / environment

    monkeypatch.setattr(environments, "python_of", python_of)
    peers = ["flower", "pfl_distributed"]
    chosen, absent = turns.commands("W2", ["limit", "in_process"], peers)
    assert list(chosen) == ["limit", "in_process", "pfl_distributed"]
    assert chosen["pfl_distributed"] == [
        str(tmp_path / "pfl"),
        "-m",
        "benchmark.peers.pfl_worker",
        "W2",
        "distributed",
    ]
    assert absent == {"flower": "no wheel"}
    contenders = ["limit", "in_process", "roofline", "products", "plain_tff"]
    chosen, absent = turns.commands("heart", contenders, peers)
    assert (list(chosen), absent) == (["in_process", "plain_tff"], {})
    chosen, absent = turns.commands("W5", contenders, peers)
    expected = ["in_process", "roofline", "products", "plain_tff", "pfl_distributed"]
    assert (list(chosen), absent) == (expected, {})
    for other in ("W7", "W8"):
        chosen, _ = turns.commands(other, contenders, [])
        assert list(chosen) == ["in_process", "roofline", "plain_tff"]
    chosen, _ = turns.commands("W9", contenders, [*peers, "jax_vmapped"])
    assert list(chosen) == ["in_process", "jax_vmapped"]
    assert chosen["jax_vmapped"][1:] == [
        "-m",
        "benchmark.peers.jax_vmapped_worker",
        "W9",
    ]


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Folders of environments that were made, none of them really."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folders = []
    monkeypatch.setattr(
        environments, "make", lambda folder, base, packages: folders.append(folder)
    )
    return folders


def test_an_environment_is_made_once(made, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "tfl_research" / "peers" / "pfl"
    for _ in range(2):
        assert environments.python_of("pfl") == folder / "bin" / "python"
    assert made == [folder]
    monkeypatch.setattr(environments, "_identity", lambda *_: "other\n")
    environments.python_of("pfl")
    assert made == [folder, folder]
    assert f"installing pfl in {folder}" in capsys.readouterr().err


def test_every_peer_has_an_environment():
    for peer in environments.PEERS.values():
        assert peer.environment in environments.ENVIRONMENTS
        assert environments.requirements_of(peer.environment).is_file()


def test_an_environment_has_a_python_that_its_packages_run_on(monkeypatch, made):
    asked = []

    def find_python(title, oldest, newest):
        asked.append((title, oldest, newest))
        raise UserError(f"{title} needs Python 3.11 to 3.12, found 3.9")

    monkeypatch.setattr(environments, "find_python", find_python)
    with pytest.raises(environments.PeerUnavailable, match="openfl needs Python"):
        environments.python_of("openfl")
    assert asked == [("openfl", (3, 11), (3, 12))]
    assert made == []


def test_pins_that_a_package_refuses_are_installed_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    told = []
    monkeypatch.setattr(
        environments, "make", lambda folder, base, packages: told.append(packages)
    )
    for name, options in (("tff", ["--no-deps", "-r"]), ("pfl", ["-r"])):
        environments.python_of(name)
        assert told.pop() == [*options, str(environments.requirements_of(name))]


def test_an_environment_that_fails_is_not_complete(made, monkeypatch, tmp_path):
    def fails(folder, base, packages):
        script = "echo 'ERROR: no matching wheel'; echo bye; exit 1"
        environments._run(["/bin/sh", "-c", script], folder / "install.log")

    monkeypatch.setattr(environments, "make", fails)
    for _ in range(2):
        with pytest.raises(environments.PeerUnavailable, match="no matching wheel"):
            environments.python_of("fedjax")
    folder = tmp_path / "tfl_research" / "peers" / "fedjax"
    assert not (folder / ".complete").exists()


def test_every_peer_has_requirements_and_a_worker():
    folder = ROOT / "scripts" / "benchmark" / "peers"
    assert {"flower", "pfl", "fedjax"} <= set(environments.PEERS)
    for peer in environments.PEERS.values():
        lines = (folder / f"{peer.environment}.txt").read_text().splitlines()
        packages = [line for line in lines if not line.startswith("#")]
        assert packages
        # Every release is fixed.
        assert all(line.count("==") == 1 for line in packages), peer
        worker = (ROOT / "scripts" / f"{peer.module.replace('.', '/')}.py").read_text()
        assert "tfl_research" not in worker
