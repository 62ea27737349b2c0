"""Locks and environments of the engines, and what runs in them."""

import ast
import hashlib
import pathlib
import sys

import pytest

from tfl_research import errors
from tfl_research.federation.engines import environments

RELAYS = pathlib.Path(environments.__file__).with_name("relays")


@pytest.mark.parametrize("engine", environments.ENGINES)
def test_every_package_of_a_lock_has_a_version_and_hashes(engine):
    text = environments.lock_file(engine).read_text(encoding="utf-8")
    packages = [
        block
        for block in text.replace("\\\n", " ").splitlines()
        if block and not block.lstrip().startswith("#")
    ]
    assert len(packages) > 30
    for package in packages:
        assert "==" in package.split(";")[0], package
        assert "--hash=sha256:" in package, package
    assert "://" not in text
    assert "--index" not in text


def test_relays_import_neither_tensorflow_nor_this_package():
    modules = sorted(RELAYS.rglob("*.py"))
    assert len(modules) > 5
    for module in modules:
        text = module.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 150, module
        for node in ast.walk(ast.parse(text)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                assert name.split(".")[0] not in ("tensorflow", "tfl_research"), module


def test_an_unknown_engine_is_refused(tmp_path):
    with pytest.raises(
        errors.UserError, match="engine=openfl: must be flare or flower"
    ):
        environments.ensure("openfl", cache=tmp_path)


def test_a_machine_without_a_fitting_python_gets_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "_candidates", lambda: iter(()))
    with pytest.raises(errors.UserError) as error:
        environments.ensure("flower", cache=tmp_path)
    assert str(error.value).startswith(
        "Flower 1.42 needs Python 3.11 to 3.13, found none; install one"
    )


def test_the_advice_names_a_python_that_would_do(monkeypatch):
    monkeypatch.setattr(environments, "_candidates", lambda: iter((sys.executable,)))
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for oldest, newest, text in (
        ((3, 6), (3, 6), "3.6, found {0}; install one, for example 'apt install"),
        ((3, 99), (3, 101), "3.99 to 3.101, found {0}; install one, for example"),
    ):
        with pytest.raises(errors.UserError) as error:
            environments.find_python("x", oldest, newest)
        assert f"x needs Python {text.format(here)}" in str(error.value)
        assert f"'pyenv install {oldest[0]}.{oldest[1]}'" in str(error.value)


def test_an_installation_that_fails_says_why_and_is_begun_anew(tmp_path, monkeypatch):
    lock = tmp_path / "flare.lock"
    lock.write_text("no-such-package==1 --hash=sha256:00\n", encoding="utf-8")
    monkeypatch.setattr(environments, "lock_file", lambda engine: lock)
    lines = []
    for _ in range(2):
        with pytest.raises(errors.UserError, match="cannot be installed into"):
            environments.ensure("flare", cache=tmp_path, say=lines.append)
    assert [line.split(" into ")[0] for line in lines] == [
        "installing NVIDIA FLARE 2.9",
        "installing NVIDIA FLARE 2.9",
    ]


def test_a_complete_environment_needs_no_place_to_write(tmp_path, monkeypatch):
    lock = tmp_path / "flare.lock"
    lock.write_text("x==1 --hash=sha256:00\n", encoding="utf-8")
    monkeypatch.setattr(environments, "lock_file", lambda engine: lock)
    folder = tmp_path / f"flare-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / ".complete").touch()
    # What would be written cannot be, as on a disk that can only be read.
    (tmp_path / f"{folder.name}.setup_lock").mkdir()
    assert environments.ensure("flare", cache=tmp_path).folder == folder
    (folder / ".complete").unlink()
    with pytest.raises(errors.UserError, match="; free space or make the folder"):
        environments.ensure("flare", cache=tmp_path)
