"""Whether a framework installs as its documentation says: in a new environment."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import tempfile
import time
from typing import Any

from benchmark.contender import last_error
from benchmark.peers import environments

from compare.frameworks import Framework

# Registries are not this project's to name.
_ADDRESS = re.compile(r"\bhttps?://\S+")
_IMPORT_SECONDS = 300
_LONGEST = 300


def reason(log: str) -> str:
    """The line of pip's or uv's output that says why an installation failed.

    Of pip's errors it is the first that names what is missing; the rest repeat it.
    """
    lines = [_ADDRESS.sub("…", line.strip()) for line in log.splitlines()]
    errors = [line for line in lines if line.lower().startswith(("error", "×"))]
    told = [line for line in errors if not line.startswith("ERROR: Ignored")]
    chosen = (told or errors or [line for line in lines if line] or ["no word"])[0]
    # Pip lists all versions that there are.
    chosen = re.sub(r" \(from versions: .*", "", chosen)
    return chosen if len(chosen) <= _LONGEST else f"{chosen[:_LONGEST]}…"


def _bytes(folder: pathlib.Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sum(path.lstat().st_size for path in files if not path.is_symlink())


def _executed(python: pathlib.Path, statement: str) -> str:
    """What Python said when the statement failed; empty where it works."""
    try:
        tried = subprocess.run(
            [str(python), "-Ic", statement],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_IMPORT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"'{statement}' took longer than {_IMPORT_SECONDS} s"
    if tried.returncode == 0:
        return ""
    return last_error(tried.stderr)


def tried(framework: Framework) -> dict[str, Any]:
    """Installs what the documentation names, and tries a statement.

    Returns:
      "command", "installs" (true or false) and "works" (the statement); "seconds"
      and "bytes" of an installation, or "error".
    """
    if not framework.documented:
        return {
            "command": "",
            "installs": False,
            "works": False,
            "error": "not on PyPI",
        }
    command = f"pip install {' '.join(framework.documented)}"
    found: dict[str, Any] = {"command": command, "installs": False, "works": False}
    folder = pathlib.Path(tempfile.mkdtemp())
    started = time.time()
    try:
        (folder / "env").mkdir()
        base = environments.python_for(str(framework.environment))
        environments.make(folder / "env", base, list(framework.documented))
        found["installs"] = True
        found["seconds"] = time.time() - started
        found["bytes"] = _bytes(folder / "env")
        error = _executed(folder / "env" / "bin" / "python", framework.statement)
        found["works"] = not error
        if error:
            found["error"] = error
    except environments.PeerUnavailable as unavailable:
        log = folder / "env" / "install.log"
        text = log.read_text(errors="replace") if log.exists() else str(unavailable)
        found["error"] = reason(text)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found
