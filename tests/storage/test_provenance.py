"""Digests of source files, and the secret seed's file and keys."""

from __future__ import annotations

import hashlib
import pathlib
import stat
import sys

import pytest

import tfl_research
from tfl_research.errors import UserError
from tfl_research.storage import provenance, run_seed


def test_every_source_file_of_the_package():
    root = pathlib.Path(tfl_research.__file__).parent
    found = provenance.source_digests()
    assert set(found) == {
        f"tfl_research/{path.relative_to(root).as_posix()}"
        for path in root.rglob("*.py")
    }
    name = "tfl_research/data/batching.py"
    content = (root / "data" / "batching.py").read_bytes()
    assert found[name] == hashlib.sha256(content).hexdigest()


def test_modules_of_a_users_own(tmp_path, monkeypatch):
    (tmp_path / "noise_plugin_of_mine.py").write_text("a = 1\n")
    package = tmp_path / "noise_package_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("b = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import noise_package_of_mine.part
    import noise_plugin_of_mine

    modules = [noise_plugin_of_mine.__name__, noise_package_of_mine.part.__name__]
    try:
        ours = set(provenance.source_digests())
        before = provenance.source_digests([*modules, "sys", "no_such_module"])
        assert set(before) - ours == {
            "noise_plugin_of_mine.py",
            "noise_package_of_mine/__init__.py",
            "noise_package_of_mine/part.py",
        }
        (package / "part.py").write_text("b = 2\n")
        after = provenance.source_digests(modules)
        assert [name for name in after if after[name] != before[name]] == [
            "noise_package_of_mine/part.py"
        ]
    finally:
        for name in (*modules, "noise_package_of_mine"):
            sys.modules.pop(name, None)


def test_the_seed_is_written_and_read(tmp_path):
    path = tmp_path / "run_seed"
    for seed in (0, 1, 2**128 - 1, 0xABCDEF):
        run_seed.write(path, seed)
        assert run_seed.read(path) == seed
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"0" * 32,
        b"0" * 31 + b"\n",
        b"0" * 33 + b"\n",
        b"0" * 32 + b"\n\n",
        b"0" * 32 + b"\r\n",
        b"A" * 32 + b"\n",
        b"0x" + b"0" * 30 + b"\n",
        b"+" + b"0" * 31 + b"\n",
        b" " + b"0" * 31 + b"\n",
        b"0" * 15 + b"_" + b"0" * 16 + b"\n",
        "٣".encode() * 16 + b"\n",
    ],
)
def test_nothing_else_is_a_seed(tmp_path, content):
    path = tmp_path / "run_seed"
    path.write_bytes(content)
    with pytest.raises(UserError, match="missing or damaged") as error:
        run_seed.read(path)
    assert "\n" not in str(error.value)
    assert error.value.__cause__ is None


def test_derived_keys_differ_by_purpose_content_and_seed():
    keys = {
        run_seed.derived(*arguments)
        for arguments in (
            (7, "noise", b"a"),
            (8, "noise", b"a"),
            (7, "checkpoints", b"a"),
            (7, "noise", b"b"),
            (7, "noise"),
            (7, "noise\0a"),
        )
    }
    assert len(keys) == 6
    assert all(len(key) == 32 for key in keys)
    # HMAC-SHA256 by hand.
    key = b"%032x" % 7
    inner, outer = (
        bytes(byte ^ mask for byte in key.ljust(64, b"\0")) for mask in (0x36, 0x5C)
    )
    expected = hashlib.sha256(
        outer + hashlib.sha256(inner + b"noise\0a").digest()
    ).digest()
    assert run_seed.derived(7, "noise", b"a") == expected


def test_variables_that_change_rounding_are_said(monkeypatch):
    for name in list(provenance.numeric_environment()):
        monkeypatch.delenv(name)
    # The flag that the toolkit sets by itself does not count.
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_min_max=false")
    assert provenance.rounding_line() is None
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    line = provenance.rounding_line()
    assert line is not None
    assert line.startswith("TF_ENABLE_ONEDNN_OPTS='0': changes how TensorFlow rounds")
