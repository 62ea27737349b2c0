"""What executes a round, and how."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Optional

from tfl_research import settings
from tfl_research.settings import Settings, comma_separated

_WORKER_SECONDS = 30.0
_EXECUTIONS = (
    "auto",
    "folded_xla",
    "folded_graph",
    "vectorised_xla",
    "vectorised_graph",
    "separate_xla",
    "separate_graph",
)


@dataclasses.dataclass(frozen=True)
class Runtime(Settings):
    """Which engine runs the rounds; all give the same results to float rounding.

    Example:
      >>> tfl.Experiment("heart", runtime=tfl.Runtime("tff")).check()
      >>> tfl.Runtime("remote", workers="node1:8000,node2:8000").addresses()
      ['node1:8000', 'node2:8000']
    """

    TITLE: ClassVar[str] = "Runtime"

    runtime: str = settings.choice(
        "in_process",
        "What executes a round. in_process: compiled, in this process. tff: TFF's C++ "
        "runtime on this machine, slower and the reference. remote: the TFF workers of "
        "--workers, each of which computes a part of the cohort. federation: the sites "
        "of --federation, which keep their data.",
        ("in_process", "tff", "remote", "federation"),
    )
    federation: Optional[str] = settings.text(
        None,
        "The federation.toml of --runtime=federation, which names the sites; "
        "scripts/federation provision writes one.",
    )
    workers: Optional[str] = settings.text(
        None,
        "HOST:PORT of each worker of --runtime=remote, with commas between; "
        "scripts/worker starts one. Workers get the model and clients' data in plain "
        "text; where TFF's own runtime executes the process, the noise's seed too. A "
        "run may be resumed with other workers.",
    )
    worker_data: Optional[str] = settings.text(
        None,
        "A folder that this machine and all workers reach by this path. Clients' "
        "examples are written there before the first round, as far as they are "
        "missing, and workers read them there. Without it each round sends the "
        "examples to the workers. The results are the same to the last bit.",
    )
    worker_cores: int = settings.integer(
        1,
        "How many parts of a cohort each worker of --runtime=remote computes at the "
        "same time; a compiled part uses one core. The cohort has so many parts for "
        "each worker, which a run keeps.",
        minimum=1,
    )
    worker_timeout: float = settings.real(
        _WORKER_SECONDS,
        "A TFF worker that does not answer for so many seconds is lost: it was "
        "stopped, or its machine is gone. A worker that computes answers meanwhile, "
        "and may compute as long as it likes.",
        above=0,
    )
    open_worker_port: bool = settings.switch(
        False,
        "Where the kernel allows no network namespaces, lets TFF's runtime on this "
        "machine listen on all interfaces, without authentication: whoever reaches "
        "its port can run programs as you. Elsewhere it changes nothing.",
    )
    client_execution: str = settings.choice(
        "auto",
        "How in_process and remote run the clients of a chunk: one after another "
        "(folded) or all at once (vectorised), compiled by XLA or in TensorFlow's "
        "executor (graph). separate (not for remote) executes and evaluates each "
        "client by itself, as the sites of a federation do, and gives the federation's "
        "results to the last bit. "
        "auto measures before the first round and keeps to the choice on resuming.",
        _EXECUTIONS,
    )
    chunk_clients: Optional[int] = settings.integer(
        None,
        "Clients in a chunk of in_process; by default as many as 32 MiB hold.",
        minimum=1,
    )

    def check(self) -> None:
        self._check_execution()
        if self.open_worker_port and self.runtime not in ("in_process", "tff"):
            raise self.refused(
                "open_worker_port", "is for --runtime=tff and in_process only"
            )
        if self._is_federation and self.worker_timeout != _WORKER_SECONDS:
            raise self.refused("worker_timeout", "is for workers of TFF only")
        if self._is_federation and self.federation is None:
            raise self.refused(
                "runtime", "needs --federation=federation.toml, see scripts/federation"
            )
        if self.federation is not None and not self._is_federation:
            raise self.refused("federation", "is for --runtime=federation only")
        if self.runtime == "remote":
            if self.workers is None:
                raise self.refused(
                    "runtime",
                    "needs --workers=HOST:PORT,..., see scripts/worker",
                )
            self.addresses()
            return
        for name, default in (
            ("workers", None),
            ("worker_data", None),
            ("worker_cores", 1),
        ):
            if getattr(self, name) != default:
                raise self.refused(name, "is for --runtime=remote only")

    def _check_execution(self) -> None:
        """Refuses what the runtime does not know of."""
        if self.runtime == "in_process":
            return
        if self.chunk_clients is not None:
            raise self.refused("chunk_clients", "is for --runtime=in_process only")
        execution = self.client_execution
        separate = execution.startswith("separate")
        if self.runtime == "remote":
            if separate:
                raise self.refused(
                    "client_execution", "is for --runtime=in_process and federation"
                )
        elif execution != "auto" and not (self._is_federation and separate):
            raise self.refused(
                "client_execution", "is for --runtime=in_process and remote only"
            )

    @property
    def _is_federation(self) -> bool:
        return self.runtime == "federation"

    @property
    def separately(self) -> bool:
        """Whether clients are executed and evaluated each by itself."""
        return self._is_federation or self.client_execution.startswith("separate")

    def addresses(self) -> list[str]:
        """The workers' addresses.

        Raises:
          SettingError: one that is not HOST:PORT, or is given twice.
        """
        return comma_separated(self, "workers", _address)


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError("must be HOST:PORT with a port from 1 to 65535")
    return text
