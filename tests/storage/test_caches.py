"""All files of the user's cache: whatever is in them, results are right."""

from __future__ import annotations

import errno
import os
import pathlib
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

import tfl_research
from tfl_research.privacy.mechanisms.noise import factor_search, factorization
from tfl_research.runtime.compiler import choice_cache
from tfl_research.storage.files import user_cache
from tfl_research.tasks.built_in import play_texts, shakespeare

_PLAY = "ACT I.\n\nHAMLET.\nTo be, or not to be.\n\nOPHELIA.\nGood my lord.\n"


class Cache(NamedTuple):
    """A user of the cache folder.

    Attributes:
      module: that uses it, below `tfl_research`.
      get: gives the result, from the cache or computed.
      count: puts a counter of computations in place; it returns the count so far.
      stale: changes what the result depends on, without changing the result.
      of_machine: whether a file of another machine type must not be used.
    """

    module: str
    get: Callable[[], Any]
    count: Callable[[pytest.MonkeyPatch], Callable[[], int]]
    stale: Callable[[pytest.MonkeyPatch], None]
    of_machine: bool


def _counting(module: Any, name: str) -> Callable[..., Callable[[], int]]:
    def count(patch: pytest.MonkeyPatch) -> Callable[[], int]:
        function, calls = getattr(module, name), []

        def counted(*arguments: Any) -> Any:
            calls.append(1)
            return function(*arguments)

        patch.setattr(module, name, counted)
        return lambda: len(calls)

    return count


def _roles() -> Any:
    return list(shakespeare.roles.__wrapped__().items())


