"""Wrong kinds of files, JSON that cannot be read, homes that nobody has."""

from __future__ import annotations

import os
import pathlib

import pytest

from tfl_research.errors import UserError
from tfl_research.storage import RunFolder, folder_check
from tfl_research.storage.files import file_kinds, json_file, user_paths

HPARAMS = {"task": "x"}


def test_kinds(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nothing").symlink_to("not there")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    for path, kind in (
        (tmp_path, "a folder"),
        (tmp_path / "file", "a file"),
        (tmp_path / "link", "a file"),
        (tmp_path / "loop", "a symbolic link to itself"),
        (tmp_path / "nothing", "a symbolic link to nothing"),
        (tmp_path / "pipe", "a named pipe"),
        (pathlib.Path("/dev/null"), "a device"),
        (tmp_path / "none", None),
        (tmp_path / "file" / "none", None),
    ):
        assert file_kinds.kind(path) == kind
    with pytest.raises(ValueError, match="pipe is a named pipe, expected a file"):
        file_kinds.check(tmp_path / "pipe")
    file_kinds.check(tmp_path / "none")
    file_kinds.check(tmp_path, file_kinds.FOLDER)


@pytest.mark.parametrize("name", ["metrics.csv", "run_seed", "hparams.json"])
@pytest.mark.parametrize("kind", ["a folder", "a named pipe", "a device"])
def test_a_run_folder_names_what_is_no_file(tmp_path, name, kind):
    RunFolder.open(tmp_path, HPARAMS).close()
    path = tmp_path / name
    path.unlink(missing_ok=True)
    if kind == "a folder":
        path.mkdir()
    elif kind == "a device":
        path.symlink_to("/dev/null")
    else:
        os.mkfifo(path)
    with pytest.raises(UserError, match=f"{name} is {kind}, expected a file; restore"):
        RunFolder.open(tmp_path, HPARAMS)


def test_a_run_folder_names_what_is_no_folder(tmp_path):
    RunFolder.open(tmp_path, HPARAMS).close()
    (tmp_path / "checkpoints").write_text("x")
    with pytest.raises(UserError, match="checkpoints is a file, expected a folder"):
        RunFolder.open(tmp_path, HPARAMS)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[" * 100_000, "nested too deep"),
        (b"9" * 5000, "a number has 5000 digits"),
        (b"1e999", "1e999 is not finite"),
        (b"[NaN]", "NaN is not a number in JSON"),
        (b'{"a": 1, "a": 2}', "an object has the same key twice"),
        (b"\xff", "not UTF-8 text at byte 0"),
        (b"", "Expecting value"),
    ],
)
def test_json_that_cannot_be_read(tmp_path, content, why):
    path = tmp_path / "hparams.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=why):
        json_file.read(path)
    with pytest.raises(UserError, match=f"hparams.json is not a run's record .*{why}"):
        RunFolder.open(tmp_path, HPARAMS)


def test_a_changed_record_is_said(tmp_path):
    RunFolder.open(tmp_path, {**HPARAMS, "rounds": 3}).close()
    path = tmp_path / "hparams.json"
    path.write_text(path.read_text().replace('"rounds": 3', '"rounds": 4'))
    with pytest.warns(
        UserWarning, match="hparams.json: a value was changed after the run wrote"
    ):
        RunFolder.open(tmp_path, {**HPARAMS, "rounds": 3}).close()


def test_patterns_of_tensorflow_are_refused_in_a_new_folder(tmp_path):
    with pytest.raises(UserError) as raised:
        folder_check.check_path(tmp_path / "a[1]")
    assert raised.value.for_command_line == (
        f"--output_dir={tmp_path}/a[1]: TensorFlow reads [ in a path as a pattern, so "
        "nobody could load the exported models; give a path without [ ] * ?"
    )
    # A run that is there already can go on.
    RunFolder.open(tmp_path / "a[1]", HPARAMS).close()
    folder_check.check_path(tmp_path / "a[1]")


def test_users_without_a_home(monkeypatch, tmp_path):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert user_paths.cache() is None
    with pytest.raises(UserError, match="~/x: the home folder of ~ is unknown; set"):
        user_paths.expanded("~/x")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_paths.cache() == tmp_path
    assert user_paths.expanded("a/b") == pathlib.Path("a/b")
