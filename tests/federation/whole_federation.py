"""A federation whose coordinator, sites and relay are processes that can be killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from federations import Federation

import tfl_research as tfl
from tfl_research.experiment.at_sites import site as at_site

RELAY = "relay"
COORDINATOR = "coordinator"
RUNS: dict[str, dict[str, Any]] = {
    "records": {
        "privacy": tfl.RecordLevelPrivacy(record_noise_multiplier=1.0),
        "secure_sums": tfl.SecureSums(True),
    },
    "scaffold": {"algorithm": "scaffold", "training": {"selection_metric": "loss"}},
}
# What processes import before they are forked, since it takes seconds.
_IMPORTED = (
    "tensorflow_federated",
    "whole_federation",
    "tfl_research.experiment.running.building",
    "tfl_research.experiment.running.execution",
    "tfl_research.experiment.at_sites.site_run",
    "tfl_research.program.results.export",
)


def experiment(federation: Federation, name: str, rounds: int) -> tfl.Experiment:
    """An experiment of `RUNS` over the federation."""
    parts = dict(RUNS[name])
    training = {
        "rounds": rounds,
        "evaluate_every": 7,
        "checkpoint_every": 3,
        **parts.pop("training", {}),
    }
    return federation.experiment(training=training, execution="separate_graph", **parts)


def coordinate(federation: Federation, name: str, rounds: int, out: pathlib.Path):
    """What the coordinator's process does."""
    experiment(federation, name, rounds).run(out)


def serve(path: pathlib.Path) -> None:
    """What a site's process does."""
    at_site.serve_site(path)


def relay(federation: Federation) -> None:
    """What a relay does, without an engine: the sites are on this machine."""
    from tfl_research.federation import engines

    sys.path.insert(0, str(pathlib.Path(engines.__file__).parent / "relays"))
    import tfl_relay_coordinator
    import tfl_relay_frames as frames

    sockets = {
        name: str(federation.folder / "sites" / name / "site.sock")
        for name in federation.names
    }
    coordinator = tfl_relay_coordinator.Coordinator(
        str(federation.folder / "coordinator.sock"),
        lambda name, message: frames.ask(sockets[name], message),
    )
    coordinator.announce(set(federation.names))
    coordinator.serve(lambda: False)


def _logged(log: pathlib.Path, target: Callable[..., None], *arguments: Any) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    target(*arguments)


class Processes(contextlib.ExitStack):
    """The processes of a federation, by name.

    Args:
      federation: its files; its carrier is not "local".
      name: of the experiment in `RUNS`.
      rounds: of the run.
      out: folder of the run.
    """

    def __init__(
        self, federation: Federation, name: str, rounds: int, out: pathlib.Path
    ):
        super().__init__()
        sites = {
            site: (serve, federation.folder / "sites" / site / "site.toml")
            for site in federation.names
        }
        self._programs = {
            **sites,
            RELAY: (relay, federation),
            COORDINATOR: (coordinate, federation, name, rounds, out),
        }
        self._logs = federation.folder / "logs"
        self._logs.mkdir(exist_ok=True)
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(_IMPORTED))
        self.running: dict[str, Any] = {}
        for one in self._programs:
            self.start(one)
            self.callback(self.kill, one)

    @property
    def names(self) -> tuple[str, ...]:
        """The processes' names."""
        return tuple(self._programs)

    def start(self, name: str) -> None:
        """Starts a process."""
        process = self._context.Process(
            target=_logged, args=(self._logs / f"{name}.log", *self._programs[name])
        )
        process.start()
        self.running[name] = process

    def kill(self, name: str) -> None:
        """Kills a process by signal 9."""
        self.running[name].kill()
        self.running[name].join()

    def lines(self, name: str) -> list[str]:
        """What the processes of a name have printed."""
        path = self._logs / f"{name}.log"
        return path.read_text(errors="replace").splitlines() if path.exists() else []

    def completed(self, out: pathlib.Path) -> int:
        """The last round in metrics.csv."""
        path = out / "metrics.csv"
        try:
            return max(0, path.read_bytes().count(b"\n") - 1)
        except FileNotFoundError:
            return 0


def until_ended(processes: Processes, seconds: float) -> Iterator[None]:
    """Looks often whether the coordinator has ended by itself.

    Raises:
      AssertionError: it failed, or the time is over.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        code = processes.running[COORDINATOR].exitcode
        if code == 0:
            return
        if code is not None:
            last = "\n".join(processes.lines(COORDINATOR)[-30:])
            raise AssertionError(f"the coordinator ended with {code}:\n{last}")
        yield
        time.sleep(0.01)
    raise AssertionError("the run did not end in time")