def _other_plays_code(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(play_texts, "__file__", shakespeare.__file__)


def _measure() -> tuple[str, str, str]:
    return "folded", "graph", "graph 1 ms, xla 2 ms"


def _choice() -> Any:
    key = choice_cache.key("work", [(3,)])
    found = choice_cache.recall(key)
    if found is None:
        found = _counted_measure()
        choice_cache.remember(key, found)
    return found


def _counted_measure() -> tuple[str, str, str]:
    return _measure()


def _other_tensorflow(patch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    patch.setattr(tf, "__version__", "0.0")


def _other_factor_code(patch: pytest.MonkeyPatch) -> None:
    from tfl_research.privacy.mechanisms.noise import factor_cache

    patch.setattr(factor_cache, "_VERSION", -1)


CACHES = {
    "plays": Cache(
        "tasks/built_in/shakespeare.py",
        _roles,
        _counting(shakespeare, "_spoken"),
        _other_plays_code,
        of_machine=False,
    ),
    "matrices": Cache(
        "privacy/mechanisms/noise/factor_cache.py",
        lambda: factorization.banded_factor(4, 2).rows.tolist(),
        _counting(factor_search, "best_diagonals"),
        _other_factor_code,
        of_machine=True,
    ),
    "modes": Cache(
        "runtime/compiler/choice_cache.py",
        _choice,
        _counting(sys.modules[__name__], "_counted_measure"),
        _other_tensorflow,
        of_machine=True,
    ),
}

# Users of the folder that keep no results there, and who tests them.
_ENGINES = "federation/engines"
_ELSEWHERE = {f"{_ENGINES}/environments.py": f"{_ENGINES}/test_engine_environments.py"}


class Used(NamedTuple):
    result: Any
    computed: int
    lines: list[str]


@pytest.fixture(params=sorted(CACHES))
def cache(request, tmp_path, monkeypatch):
    """A function that uses one cache, in a folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "hamlet_gut.txt").write_text(_PLAY)
    monkeypatch.setattr(shakespeare, "package_file", lambda *_: texts)
    found = CACHES[request.param]
    count = found.count(monkeypatch)

    def use() -> Used:
        before = count()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = found.get()
        return Used(result, count() - before, [str(each.message) for each in caught])

    use.row = found
    return use


def _file(tmp_path: pathlib.Path) -> pathlib.Path:
    (path,) = (
        path
        for path in (tmp_path / "cache").rglob("*")
        if path.is_file() and path.suffix != user_cache.LOCK_SUFFIX
    )
    return path


def _forbid_writing(patch: pytest.MonkeyPatch) -> None:
    # Root may write to a folder that is read-only.
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EROFS, "Read-only file system")

    patch.setattr(tempfile, "mkstemp", refuse)
    patch.setattr(pathlib.Path, "mkdir", refuse)


def _flipped(content: bytes) -> bytes:
    """One bit in the middle is another."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "without its last byte": lambda content: content[:-1],
    "noise": lambda content: b"\x93" * len(content),
    "one bit": _flipped,
    "JSON of another kind": lambda content: b"[1, 2]",
}


def test_a_file_is_used(cache):
    first, second = cache(), cache()
    assert first.computed == 1
    assert second == Used(first.result, 0, [])


@pytest.mark.parametrize("writable", [True, False], ids=["writable", "read-only"])
@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_a_damaged_file(cache, damage, writable, tmp_path, monkeypatch):
    expected = cache().result
    path = _file(tmp_path)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    if not writable:
        _forbid_writing(monkeypatch)
    used = cache()
    assert used.result == expected
    assert used.computed == 1
    assert len(used.lines) <= 1
    if writable:
        assert cache() == Used(expected, 0, [])


def test_a_folder_in_the_place_of_the_file(cache, tmp_path):
    expected = cache().result
    path = _file(tmp_path)
    path.unlink()
    path.mkdir()
    used = cache()
    assert used.result == expected
    assert used.computed == 1
    assert len(used.lines) == 1
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_a_file_of_other_code_or_versions(cache, monkeypatch):
    expected = cache().result
    cache.row.stale(monkeypatch)
    assert cache() == Used(expected, 1, [])


def test_a_file_in_the_place_of_another(cache, tmp_path, monkeypatch):
    expected = cache().result
    path = _file(tmp_path)
    old = path.read_bytes()
    cache.row.stale(monkeypatch)
    cache()
    for each in (tmp_path / "cache").rglob("*"):
        if each.is_file():
            each.write_bytes(old)
    used = cache()
    assert used.result == expected
    assert used.computed == 1
    assert len(used.lines) <= 1


def test_a_file_of_another_machine_type(cache, monkeypatch):
    expected = cache().result
    monkeypatch.setattr(user_cache, "machine", lambda: ("Plan 9", "vax", "0"))
    assert cache() == Used(expected, int(cache.row.of_machine), [])


def test_a_read_only_folder(cache, monkeypatch):
    expected = cache().result
    _forbid_writing(monkeypatch)
    assert cache() == Used(expected, 0, [])
    cache.row.stale(monkeypatch)
    used = cache()
    assert used.result == expected
    assert used.computed == 1
    assert len(used.lines) == 1


def test_a_folder_that_cannot_be_made(cache, tmp_path, monkeypatch):
    expected = cache().result
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    used = cache()
    assert used.result == expected
    assert used.computed == 1
    assert len(used.lines) == 1


def test_no_folder(cache, monkeypatch):
    expected = cache().result
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    used = cache()
    assert used.result == expected
    assert used.computed == 1
    assert len(used.lines) <= 1


def test_what_a_kill_left_is_removed_after_a_day(cache, tmp_path):
    cache()
    path = _file(tmp_path)
    old, new = path.with_name("old.tmp"), path.with_name("new.tmp")
    for each in (old, new):
        each.write_bytes(b"half")
    day = 24 * 3600
    os.utime(old, (time.time() - day - 60,) * 2)
    path.unlink()
    cache()
    assert path.exists()
    assert new.exists()
    assert not old.exists()


def test_every_user_of_the_folder_has_a_row():
    root = pathlib.Path(tfl_research.__file__).parent
    users = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if any(
            call in path.read_text(encoding="utf-8")
            for call in ("user_paths.cache()", "user_cache.")
        )
    }
    tested = {row.module for row in CACHES.values()} | set(_ELSEWHERE)
    assert users - {"storage/files/user_cache.py"} == tested
    tests = pathlib.Path(__file__).parents[1]
    assert all((tests / path).exists() for path in _ELSEWHERE.values())


@pytest.fixture
def of_another_user(monkeypatch):
    """Makes a file be another user's."""

    def change(path: pathlib.Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, 65534, 65534)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)

    return change


@pytest.mark.parametrize("linked", [False, True])
def test_a_file_of_another_user(cache, linked, of_another_user, tmp_path):
    expected = cache().result
    path = _file(tmp_path)
    if linked:
        path.rename(tmp_path / "file")
        path.symlink_to(tmp_path / "file")
    of_another_user(path)
    used = cache()
    assert used.result == expected
    assert used.computed == 1
    assert [line for line in used.lines if "it belongs to another user" in line]
    assert len(used.lines) == 1


def test_choices_of_another_user_stay(of_another_user, tmp_path, monkeypatch):
    """The file holds all choices of its owner."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    key = choice_cache.key("work", [(3,)])
    choice_cache.remember(key, ("folded", "xla", "theirs"))
    path = _file(tmp_path)
    before = path.read_bytes()
    of_another_user(path)
    choice_cache.remember(key, ("folded", "graph", "ours"))
    assert path.read_bytes() == before
