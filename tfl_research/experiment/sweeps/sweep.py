"""Sweeps: many experiments that are checked first, run and resumed together.

Every point is a run in its own folder. The folder is the same as if the experiment ran
alone, so a point can be looked at, resumed or repeated. Points run one after another,
or several at a time in processes of their own. Points of a process share compiled
programs, imports and the toolkit's own data.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Optional, TextIO, Union

from tfl_research.errors import SettingError, TrainingDivergedError, UserError
from tfl_research.experiment.sweeps import parallel as processes
from tfl_research.experiment.sweeps.point import Point, by_own_code, refused
from tfl_research.experiment.sweeps.told import Told
from tfl_research.storage.files import atomic, json_file, user_paths
from tfl_research.tasks import shared

_FORMAT = 2


class Sweep:
    """A sweep in a folder with `points/NAME`, `sweep.json` and `results.csv`.

    Attributes:
      folder: the folder of the sweep.
      points: the points, in the order in which they run.
      results_path: the path of the table of results.

    Example:
      >>> base = tfl.Experiment("heart", training=tfl.Training(rounds=2, print_every=5))
      >>> points = [
      ...     tfl.Point(f"seed-{seed}", base.with_settings(seed=seed), {"seed": seed})
      ...     for seed in (1, 2)
      ... ]
      >>> rows = tfl.Sweep("results/seeds", points).run()
      [1/2] seed-1
      untrained  eval loss 0.6931 ...
      [2/2] seed-2: eval_auc 0.8..., rounds after round 2 (about 0.0 min left)
      >>> [(row["seed"], row["rounds"], row["epsilon"]) for row in rows]
      [(1, 2, inf), (2, 2, inf)]
    """

    def __init__(self, folder: Union[str, pathlib.Path], points: Sequence[Point]):
        """Prepares a new sweep, or the resumption of this sweep; writes nothing yet.

        Raises:
          UserError: an object is no `Point`, two points have the same name, or the
            folder belongs to another sweep or cannot be read.
        """
        for point in points:
            if not isinstance(point, Point):
                raise UserError(
                    f"a sweep has points, got {type(point).__name__}; give "
                    "Point(name, experiment, labels)"
                )
        names = [point.name for point in points]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"the sweep has point {twice} twice; give each value once")
        self.folder = user_paths.expanded(folder)
        self.points = tuple(points)
        self.results_path = self.folder / "results.csv"
        self._record_path = self.folder / "sweep.json"
        begun = self._begun()
        for point in self.points:
            now = point.settings()
            self._check_same(point.name, begun.get(point.name, now), now)
        # Points that are left out this time keep the settings of their first start.
        self._record = {**begun, **{p.name: p.settings() for p in points}}

    def _check_same(
        self, name: str, before: Mapping[str, Any], now: Mapping[str, Any]
    ) -> None:
        for setting in dict.fromkeys([*before, *now]):
            there, here = before.get(setting), now.get(setting)
            if there != here:
                raise UserError(
                    f"{self._record_path}: point {name} was begun with {setting} = "
                    f"{there}, not {here}; repeat the former settings or choose "
                    "another --output_dir"
                )

    def _begun(self) -> dict[str, Any]:
        """Reads the points in the folder's sweep.json; none if there is no file."""
        try:
            if self._record_path.exists():
                return self._points_of(json_file.read(self._record_path))
            if self.folder.exists() and any(self.folder.iterdir()):
                raise UserError(
                    f"{self.folder} holds other files and no sweep.json; choose an "
                    "empty or new --output_dir"
                )
        except OSError as error:
            raise UserError(
                f"cannot read {self.folder} ({error.strerror}); choose another "
                "--output_dir"
            ) from error
        except UserError:
            raise
        except ValueError as error:
            raise UserError(
                f"{self._record_path} is damaged ({error}); restore it or choose "
                "another --output_dir"
            ) from error
        return {}

    def _points_of(self, record: Any) -> dict[str, Any]:
        points: Any = record.get("points") if isinstance(record, dict) else None
        if _is_of_mappings(points) and record.get("format") == _FORMAT:
            return dict(points)
        if isinstance(record, dict) and all(
            isinstance(v, list) for v in record.values()
        ):
            raise UserError(
                f"{self._record_path} is of an earlier version, which recorded command "
                "lines; finish that sweep with that version, or choose another "
                "--output_dir"
            )
        raise UserError(
            f"{self._record_path} is not the record of a sweep that this version can "
            "read; restore it or choose another --output_dir"
        )

    def _begin(self) -> None:
        """Writes sweep.json; call it after all points were accepted."""
        record = {"format": _FORMAT, "points": self._record}
        text = json.dumps(record, indent=1) + "\n"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic.write(self._record_path, text.encode())
        except OSError as error:
            raise UserError(
                f"cannot write to {self.folder} ({error.strerror}); choose another "
                "--output_dir"
            ) from error

    def path(self, point: Point) -> pathlib.Path:
        """Returns a point's run folder."""
        return self.folder / "points" / point.name

    def summary(self, point: Point) -> Optional[dict[str, Any]]:
        """Reads the summary.json of a point that has ended; None if there is none."""
        path = self.path(point) / "summary.json"
        if not path.exists():
            return None
        try:
            summary: dict[str, Any] = json_file.read(path)
            if "stop_reason" not in summary:
                raise ValueError("it has no stop_reason")
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path} is no summary of a run ({error}); move the file away, and the "
                "same command writes it again"
            ) from error
        return summary

    def check(self) -> None:
        """Refuses points that cannot run; see `Experiment.check`.

        Raises:
          UserError: a point cannot run; the message names the point.
        """
        for point in self.points:
            if self.summary(point) is not None:
                continue
            try:
                point.experiment.check()
            except UserError as error:
                raise UserError(refused(point.name, error)) from error

    def run(
        self,
        stream: Optional[TextIO] = None,
        *,
        recharge: bool = False,
        parallel: int = 1,
    ) -> list[dict[str, Any]]:
        """Runs the points that have not ended yet; returns the rows of results.csv.

        All points are checked before any file is written. results.csv is written after
        every point, and has a row for each point: its labels, `stop_reason`, `rounds`,
        and the final model's metrics (`eval_loss`, `epsilon`, ...). `metric` is the
        metric that selects the best model, with `final_value`, `best_value` and
        `best_round`.

            table = pandas.DataFrame(sweep.run())
            table.groupby("client_learning_rate")["eval_accuracy"].mean()

        Args:
          stream: where progress is printed; standard output by default.
          recharge: see `Experiment.run`; for private points that have not ended.
          parallel: how many points run at a time, each in its own process. The
            processes must be forked before TensorFlow is imported. If memory is not
            enough, fewer points run at a time, and a line says so. The results are the
            same.

        Raises:
          UserError: a point is refused, the folder cannot be written, or the points
            cannot run at the same time.
          RunInterrupted: a point was interrupted; the same sweep resumes there.
        """
        out = stream or sys.stdout
        left = [i for i, p in enumerate(self.points) if self.summary(p) is None]
        count = 1
        self._check_parallel(parallel)
        if parallel > 1:
            count = processes.processes_for(parallel, len(left), out)
        told = Told(self.points, self.summary, self._write, out, left)
        with contextlib.ExitStack() as stack:
            # Entered before the process forks, so that each process has its own copy.
            stack.enter_context(shared.within_sweep())
            workers: Optional[processes.Workers] = None
            if count > 1:
                workers = stack.enter_context(
                    processes.Workers(
                        count,
                        [point.name for point in self.points],
                        lambda i, lines: self._run(self.points[i], lines, recharge),
                    )
                )
            self.check()
            self._begin()
            now = {point.name for point in self.points}
            told.begin([name for name in self._record if name not in now])
            if workers is not None:
                workers.run(left, told.began, told.said, told.ended)
            else:
                for index in left:
                    told.began(index)
                    self._run(self.points[index], stream, recharge)
                    told.ended(index)
        told.end(self.folder / "points")
        return told.rows()

    def _check_parallel(self, parallel: int) -> None:
        """Refuses points that cannot run at the same time in their own processes.

        Raises:
          SettingError: the points cannot; the message says the reason and the fix.
        """
        if isinstance(parallel, bool) or not isinstance(parallel, int) or parallel < 1:
            raise SettingError(
                f"--parallel={parallel}: must be a whole number of at least 1"
            )
        if parallel == 1:
            return
        for point in self.points:
            flat = point.experiment.flat()
            for name in ("ledger", "record_ledgers"):
                if flat.get(name) is not None:
                    raise SettingError(
                        f"--parallel={parallel}: the points share --{name}="
                        f"{flat[name]}, whose budget they take one after another; "
                        "leave --parallel out"
                    )
            if flat.get("runtime") in ("remote", "federation"):
                raise SettingError(
                    f"--parallel={parallel}: --runtime={flat['runtime']} serves one "
                    "run at a time; leave --parallel out"
                )
        processes.check_divisible()

    def _run(self, point: Point, stream: Optional[TextIO], recharge: bool) -> None:
        quiet = point.experiment.with_settings(progress_bar=False, tensorboard=False)
        try:
            again = recharge and quiet.privacy is not None
            with by_own_code(quiet):
                quiet.run(self.path(point), recharge=again, stream=stream)
        except TrainingDivergedError as error:
            # A run that diverged has also ended, and has written its summary.
            sys.stderr.write(f"point {point.name}: {error.for_command_line}\n")
        except UserError as error:
            raise UserError(
                f"point {point.name} of the sweep: {error.for_command_line}"
            ) from error

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        atomic.write(self.results_path, text.getvalue().encode())


def _is_of_mappings(points: Any) -> bool:
    return isinstance(points, dict) and all(
        isinstance(settings, dict) for settings in points.values()
    )
