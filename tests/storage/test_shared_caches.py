"""The user's cache between processes, locks and file systems."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap

from tfl_research.runtime.compiler import choice_cache
from tfl_research.storage.files import user_cache

PROGRAM = """
    import pathlib, sys, types, warnings

    import tfl_research

    # The files alone, without seconds of imports.
    sys.modules["tensorflow"] = types.SimpleNamespace(__version__="0")
    sys.modules["tfl_research.runtime"] = package = types.ModuleType("runtime")
    package.__path__ = [str(pathlib.Path(tfl_research.__file__).parent / "runtime")]
    warnings.simplefilter("error")
    from tfl_research.privacy.mechanisms.noise import factor_cache
    from tfl_research.runtime.compiler import choice_cache
    from tfl_research.storage.files import user_cache
    import numpy as np

    key = choice_cache.key("work", [(3,)])
    matrix = {"rounds": 40, "bands": 40, "of": "test"}
    rows = np.arange(1600.0).reshape(40, 40)
    print("ready", flush=True)
    sys.stdin.readline()
    for turn in range(150):
        content = user_cache.computed("test", {"a": 1}, lambda: b"x" * 100_000)
        assert content == b"x" * 100_000
        user_cache.path_of("test", {"a": 1}).unlink(missing_ok=True)
        assert choice_cache.recall(key) in (None, ("folded", "xla", "why"))
        choice_cache.remember(key, ("folded", "xla", "why"))
        own = choice_cache.key(f"work {sys.argv[1]} {turn}", [(3,)])
        choice_cache.remember(own, ("folded", "graph", "why"))
        stored = factor_cache.load(matrix, lambda _: None)
        assert stored is None or (stored == rows).all()
        factor_cache.store(matrix, rows)
    print("done")
"""


def test_two_processes_at_once(tmp_path):
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        output, errors = process.communicate()
        assert output == "done\n", errors
    assert not list(tmp_path.rglob("*.tmp"))
    choices = json.loads((tmp_path / "tfl_research/execution.json").read_text())
    # One that both store, and 150 of each: none is lost.
    assert len(choices) == 1 + 2 * 150


def test_a_stopped_process_that_holds_the_lock_stops_nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(user_cache, "_LOCK_SECONDS", 0.05)
    key = choice_cache.key("work", [(3,)])
    with user_cache.changing(tmp_path / "tfl_research/execution.json"):
        choice_cache.remember(key, ("folded", "xla", "why"))
    assert choice_cache.recall(key) == ("folded", "xla", "why")


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(user_cache.fcntl, "flock", refuse)
    key = choice_cache.key("work", [(3,)])
    choice_cache.remember(key, ("folded", "xla", "why"))
    assert choice_cache.recall(key) == ("folded", "xla", "why")


def test_others_cannot_write_the_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = os.umask(0)
    try:
        user_cache.computed("kind", {}, lambda: b"content")
    finally:
        os.umask(before)
    folders = [tmp_path / "cache", *(tmp_path / "cache").rglob("kind")]
    assert len(folders) == 2
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}
