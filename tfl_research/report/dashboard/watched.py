"""The runs in a folder and their progress; changed files are read again."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import time
from typing import Optional, Union

from tfl_research.report import run_results, words
from tfl_research.report.run_page import headline
from tfl_research.report.run_results import RunResults
from tfl_research.storage.files import user_paths
from tfl_research.storage.metrics import kept_rows

# Files of a run from which its page is made.
FILES = (
    "hparams.json",
    "metrics.csv",
    kept_rows.COPY,
    "summary.json",
    "clients.csv",
    "personal_clients.csv",
    "client_epsilon.csv",
    "privacy.txt",
    "audit.json",
    "columns.json",
)
_RUN = "hparams.json"
# Folders of a run or of a Python environment, which have no runs inside.
_SKIPPED = frozenset({"checkpoints", "export", "logdir", "node_modules"})
_DEEPEST = 6
# A run without a summary, and with files that are older than this, may have been
# stopped.
_QUIET_SECONDS = 600.0

# A file's time and size, or None; the signature of a run covers all its files.
Signature = tuple[Optional[tuple[int, int]], ...]


def signature_of(paths: list[pathlib.Path]) -> Signature:
    """Returns times and sizes of files, by which a change is noticed."""
    found: list[Optional[tuple[int, int]]] = []
    for path in paths:
        try:
            state = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((state.st_mtime_ns, state.st_size))
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class Status:
    """The progress of a run.

    Attributes:
      name: the path of the run's folder, relative to the watched folder.
      results: the run's files; None if a file is damaged.
      problem: says which file is damaged; empty if no file is damaged.
      changed: when the run's files last changed, in seconds since 1970.
    """

    name: str
    results: Optional[RunResults]
    problem: str
    changed: float

    @property
    def is_running(self) -> bool:
        """Whether the run seems to be running, by its files."""
        if self.results is None or self.results.has_ended:
            return False
        return time.time() - self.changed < _QUIET_SECONDS

    @property
    def state(self) -> str:
        """The state of the run in a few words."""
        if self.results is None:
            return "damaged"
        if self.results.has_ended:
            return self.results.end
        if self.is_running:
            return "running"
        quiet = words.duration(max(0.0, time.time() - self.changed))
        return f"cut off, or silent for {quiet}"

    @property
    def share(self) -> Optional[float]:
        """The completed share of the planned rounds; None if it is unknown."""
        if self.results is None or not self.results.planned:
            return None
        return min(1.0, self.results.completed / self.results.planned)

    @property
    def metric(self) -> tuple[str, str]:
        """The name and last value of the metric of the run's page; empty for none."""
        if self.results is None:
            return "", ""
        column = headline.headline_column(self.results)
        values = [] if column is None else self.results.values(column)
        if column is None or not values:
            return "", ""
        return words.column_name(column), words.number(values[-1])


class Watched:
    """The runs in a folder.

    Attributes:
      folder: the watched folder.
    """

    def __init__(self, folder: Union[str, os.PathLike[str]]):
        """Watches a folder.

        Raises:
          ValueError: the folder does not exist.
        """
        self.folder = user_paths.expanded(folder).resolve()
        if not self.folder.is_dir():
            raise ValueError(f"{folder} is not a folder; give the folder of your runs")
        self._kept: dict[str, tuple[Signature, Status]] = {}

    def paths(self) -> dict[str, pathlib.Path]:
        """Returns the run folders by name; the watched folder itself can be a run.

        Links are not followed, since they could lead out of the folder.
        """
        found = {}
        for place, folders, files in os.walk(self.folder, followlinks=False):
            path = pathlib.Path(place)
            name = path.relative_to(self.folder).as_posix()
            depth = 0 if name == "." else name.count("/") + 1
            folders[:] = sorted(
                one for one in folders if one not in _SKIPPED and one[:1] != "."
            )
            if depth >= _DEEPEST:
                folders.clear()
            if _RUN in files:
                found[name] = path
        return found

    def signature(self, path: pathlib.Path) -> Signature:
        """Returns the signature of a run's files."""
        return signature_of([path / name for name in FILES])

    def status(self, name: str, path: pathlib.Path) -> Status:
        """Returns the progress of a run; files are read again only after a change."""
        signature = self.signature(path)
        if name in self._kept and self._kept[name][0] == signature:
            return self._kept[name][1]
        changed = max((one[0] for one in signature if one is not None), default=0) / 1e9
        status = self._read(name, path, changed)
        self._kept[name] = signature, status
        return status

    def _read(self, name: str, path: pathlib.Path, changed: float) -> Status:
        try:
            results = run_results.read(path)
        except (ValueError, OSError) as error:
            return Status(name, None, str(error), changed)
        status = Status(name, results, "", changed)
        try:
            # The list shows these values; some damage is found only here.
            repr((status.state, status.share, status.metric, results.epsilon))
        except run_results.SIGNS_OF_DAMAGE as error:
            return Status(name, None, str(run_results.damaged(name, error)), changed)
        return status

    def statuses(self) -> list[Status]:
        """Returns the progress of all runs: first running runs, then the latest."""
        found = [self.status(name, path) for name, path in self.paths().items()]
        return sorted(found, key=lambda one: (not one.is_running, -one.changed))
