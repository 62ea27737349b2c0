"""Flags of the runtime: what executes a round, and how."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Optional, TypeVar

from tfl_research.errors import UserError
from tfl_research.flags import declare, lists
from tfl_research.flags.declare import FlagGroup
from tfl_research.storage import atomic

if TYPE_CHECKING:
    import tensorflow_federated as tff

    from tfl_research.runtime import Engine

Value = TypeVar("Value")
_FILE = "runtime.json"
_EXECUTIONS = (
    "auto",
    "folded_xla",
    "folded_graph",
    "vectorised_xla",
    "vectorised_graph",
)


@dataclasses.dataclass(frozen=True)
class RuntimeFlags(FlagGroup):
    """Which engine runs the rounds; all give the same results to float rounding."""

    TITLE: ClassVar[str] = "Runtime"

    runtime: str = declare.choice(
        "in_process",
        "What executes a round. in_process: compiled, in this process. tff: TFF's C++ "
        "runtime on this machine, slower and the reference. remote: the TFF workers of "
        "--workers, each of which computes a part of the cohort.",
        ("in_process", "tff", "remote"),
    )
    workers: Optional[str] = declare.text(
        None,
        "HOST:PORT of each worker of --runtime=remote, with commas between; "
        "scripts/worker starts one. They get clients' data and the noise's seed, in "
        "plain text. A run may be resumed with others.",
    )
    client_execution: str = declare.choice(
        "auto",
        "How in_process runs the clients of a chunk: one after another (folded) or all "
        "at once (vectorised), compiled by XLA or in TensorFlow's executor (graph). "
        "auto measures before the first round and keeps to the choice on resuming.",
        _EXECUTIONS,
    )
    chunk_clients: Optional[int] = declare.integer(
        None,
        "Clients of a chunk in in_process; by default bounded by 32 MiB.",
        minimum=1,
    )

    def check(self) -> None:
        """See `FlagGroup.check`."""
        if self.runtime != "in_process":
            for name, default in (
                ("client_execution", "auto"),
                ("chunk_clients", None),
            ):
                if getattr(self, name) != default:
                    raise self.refused(name, "is for --runtime=in_process only")
        if self.runtime == "remote":
            if self.workers is None:
                raise self.refused(
                    "runtime",
                    "needs --workers=HOST:PORT,..., see scripts/worker",
                )
            self.addresses()
        elif self.workers is not None:
            raise self.refused("workers", "is for --runtime=remote only")

    def addresses(self) -> list[str]:
        """The workers' addresses.

        Raises:
          FlagError: one that is not HOST:PORT, or is given twice.
        """
        return lists.values(self, "workers", _address)

    def engine(
        self, process: tff.templates.IterativeProcess, folder: pathlib.Path
    ) -> Engine:
        """An engine for the process. Imports TensorFlow.

        The choice of execution and the number of parts or chunks are kept in the run's
        folder before the first round uses them: with others, a resumed run would round
        differently.

        Raises:
          UserError: the remembered choice cannot be read, or the runtime cannot
            execute the process.
        """
        from tfl_research import runtime

        try:
            if self.runtime == "tff":
                return runtime.tff_local(process)
            if self.runtime == "remote":
                return self._remote(process, folder / _FILE)
            return self._in_process(process, folder / _FILE)
        except runtime.UnsupportedProcess as error:
            raise UserError(f"--runtime={self.runtime}: {error}") from error

    def _remote(self, process: tff.templates.IterativeProcess, path: Any) -> Engine:
        from tfl_research import runtime

        engine = runtime.remote(
            process,
            self.addresses(),
            parts=_remembered(path, _parts),
            on_change=_warn,
        )
        _remember(path, {"parts": engine.parts})
        return engine

    def _in_process(self, process: tff.templates.IterativeProcess, path: Any) -> Engine:
        from tfl_research import runtime

        mode, parallel = _remembered(path, _mode) or (None, None)
        if self.client_execution != "auto":
            mode = runtime.Mode(*self.client_execution.split("_"))

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
            chunk_size=self.chunk_clients,
            parallel=parallel,
            on_choice=remember,
        )
        if mode is not None and parallel is None:
            remember(mode, "--client_execution")
        return engine


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError("must be HOST:PORT with a port from 1 to 65535")
    return text


def _warn(text: str) -> None:
    sys.stderr.write(f"warning: {text}\n")


def _mode(record: dict[str, Any]) -> tuple[Any, int]:
    from tfl_research import runtime

    return runtime.Mode(record["clients"], record["compiler"]), record["parallel"]


def _parts(record: dict[str, Any]) -> int:
    return int(record["parts"])


def _remember(path: pathlib.Path, record: dict[str, Any]) -> None:
    atomic.write(path, (json.dumps(record, indent=1) + "\n").encode())


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
