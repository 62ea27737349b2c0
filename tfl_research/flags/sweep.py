"""Many runs of experiments in one process: a grid of command lines, resumable.

Every point is a run in a folder of its own, exactly as its command line would make
it, so that a point can be looked at, resumed or repeated alone. Compiled programs and
imports are shared.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional, TextIO

from tfl_research.errors import RunInterrupted, UserError
from tfl_research.flags import app, rehearsal
from tfl_research.flags.declare import FlagError, FlagGroup
from tfl_research.storage import atomic


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A binary of experiments/, as a module has it.

    Attributes:
      name: of the module.
      main: runs once its flags are parsed.
      groups: its flag groups.
      defaults: `{flag: default}` that differ from the groups'.
    """

    name: str
    main: Callable[[], None]
    groups: Sequence[type[FlagGroup]]
    defaults: Mapping[str, Any]

    @classmethod
    def of(cls, module: Any) -> Experiment:
        """The experiment that a module of experiments/ defines."""
        return cls(module.__name__, module.main, module.GROUPS, module.DEFAULTS)


@dataclasses.dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
      name: of its folder; unique in the sweep.
      experiment: what runs.
      arguments: its command line, without --output_dir.
      labels: what the point is in the grid, columns of results.csv.
    """

    name: str
    experiment: Experiment
    arguments: tuple[str, ...]
    labels: Mapping[str, Any]


def passed_on(groups: Sequence[type[FlagGroup]], without: Sequence[str]) -> list[str]:
    """The flags of some groups that were given, as arguments of a command line.

    Args:
      groups: whose flags are passed on.
      without: names of flags that are not.

    Raises:
      FlagError: a run seed, which would give private runs of the sweep the same noise.
    """
    arguments = []
    names = {
        group.PREFIX + field.name
        for group in groups
        for field in dataclasses.fields(group)
    }
    if "run_seed" in names and app.given("run_seed") is not None:
        raise FlagError(
            "--run_seed: runs that share it have the same noise, of which the "
            "difference of two models is free; leave it out, and each run draws its own"
        )
    for name in sorted(names - set(without)):
        given = app.given(name)
        if given is None:
            continue
        values = given if isinstance(given, list) else [given]
        arguments += [f"--{name}={_text(value)}" for value in values]
    return arguments


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Sweep:
    """The folder of a sweep: `points/NAME`, `sweep.json` and `results.csv`."""

    def __init__(self, folder: pathlib.Path, points: Sequence[Point]):
        """A new sweep, or this one to resume it; writes nothing yet.

        Raises:
          UserError: two points of one name, another sweep's folder, or one that
            cannot be read.
        """
        names = [point.name for point in points]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"the sweep has point {twice} twice; give each value once")
        self.folder = folder
        self.points = tuple(points)
        self.results_path = folder / "results.csv"
        self._record_path = folder / "sweep.json"
        held = self._held()
        for point in self.points:
            now = [point.experiment.name, *point.arguments]
            if held.get(point.name, now) != now:
                raise UserError(
                    f"{self._record_path}: point {point.name} was begun as "
                    f"{' '.join(held[point.name])}, not {' '.join(now)}; repeat the "
                    "former flags or choose another --output_dir"
                )
        # Points that are left out this time keep what they were begun as.
        self._record = {
            **held,
            **{p.name: [p.experiment.name, *p.arguments] for p in points},
        }

    def _held(self) -> dict[str, Any]:
        """What the folder's sweep.json says; nothing where there is none."""
        try:
            if self._record_path.exists():
                return json.loads(self._record_path.read_text(encoding="utf-8"))
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
        except json.JSONDecodeError as error:
            raise UserError(
                f"{self._record_path} is damaged ({error}); restore it or choose "
                "another --output_dir"
            ) from error
        return {}

    def _begin(self) -> None:
        """Writes sweep.json, once no point is refused."""
        text = json.dumps(self._record, indent=1) + "\n"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic.write(self._record_path, text.encode())
        except OSError as error:
            raise UserError(
                f"cannot write to {self.folder} ({error.strerror}); choose another "
                "--output_dir"
            ) from error

    def path(self, point: Point) -> pathlib.Path:
        """A point's run folder."""
        return self.folder / "points" / point.name

    def summary(self, point: Point) -> Optional[dict[str, Any]]:
        """What a point that ended left in summary.json, or None."""
        path = self.path(point) / "summary.json"
        if not path.exists():
            return None
        return json.loads(path.read_text(encoding="utf-8"))

    def run(self, stream: Optional[TextIO] = None) -> list[dict[str, Any]]:
        """Runs the points that have not ended yet; returns the rows of results.csv.

        Their flags are all checked before anything is written.

        results.csv is written after every point: its labels, `epsilon` and the final
        and best metrics of summary.json.

        Raises:
          UserError: a point's flags are refused, or the folder cannot be written.
          RunInterrupted: a point was interrupted; the same command resumes there.
        """
        out = stream or sys.stdout
        for point in self.points:
            if self.summary(point) is None:
                self._rehearse(point)
        self._begin()
        rows: list[dict[str, Any]] = []
        began, ran = time.monotonic(), 0
        for number, point in enumerate(self.points, start=1):
            found = self.summary(point)
            state = "done before"
            if found is None:
                out.write(f"[{number}/{len(self.points)}] {point.name}\n")
                out.flush()
                self._run(point)
                ran += 1
                found = self.summary(point)
                each = (time.monotonic() - began) / ran
                left = each * sum(self.summary(p) is None for p in self.points)
                state = f"about {left / 60:.1f} min left"
            if found is None:
                raise UserError(f"point {point.name} left no summary.json")
            row = {**point.labels, **_cells(found)}
            rows.append(row)
            self._write(rows)
            out.write(
                f"[{number}/{len(self.points)}] {point.name}: {row.get('metric')} "
                f"{_shown(row.get('final_value'))}, {row['stop_reason']} after round "
                f"{row['rounds']} ({state})\n"
            )
            out.flush()
        return rows

    def _rehearse(self, point: Point) -> None:
        """Raises UserError where a point's flags are refused."""

        def main() -> None:
            with rehearsal.rehearsal():
                point.experiment.main()

        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = self._execute(point, main)
        if code == app.INTERRUPTED:
            raise RunInterrupted()
        if code != 0:
            *above, last = said.getvalue().splitlines() or ["it ended without a word"]
            sys.stderr.writelines(f"{line}\n" for line in above)
            why = last[len("error: ") :] if last.startswith("error: ") else last
            raise UserError(f"point {point.name} of the sweep is refused: {why}")

    def _execute(self, point: Point, main: Callable[[], None]) -> int:
        return app.execute(
            main,
            point.experiment.groups,
            "",
            [
                point.experiment.name,
                "--noprogress_bar",
                "--notensorboard",
                *point.arguments,
                f"--output_dir={self.path(point)}",
            ],
            defaults=dict(point.experiment.defaults),
        )

    def _run(self, point: Point) -> None:
        code = self._execute(point, point.experiment.main)
        if code == app.INTERRUPTED:
            raise RunInterrupted()
        # A run that diverged ends with an error too, but it has ended.
        if code != 0 and self.summary(point) is None:
            raise UserError(f"point {point.name} of the sweep is refused, see above")

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        atomic.write(self.results_path, text.getvalue().encode())


def _cells(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of results.csv in a summary.json."""
    final, best = summary["final"], summary["best"]
    cells = {"stop_reason": summary["stop_reason"], "rounds": final["round"]}
    cells.update((name, value) for name, value in final.items() if name != "round")
    if best is not None:
        metric = best["selected_by"]
        cells.update(metric=metric, final_value=final.get(metric))
        cells.update(best_value=best["value"], best_round=best["round"])
    return cells


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
