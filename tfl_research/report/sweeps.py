"""Tables and plots of sweeps, from the rows of results.csv."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Columns of results.csv: the metric that selects models, and its value at the end.
METRIC, VALUE = "metric", "final_value"


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows; NaN for a value that a private run withholds."""
    frame = pd.DataFrame(list(rows))
    frame[VALUE] = pd.to_numeric(frame[VALUE]) if VALUE in frame else math.nan
    return frame


def _metric(rows: Sequence[Mapping[str, Any]]) -> str:
    """The metric of the values: several, where private runs give out another."""
    names = dict.fromkeys(row[METRIC] for row in rows if row.get(METRIC))
    return " or ".join(names) or "no metric"


def _by_group(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> pd.DataFrame:
    """Median, least and greatest value and number of runs, in the rows' order."""
    frame = _frame(rows)
    groups = frame.groupby(list(keys), sort=False, dropna=False)[VALUE]
    return groups.agg(["median", "min", "max", "count"]).reset_index()


def table(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> str:
    """A Markdown table: the final value over repetitions, by `keys`.

    Args:
      rows: of results.csv, at least one.
      keys: columns whose values identify a line of the table.
    """
    groups = _by_group(rows, keys)
    head = [*keys, f"{_metric(rows)}, median", "least", "greatest", "runs"]
    lines = [" | ".join(head), "|".join("---" for _ in head)]
    for cells in groups.itertuples(index=False):
        shown = [f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells]
        lines.append(" | ".join(shown))
    return "\n".join(f"| {line} |" for line in lines)


def matrix(
    rows: Sequence[Mapping[str, Any]], *, down: str, across: str, column: str = VALUE
) -> str:
    """A Markdown table of medians over repetitions: a line for each value of `down`.

    Args:
      rows: of results.csv, at least one.
      down: column whose values are the lines.
      across: column whose values are the columns.
      column: column of the shown values, to three decimals; a dash for no value.
    """
    frame = pd.DataFrame(list(rows))
    grid = frame.pivot_table(
        column, index=down, columns=across, aggfunc="median", sort=False, dropna=False
    )
    lines = [[down, *map(str, grid.columns)], ["---"] * (1 + len(grid.columns))]
    for name, cells in zip(grid.index, grid.to_numpy(float)):
        shown = ["–" if pd.isna(cell) else f"{cell:.3f}" for cell in cells]
        lines.append([str(name), *shown])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _save(figure: Figure, path: pathlib.Path) -> None:
    FigureCanvasSVG(figure).print_svg(str(path), metadata={"Date": None})


def frontier(
    rows: Sequence[Mapping[str, Any]],
    path: pathlib.Path,
    *,
    x: tuple[str, str],
    lines: str,
    reference: str,
) -> None:
    """Draws the final value against a cost: a line for the median, bars for the range.

    Args:
      rows: of results.csv.
      path: of the SVG file.
      x: column and label of the cost, drawn on a logarithmic axis.
      lines: column whose values are the lines.
      reference: the value of `lines` whose runs have no cost: a horizontal line.
    """
    column, label = x
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    free = [row for row in rows if row[lines] == reference]
    for cells in _by_group(free, (lines,)).itertuples() if free else ():
        axes.axhline(cells.median, color="black", linestyle="--", label=reference)
        axes.axhspan(cells.min, cells.max, color="black", alpha=0.1)
    costly = [row for row in rows if row[lines] != reference]
    costs = _frame(costly).dropna(subset=[VALUE])
    for name in dict.fromkeys(costs[lines] if len(costs) else ()):
        of_line = costs[costs[lines] == name].sort_values("target_epsilon")
        grouped = of_line.groupby("target_epsilon")
        middle = grouped[VALUE].median()
        places = grouped[column].median()
        spread = [middle - grouped[VALUE].min(), grouped[VALUE].max() - middle]
        axes.errorbar(places, middle, spread, marker="o", capsize=3, label=name)
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel(_metric(rows))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    _save(figure, path)


def heatmaps(
    rows: Sequence[Mapping[str, Any]],
    path: pathlib.Path,
    *,
    across: str,
    down: str,
    panels: Sequence[tuple[str, str]],
) -> None:
    """Medians over repetitions as a grid of numbers, a panel for each quantity.

    Args:
      rows: of results.csv.
      path: of the SVG file.
      across: column whose values are the columns of a panel.
      down: column whose values are the rows of a panel.
      panels: (column, title) of each quantity; a quantity without values is left out.
    """
    frame = pd.DataFrame(list(rows))
    shown = [
        (column, title)
        for column, title in panels
        if column in frame and frame[column].notna().any()
    ]
    names = list(frame[down].unique())
    grids = [
        frame.pivot_table(
            column, index=down, columns=across, aggfunc="median", sort=False
        ).reindex(names)
        for column, _ in shown
    ]
    # Cells of all panels have the same size; a title needs the width of two cells.
    widths = [max(len(grid.columns), 2) for grid in grids]
    longest = max(len(str(name)) for name in names)
    figure = Figure(
        figsize=(1.3 + 0.08 * longest + 0.75 * sum(widths), 1.5 + 0.36 * len(names)),
        layout="constrained",
    )
    panel_axes = figure.subplots(
        1, len(shown), squeeze=False, width_ratios=widths, sharey=True
    )[0]
    for axes, grid, (_, title) in zip(panel_axes, grids, shown):
        image = axes.imshow(grid.to_numpy(float), vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(
            range(len(grid.columns)),
            [str(c) for c in grid.columns],
            rotation=40,
            ha="right",
            rotation_mode="anchor",
        )
        axes.set_yticks(range(len(names)), [str(name) for name in names])
        axes.tick_params(length=0)
        axes.set_title(title.replace("_", " "), fontsize="medium")
        for row, values in enumerate(grid.to_numpy(float)):
            for place, value in enumerate(values):
                if pd.isna(value):
                    continue
                colour = "black" if value > 0.6 else "white"
                text = f"{value:.2f}"
                axes.text(place, row, text, ha="center", va="center", color=colour)
    figure.colorbar(image, ax=list(panel_axes))
    _save(figure, path)
