"""A federation of four sites in this process, each with a CSV file of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

import tfl_research as tfl
from tfl_research.experiment.at_sites.site import SiteWork
from tfl_research.federation.site.site_file import SiteFile
from tfl_research.federation.site.site_server import SiteServer
from tfl_research.federation.wire import authentication

NAMES = ("north", "south", "east", "west")
SCHEMA = {
    "columns": {
        "a": {"minimum": -3, "maximum": 3, "outside": "clip"},
        "b": {"minimum": -3, "maximum": 3, "outside": "clip"},
        "c": {"categories": ["x", "y"]},
    },
    "label": {"classes": ["no", "yes"]},
}


@dataclasses.dataclass
class Federation:
    """Four sites and what a run needs to know of them.

    Attributes:
      folder: of the federation.
      lines: what the sites print.
      task: that the sites have.
      names: of the sites.
      servers: the running sites by name.
    """

    folder: pathlib.Path
    lines: list[str]
    task: str = "csv"
    names: tuple[str, ...] = NAMES
    servers: dict[str, SiteServer] = dataclasses.field(default_factory=dict)
    threads: dict[str, threading.Thread] = dataclasses.field(default_factory=dict)

    def site_file(self, name: str) -> SiteFile:
        return SiteFile.read(self.folder / "sites" / name / "site.toml")

    @property
    def state_folders(self) -> dict[str, pathlib.Path]:
        return {name: self.site_file(name).folder for name in self.names}

    def start(self, name: str, work: Any = None) -> None:
        """Starts a site, or starts it again: its memory is a new one."""
        site = self.site_file(name)
        server = SiteServer(site.socket, name, site.key, site.folder, self.lines.append)
        handler = work or SiteWork(site, self.lines.append)
        thread = threading.Thread(target=server.run, args=(handler,), daemon=True)
        thread.start()
        self.servers[name], self.threads[name] = server, thread

    def stop(self, name: str) -> None:
        server = self.servers.pop(name)
        server.stop()
        self.threads.pop(name).join(60)
        server.close()

    def policy(self, name: str, text: str) -> None:
        """Writes a site's policy, and starts the site again."""
        path = self.folder / "sites" / name / "site.toml"
        kept = path.read_text().partition("[policy]")[0]
        path.write_text(f"{kept}[policy]\n{text}\n")
        self.stop(name)
        self.start(name)

    def experiment(self, **parts: Any) -> tfl.Experiment:
        """An experiment over the sites."""
        training = {"rounds": 5, "evaluate_every": 2, **parts.pop("training", {})}
        runtime = tfl.Runtime(
            "federation",
            federation=str(self.folder / "federation.toml"),
            client_execution=parts.pop("execution", "auto"),
        )
        task = tfl.TaskChoice(
            self.task, data_dir=str(self.folder / "coordinator"), label_column="y"
        )
        parts.setdefault("cohorts", tfl.Cohorts("full"))
        return tfl.Experiment(
            task,
            runtime=runtime,
            training=tfl.Training(tensorboard=False, **training),
            **parts,
        )


def _table(generator: np.random.Generator, rows: int) -> pd.DataFrame:
    a, b = generator.normal(size=(2, rows))
    c = generator.choice(["x", "y"], rows)
    score = a + b + 0.5 * (c == "x") + 0.3 * generator.normal(size=rows)
    return pd.DataFrame({"a": a, "b": b, "c": c, "y": np.where(score > 0, "yes", "no")})


def written(
    folder: pathlib.Path,
    task: str = "csv",
    names: Sequence[str] = NAMES,
    carrier: str = "local",
    round_deadline: float = 60.0,
) -> Federation:
    """Makes the files of a federation."""
    generator = np.random.default_rng(0)
    folder.chmod(0o700)
    lines = ["[federation]", 'name = "hospitals"', f'carrier = "{carrier}"']
    lines += ["start_deadline = 300.0", f"round_deadline = {round_deadline}"]
    for part in ("all", "coordinator"):
        (folder / part).mkdir()
        (folder / part / "schema.json").write_text(json.dumps(SCHEMA))
    for part in ("keys", "sites"):
        (folder / part).mkdir(mode=0o700)
    for number, name in enumerate(names):
        site = folder / "sites" / name
        data = site / "data"
        data.mkdir(parents=True)
        site.chmod(0o700)
        table = _table(generator, 40 + 17 * number)
        table.to_csv(data / f"{name}.csv", index=False)
        table.to_csv(folder / "all" / f"{name}.csv", index=False)
        (data / "schema.json").write_text(json.dumps(SCHEMA))
        authentication.make_key(folder / "keys" / f"{name}.key")
        key = (folder / "keys" / f"{name}.key").read_bytes()
        (site / "site.key").write_bytes(key)
        (site / "site.key").chmod(0o600)
        (site / "site.toml").write_text(
            f'[site]\nname = "{name}"\n[data]\ntask = "{task}"\ndata_dir = "data"\n'
        )
        lines += ["[[site]]", f'name = "{name}"', f'key = "keys/{name}.key"']
        if carrier == "local":
            lines += [f'socket = "sites/{name}/site.sock"']
    (folder / "federation.toml").write_text("\n".join(lines) + "\n")
    return Federation(folder, [], task, tuple(names))


@contextlib.contextmanager
def running(
    folder: pathlib.Path, task: str = "csv", names: Sequence[str] = NAMES
) -> Iterator[Federation]:
    """Makes the files of a federation and starts its sites.

    Each site builds the process, so a run over two sites takes half of the time.
    """
    federation = written(folder, task, names)
    try:
        for name in federation.names:
            federation.start(name)
        yield federation
    finally:
        for name in list(federation.servers):
            federation.stop(name)
