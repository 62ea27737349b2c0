"""Prints a sweep's progress, and writes its table of results."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional, TextIO

from tfl_research.errors import UserError
from tfl_research.experiment.sweeps.point import Point

Rows = Sequence[Mapping[str, Any]]
_SHOWN_LEFT_OUT = 5


class Told:
    """Prints the lines and writes the table of a running sweep.

    Args:
      points: the points of the sweep.
      summary: returns the summary of a point that has ended, otherwise None.
      write: writes the table.
      out: the stream for the lines.
      left: numbers of the points that still have to run.
    """

    def __init__(
        self,
        points: Sequence[Point],
        summary: Callable[[Point], Optional[dict[str, Any]]],
        write: Callable[[Rows], None],
        out: TextIO,
        left: Sequence[int],
    ):
        self._points, self._summary, self._write = points, summary, write
        self._out = out
        self._rows: dict[int, dict[str, Any]] = {}
        self._left, self._began, self._ran = set(left), time.monotonic(), 0

    def begin(self, left_out: Sequence[str] = ()) -> None:
        """Prints which points have ended before.

        Args:
          left_out: names of points of earlier starts that this start does not have.
        """
        if left_out:
            more = ", ..." * (len(left_out) > _SHOWN_LEFT_OUT)
            self._say(
                f"results.csv leaves out {len(left_out)} points of an earlier start: "
                f"{', '.join(left_out[:_SHOWN_LEFT_OUT])}{more}; their folders stay, "
                "and a start with their values lists them again"
            )
        for index in range(len(self._points)):
            if index not in self._left:
                self._add(index, "done before")

    def began(self, index: int) -> None:
        """Prints that a point begins."""
        self._say(self._name(index))

    def said(self, index: int, line: str) -> None:
        """Prints the line of a point that runs beside other points."""
        self._say(f"{self._points[index].name}: {line}")

    def ended(self, index: int) -> None:
        """Prints that a point has ended, and writes the table.

        Raises:
          UserError: the point left no summary.
        """
        self._left.discard(index)
        self._ran += 1
        each = (time.monotonic() - self._began) / self._ran
        minutes = each * len(self._left) / 60
        self._add(index, f"about {minutes:.1f} min left")

    def end(self, points_folder: pathlib.Path) -> None:
        """Prints what ε does not cover: several points together, and other points."""
        exact = [p.name for p in self._points if p.experiment.privacy is None]
        if 0 < len(exact) < len(self._points):
            names = ", ".join(exact[:_SHOWN_LEFT_OUT])
            more = len(exact) - _SHOWN_LEFT_OUT
            self._say(
                "no ε covers what these points without privacy gave out: "
                f"{names}{f' and {more} more' if more > 0 else ''}"
            )
        alone = sum(_has_epsilon_alone(point) for point in self._points)
        if alone > 1:
            self._say(
                f"each ε covers its own point only: {alone} points are private, and "
                "choosing among them costs the ε of all together, which "
                f"scripts/privacy_ledger show {points_folder}/*/ledger.jsonl computes"
            )

    def rows(self) -> list[dict[str, Any]]:
        """Returns the rows of the points that have ended, in the points' order."""
        return [self._rows[index] for index in sorted(self._rows)]

    def _add(self, index: int, state: str) -> None:
        point = self._points[index]
        summary = self._summary(point)
        if summary is None:
            raise UserError(f"point {point.name} left no summary.json")
        row = {**point.labels, **cells(summary)}
        self._rows[index] = row
        self._write(self.rows())
        self._say(
            f"{self._name(index)}: {_measured(row)}, {row['stop_reason']} after round "
            f"{row['rounds']} ({state})"
        )

    def _name(self, index: int) -> str:
        return f"[{index + 1}/{len(self._points)}] {self._points[index].name}"

    def _say(self, line: str) -> None:
        self._out.write(f"{line}\n")
        self._out.flush()


def cells(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the cells of results.csv from a summary.json."""
    final, best = summary["final"], summary["best"]
    cells = {"stop_reason": summary["stop_reason"], "rounds": final["round"]}
    cells.update((name, value) for name, value in final.items() if name != "round")
    if "epsilon" in summary:
        # ε also covers the choice of the best model, which the last row does not have.
        cells["epsilon"] = summary["epsilon"]
    if "epsilon" in cells:
        # JSON has no infinity: summary.json holds "inf".
        cells["epsilon"] = float(cells["epsilon"])
    if best is not None:
        metric = best["selected_by"]
        cells.update(metric=metric, final_value=final.get(metric))
        cells.update(best_value=best["value"], best_round=best["round"])
    return cells


def _measured(row: Mapping[str, Any]) -> str:
    """Writes a metric of the final model; a private run may withhold every metric."""
    value = row.get("final_value")
    if value is None:
        return "no metric"
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{row['metric']} {shown}"


def _has_epsilon_alone(point: Point) -> bool:
    """Whether a point is private and shares no ledger with other points."""
    if point.experiment.privacy is None:
        return False
    flat = point.experiment.flat()
    return flat.get("ledger") is None and flat.get("record_ledgers") is None
