"""Settings of the engine that executes rounds."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Optional

from tfl_research import settings
from tfl_research.settings import Settings, comma_separated

_WORKER_SECONDS = 30.0
# TensorFlow makes all threads before the first round, at more than a megabyte each.
_MOST_THREADS = 1024
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
    """The engine that runs the rounds; all engines agree up to float rounding.

    Example:
      >>> tfl.Experiment("heart", runtime=tfl.Runtime("tff")).check()
      >>> tfl.Runtime("remote", workers="node1:8000,node2:8000").addresses()
      ['node1:8000', 'node2:8000']
    """

    TITLE: ClassVar[str] = "Runtime"

    runtime: str = settings.choice(
        "in_process",
        "What executes a round. in_process: this process, compiled. tff: TFF's C++ "
        "runtime on this machine, which is slower and the reference. remote: the TFF "
        "workers of --workers, each of which computes a part of the cohort. "
        "federation: the sites of --federation, which keep their data.",
        ("in_process", "tff", "remote", "federation"),
    )
    federation: Optional[str] = settings.text(
        None,
        "The federation.toml of --runtime=federation, which names the sites; "
        "scripts/federation provision writes the file.",
    )
    workers: Optional[str] = settings.text(
        None,
        "HOST:PORT of each worker of --runtime=remote, separated by commas; "
        "scripts/worker starts a worker. Workers get the model, clients' data and the "
        "seeds from which clients draw noise in plain text; where TFF's own runtime "
        "executes the process, also the seed of the server's noise. A run can be "
        "resumed with other workers.",
    )
    worker_data: Optional[str] = settings.text(
        None,
        "A folder that this machine and all workers reach by this path. Clients' "
        "examples that are missing there are written before the first round, and "
        "workers read them. Without this flag each round sends the examples to the "
        "workers. The results are the same to the last bit.",
    )
    worker_cores: int = settings.integer(
        1,
        "How many parts of a cohort each worker of --runtime=remote computes at the "
        "same time; a compiled part uses one core. The cohort is divided into this "
        "many parts for each worker. A resumed run keeps the number of parts.",
        minimum=1,
    )
    worker_timeout: float = settings.real(
        _WORKER_SECONDS,
        "Seconds without an answer after which a TFF worker is lost: it was stopped, "
        "or its machine is gone. A worker also answers while it computes, and may "
        "compute as long as it needs.",
        above=0,
    )
    open_worker_port: bool = settings.switch(
        False,
        "Matters only where the kernel allows no network namespaces. There, lets "
        "TFF's runtime on this machine listen on all interfaces, without "
        "authentication: whoever reaches its port can run programs as you.",
    )
    client_execution: str = settings.choice(
        "auto",
        "How in_process and remote run the clients of a chunk: one after another "
        "(folded) or all at once (vectorised), compiled by XLA (xla) or in "
        "TensorFlow's executor (graph). separate (not for remote) executes and "
        "evaluates each client by itself, as the sites of a federation do, and gives "
        "the federation's results to the last bit. auto measures before the first "
        "round; a resumed run keeps the choice.",
        _EXECUTIONS,
    )
    chunk_clients: Optional[int] = settings.integer(
        None,
        "Clients in a chunk of in_process. By default as many as fit into 32 MiB.",
        minimum=1,
    )
    operation_threads: Optional[int] = settings.integer(
        None,
        "Threads that TensorFlow gives each operation of in_process, and of everything "
        "else in the process. When not given, a command line takes 1 if a round has at "
        "least as many clients as the machine has cores and the server adds up their "
        "updates, without a rule or noise: cores then compute clients at the same "
        "time. Otherwise, from Python, and with --client_execution=separate_*, "
        "TensorFlow takes one for each core. A resumed run keeps the number, because "
        "another number rounds sums differently.",
        minimum=1,
        maximum=_MOST_THREADS,
    )
    accelerator: str = settings.choice(
        "none",
        "gpu: the GPUs of this machine execute clients' work in in_process, and the "
        "CPU the server's; scripts/install_gpu installs what TensorFlow needs for it. "
        "none: the CPU executes all, and a GPU is left alone.",
        ("none", "gpu"),
    )

    def check(self) -> None:
        if self.accelerator != "none" and self.client_execution.startswith("separate"):
            raise self.refused(
                "accelerator",
                f"does not go with --client_execution={self.client_execution}: clients "
                "are executed as at sites, which use no GPU",
            )
        self._check_execution()
        if self.open_worker_port and self.runtime not in ("in_process", "tff"):
            raise self.refused(
                "open_worker_port",
                "goes with --runtime=tff and --runtime=in_process only; leave it out",
            )
        if self._is_federation and self.worker_timeout != _WORKER_SECONDS:
            raise self.refused(
                "worker_timeout", "goes with workers of TFF only; leave it out"
            )
        if self._is_federation and self.federation is None:
            raise self.refused(
                "runtime",
                "needs --federation=federation.toml; scripts/federation writes that "
                "file",
            )
        if self.federation is not None and not self._is_federation:
            raise self.refused(
                "federation", "goes with --runtime=federation only; leave it out"
            )
        if self.runtime == "remote":
            if self.workers is None:
                raise self.refused(
                    "runtime",
                    "needs --workers=HOST:PORT,...; scripts/worker starts a worker",
                )
            self.addresses()
            self._check_worker_data()
            return
        for name, default in (
            ("workers", None),
            ("worker_data", None),
            ("worker_cores", 1),
        ):
            if getattr(self, name) != default:
                raise self.refused(
                    name, "goes with --runtime=remote only; leave it out"
                )

    def _check_worker_data(self) -> None:
        """Refuses a URL or "~", which would become a folder in the current folder."""
        data = self.worker_data
        if data is not None and ("://" in data or data.startswith("~")):
            raise self.refused(
                "worker_data",
                "must be the path of a folder, as /shared/mnist; mount a store of "
                "another kind, and write your home folder out",
            )

    def _check_execution(self) -> None:
        """Refuses settings that do not apply to the runtime."""
        if self.runtime == "in_process":
            return
        only = "goes with --runtime=in_process only; leave it out"
        if self.accelerator != "none":
            raise self.refused("accelerator", only)
        execution = self.client_execution
        separate = execution.startswith("separate")
        if self.runtime == "remote":
            if separate:
                raise self.refused(
                    "client_execution",
                    "goes with --runtime=in_process and --runtime=federation only; "
                    "leave it out",
                )
        elif execution != "auto" and not (self._is_federation and separate):
            raise self.refused(
                "client_execution",
                "goes with --runtime=in_process and --runtime=remote only; leave it "
                "out",
            )
        for name in ("chunk_clients", "operation_threads"):
            if getattr(self, name) is not None:
                raise self.refused(name, only)

    @property
    def _is_federation(self) -> bool:
        return self.runtime == "federation"

    @property
    def separately(self) -> bool:
        """Whether each client is executed and evaluated separately."""
        return self._is_federation or self.client_execution.startswith("separate")

    def addresses(self) -> list[str]:
        """Returns the workers' addresses.

        Raises:
          SettingError: an address is not HOST:PORT, or is given twice.
        """
        return comma_separated(self, "workers", _address)


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError("must be HOST:PORT with a port from 1 to 65535")
    return text
