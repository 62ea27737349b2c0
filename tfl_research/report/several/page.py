"""The page that compares several runs, or the points of a sweep."""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Optional, Union

from tfl_research.report import rendering, run_results, words
from tfl_research.report.run_page.settings_section import shown_value
from tfl_research.report.several import groups as grouping
from tfl_research.report.several.groups import Group, Run
from tfl_research.report.unavailable import ReportUnavailableError
from tfl_research.storage.files import atomic, user_paths

if TYPE_CHECKING:
    from tfl_research.report.pictures.curves import Picture

# Functions for a group's cost and for its text, the end of the title, the axis' label.
_Cost = tuple[Callable[[Group], float], str, str, Callable[[float], str]]
Folder = Union[str, os.PathLike[str]]
FILE = "comparison.html"


def _epsilon(group: Group) -> float:
    """Returns the largest ε of the group's runs; infinite without privacy."""
    return max(run.results.epsilon for run in group.runs)


def _mean(group: Group, name: str) -> float:
    found = [getattr(run, name) for run in group.runs]
    known = [value for value in found if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def _seconds(group: Group) -> float:
    return _mean(group, "seconds")


def _traffic(group: Group) -> float:
    return _mean(group, "traffic")


def _pictures(groups: Sequence[Group], columns: Sequence[str]) -> list[Picture]:
    try:
        from tfl_research.report.several import figures, grids
    except ImportError as error:
        raise ReportUnavailableError.of(error) from error
    found = [figures.overlaid(groups, c, f"o{i}") for i, c in enumerate(columns)]
    most = max((_traffic(g) for g in groups if math.isfinite(_traffic(g))), default=0.0)
    unit, scale = words.unit_of(most)
    costs: tuple[_Cost, ...] = (
        (_epsilon, "against ε", "ε of the run", words.bound),
        (_seconds, "against time", "seconds of the rounds", words.duration),
        (
            lambda group: _traffic(group) / scale,
            "against traffic",
            f"{unit} sent and received",
            lambda value: words.size(value * scale),
        ),
    )
    for number, (cost, title, label, written) in enumerate(costs if columns else ()):
        found.append(
            figures.against(
                groups,
                columns[0],
                cost,
                title=title,
                x_label=label,
                key=f"x{number}",
                written=written,
            )
        )
    if columns:
        found.insert(1, grids.draw(groups, columns[0], "g"))
    return [picture for picture in found if picture is not None]


def _results(groups: Sequence[Group], columns: Sequence[str]) -> dict[str, Any]:
    """Makes the table of results: rows of groups, cells (text, sort key)."""
    private = any(math.isfinite(_epsilon(group)) for group in groups)
    timed = any(math.isfinite(_seconds(group)) for group in groups)
    traffic = any(math.isfinite(_traffic(group)) for group in groups)
    head = ["setting", "runs", *(words.column_name(column) for column in columns)]
    head += [*(["ε, largest"] if private else []), "rounds"]
    head += [*(["time"] if timed else []), *(["traffic"] if traffic else []), "end"]
    rows = []
    for group in groups:
        rounds = [run.results.completed for run in group.runs]
        ends = {run.results.end for run in group.runs}
        cells: list[tuple[str, Any]] = [(str(len(group.runs)), len(group.runs))]
        cells += [(group.text(column), group.mean(column)) for column in columns]
        if private:
            epsilon = _epsilon(group)
            text = words.bound(epsilon) if math.isfinite(epsilon) else "not private"
            cells.append((text, epsilon))
        least, most = min(rounds), max(rounds)
        span = str(most) if least == most else f"{least} to {most}"
        cells.append((span, most))
        if timed:
            seconds = _seconds(group)
            known = math.isfinite(seconds)
            cells.append((words.duration(seconds) if known else words.NONE, seconds))
        if traffic:
            size = _traffic(group)
            text = words.size(size) if math.isfinite(size) else words.NONE
            cells.append((text, size))
        cells.append(("; ".join(sorted(ends)), "; ".join(sorted(ends))))
        rows.append({"label": group.label, "cells": cells})
    return {"head": head, "rows": rows}


def _settings(groups: Sequence[Group]) -> dict[str, Any]:
    """Makes the table of settings that differ: a row for each setting."""
    runs = [group.runs[0] for group in groups]
    rows = []
    for name in grouping.differing(runs):
        cells = [shown_value(run.settings.get(name)) for run in runs]
        rows.append((name, cells))
    return {"head": [group.label for group in groups], "rows": rows}


def _runs(groups: Sequence[Group], columns: Sequence[str], page: pathlib.Path) -> Any:
    """Returns each run's name, the address of its report if it exists, and values."""
    rows = []
    for group in groups:
        for run in group.runs:
            report = run.folder / "report.html"
            address = ""
            if report.exists():
                address = os.path.relpath(report.resolve(), page.resolve().parent)
            seed = run.results.hparams.get("seed")
            cells = [words.number(run.final(column)) for column in columns]
            rows.append((run.results.name, address, str(seed), group.label, cells))
    return {"head": [words.column_name(c) for c in columns], "rows": rows}


def html(runs: Sequence[Run], page: pathlib.Path, *, title: str) -> str:
    """Makes the page that compares runs.

    Args:
      runs: the runs, at least one.
      page: path of the page, for relative addresses of the runs' own reports.
      title: the title of the page.

    Raises:
      ValueError: a file of a run has unexpected content.
      ReportUnavailableError: matplotlib or jinja2 is not installed.
    """
    try:
        return _rendered(runs, page, title)
    except run_results.SIGNS_OF_DAMAGE as error:
        names = ", ".join(run.results.name for run in runs)
        raise run_results.damaged(f"one of {names}", error) from error


def _rendered(runs: Sequence[Run], page: pathlib.Path, title: str) -> str:
    groups = grouping.grouped(runs)
    columns = grouping.columns_shown(runs)
    tasks = dict.fromkeys(str(run.results.hparams.get("task")) for run in runs)
    notes = [grouping.seeds_text(groups)]
    if len(tasks) > 1:
        notes.append("The tasks differ, so the values of one metric do not compare.")
    return rendering.render(
        "several.html",
        title=title,
        facts=[
            words.counted(len(runs), "run"),
            f"{words.counted(len(groups), 'setting')}, seeds not counted",
            f"task {', '.join(tasks)}",
        ],
        seeds=" ".join(notes),
        pictures=_pictures(groups, columns),
        results=_results(groups, columns),
        settings=_settings(groups),
        runs=_runs(groups, columns, page),
    )


def compare(folders: Sequence[Folder], page: Folder) -> pathlib.Path:
    """Writes a page that compares runs; returns its path.

    Runs with settings that differ only in the seed are one group. The page shows
    nothing that a private run withholds, since it is made from released files.

    Args:
      folders: the folders of the runs, each once; the runs need not have ended.
      page: path of the file to write.

    Raises:
      ValueError: a folder has no run or a damaged file, or is given twice.
      ReportUnavailableError: matplotlib or jinja2 is not installed.
    """
    path = user_paths.expanded(page)
    content = html(grouping.read_runs(folders), path, title="Comparison of runs")
    atomic.write(path, content.encode())
    return path


def compare_sweep(folder: Folder, page: Optional[Folder] = None) -> pathlib.Path:
    """Writes a page about the points of a sweep that have begun; returns its path.

    Args:
      folder: the folder of the sweep.
      page: path of the file to write; by default comparison.html in the folder.

    Raises:
      ValueError: the folder has no sweep, no point or a damaged file.
      ReportUnavailableError: matplotlib or jinja2 is not installed.
    """
    path = user_paths.expanded(folder if page is None else page)
    path = path / FILE if page is None else path
    name = user_paths.expanded(folder).resolve().name
    content = html(grouping.read_sweep(folder), path, title=f"Sweep {name}")
    atomic.write(path, content.encode())
    return path
