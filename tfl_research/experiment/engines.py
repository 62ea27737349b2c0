"""The engine of a run, and how it executes rounds: kept in the run's folder.

With another way of executing, a resumed run would round differently.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional, TypeVar

from tfl_research.errors import UserError
from tfl_research.experiment.configs import Runtime
from tfl_research.storage import atomic

if TYPE_CHECKING:
    import tensorflow_federated as tff

    from tfl_research.runtime import Engine

Value = TypeVar("Value")
_FILE = "runtime.json"


def build(
    settings: Runtime, process: tff.templates.IterativeProcess, folder: pathlib.Path
) -> Engine:
    """An engine for the process. Imports TensorFlow.

    The choice of execution and the number of parts or chunks are kept in the run's
    folder before the first round uses them.

    Raises:
      UserError: the remembered choice cannot be read, or the runtime cannot execute
        the process.
    """
    from tfl_research import runtime

    try:
        if settings.runtime == "tff":
            return runtime.tff_local(process)
        if settings.runtime == "remote":
            return _remote(settings, process, folder / _FILE)
        return _in_process(settings, process, folder / _FILE)
    except runtime.UnsupportedProcess as error:
        raise UserError(f"--runtime={settings.runtime}: {error}") from error


def _remote(
    settings: Runtime, process: tff.templates.IterativeProcess, path: pathlib.Path
) -> Engine:
    from tfl_research import runtime

    engine = runtime.remote(
        process,
        settings.addresses(),
        parts=_remembered(path, _parts),
        on_change=_warn,
    )
    _remember(path, {"parts": engine.parts})
    return engine


def _in_process(
    settings: Runtime, process: tff.templates.IterativeProcess, path: pathlib.Path
) -> Engine:
    from tfl_research import runtime

    mode, parallel = _remembered(path, _mode) or (None, None)
    if settings.client_execution != "auto":
        mode = runtime.Mode(*settings.client_execution.split("_"))

    def remember(chosen: Any, reason: str) -> None:
        _remember(
            path,
            {
                **dataclasses.asdict(chosen),
                "parallel": engine.parallel,
                "reason": reason,
            },
        )

    engine = runtime.in_process(
        process,
        mode=mode,
        chunk_size=settings.chunk_clients,
        parallel=parallel,
        on_choice=remember,
    )
    if mode is not None and parallel is None:
        remember(mode, "--client_execution")
    return engine


def _warn(text: str) -> None:
    sys.stderr.write(f"warning: {text}\n")


def _mode(record: dict[str, Any]) -> tuple[Any, int]:
    from tfl_research import runtime

    return runtime.Mode(record["clients"], record["compiler"]), record["parallel"]


def _parts(record: dict[str, Any]) -> int:
    return int(record["parts"])


def _remember(path: pathlib.Path, record: dict[str, Any]) -> None:
    # Its reason has measured times, which depend on who took part.
    content = (json.dumps(record, indent=1) + "\n").encode()
    atomic.write(path, content, mode=0o600)


def _remembered(
    path: pathlib.Path, read: Callable[[dict[str, Any]], Value]
) -> Optional[Value]:
    if not path.exists():
        return None
    try:
        return read(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} does not hold a choice of execution ({error}); start over in "
            "another --output_dir"
        ) from error
