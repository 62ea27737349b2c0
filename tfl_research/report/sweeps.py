"""Tables and plots of sweeps, from the rows of results.csv."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from tfl_research.errors import UserError
from tfl_research.report import words
from tfl_research.report.pictures import style

# Columns of results.csv: the metric that selects models, and its value at the end.
METRIC, VALUE = "metric", "final_value"


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Returns the rows as a table; NaN for a value that a private run withholds."""
    frame = pd.DataFrame(list(rows))
    frame[VALUE] = pd.to_numeric(frame[VALUE]) if VALUE in frame else math.nan
    return frame


def _metric(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the values' metric; several if private runs release another metric."""
    names = dict.fromkeys(row[METRIC] for row in rows if row.get(METRIC))
    return " or ".join(names) or "no metric"


def check_not_all_diverged(rows: Sequence[Mapping[str, Any]]) -> None:
    """Checks that not all runs of a sweep diverged before their first evaluation.

    Args:
      rows: the rows of results.csv.

    Raises:
      UserError: all runs diverged so early; the message says what to change.
    """
    lost = [r.get("stop_reason") == "diverged" and not r.get(METRIC) for r in rows]
    if lost and all(lost):
        raise UserError(
            "every run diverged before its first evaluation; lower the client or "
            "server learning rate, or clip gradients, in another --output_dir"
        )


def _named(rows: Sequence[Mapping[str, Any]]) -> str:
    """Describes the metrics of `_metric`."""
    return " or ".join(map(words.column_name, _metric(rows).split(" or ")))


def _by_group(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> pd.DataFrame:
    """Computes median, minimum, maximum and number of runs, in the rows' order."""
    frame = _frame(rows)
    groups = frame.groupby(list(keys), sort=False, dropna=False)[VALUE]
    return groups.agg(["median", "min", "max", "count"]).reset_index()


def table(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> str:
    """Makes a Markdown table of the final value over repetitions, by `keys`.

    Args:
      rows: the rows of results.csv, at least one.
      keys: columns that identify a line of the table.
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
    """Makes a Markdown table of medians over repetitions, by `down` and `across`.

    Args:
      rows: the rows of results.csv, at least one.
      down: column whose values are the lines.
      across: column of the runs whose values become the columns.
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
    style.save(figure, path)


def frontier(
    rows: Sequence[Mapping[str, Any]],
    path: pathlib.Path,
    *,
    x: tuple[str, str],
    lines: str,
    reference: str,
    title: str = "",
) -> None:
    """Draws the final value against a cost: a line for the median, bars for the range.

    The axis has a tick at each target ε.

    Args:
      rows: the rows of results.csv.
      path: the path of the file.
      x: column and label of the cost, drawn on a logarithmic axis.
      lines: column whose values are the lines.
      reference: the value of `lines` for runs without a cost: a horizontal line.
      title: the text above the picture, see `sweep_heading`.

    Raises:
      UserError: see `check_not_all_diverged`.
    """
    check_not_all_diverged(rows)
    column, label = x
    with style.applied():
        figure, axes = style.figure(6.4, 4.2, fitted=True)
        free = [row for row in rows if row[lines] == reference]
        for cells in _by_group(free, (lines,)).itertuples() if free else ():
            axes.axhline(cells.median, color=style.INK, ls="--", label=reference)
            axes.axhspan(cells.min, cells.max, color=style.INK, alpha=0.1, lw=0)
        costly = [row for row in rows if row[lines] != reference]
        costs = _frame(costly).dropna(subset=[VALUE])
        targets: list[float] = []
        for place, name in enumerate(dict.fromkeys(costs[lines] if len(costs) else ())):
            of_line = costs[costs[lines] == name].sort_values("target_epsilon")
            grouped = of_line.groupby("target_epsilon")
            middle = grouped[VALUE].median()
            places = grouped[column].median()
            spread = [middle - grouped[VALUE].min(), grouped[VALUE].max() - middle]
            how = style.curve(place)
            axes.errorbar(places, middle, spread, capsize=3, label=name, **how)
            targets += [float(target) for target in middle.index]
        axes.set_xscale("log")
        if targets:
            ticks = sorted(set(targets))
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(label)
        axes.set_ylabel(_named(rows))
        if axes.lines:
            axes.legend(fontsize="small")
        _titled(figure, title, "points: median over seeds; bars: their range")
        _save(figure, path)


def _titled(figure: Figure, title: str, how: str) -> None:
    """Writes a picture's heading, and below it how its values are summarised."""
    lines = [line for line in (title, how) if line]
    figure.suptitle("\n".join(lines), fontsize="small", x=0.02, ha="left")


def heatmaps(
    rows: Sequence[Mapping[str, Any]],
    path: pathlib.Path,
    *,
    across: str,
    down: str,
    panels: Sequence[tuple[str, str]],
    title: str = "",
) -> None:
    """Draws medians over repetitions as grids of numbers, a panel for each quantity.

    Args:
      rows: the rows of results.csv.
      path: the path of the file.
      across: column whose values are the columns of a panel.
      down: column whose values are the rows of a panel.
      panels: (column, title) of each quantity; a quantity without values is left out.
      title: the text above the picture, see `sweep_heading`.
    """
    frame = pd.DataFrame(list(rows))
    shown = [
        (column, name)
        for column, name in panels
        if column in frame and frame[column].notna().any()
    ]
    names = list(frame[down].unique())
    grids = [
        frame.pivot_table(
            column, index=down, columns=across, aggfunc="median", sort=False
        ).reindex(names)
        for column, _ in shown
    ]
    # Cells of all panels have the same size; a title needs the width of three cells.
    widths = [max(len(grid.columns), 3) for grid in grids]
    longest = max(len(str(name)) for name in names)
    size = (1.3 + 0.08 * longest + 0.75 * sum(widths), 2.0 + 0.36 * len(names))
    with style.applied():
        figure = Figure(figsize=size, layout="constrained")
        all_axes = figure.subplots(
            1, len(shown), squeeze=False, width_ratios=widths, sharey=True
        )[0]
        for axes, grid, (_, name) in zip(all_axes, grids, shown):
            image = _grid(axes, grid, names, words.column_name(name))
        figure.colorbar(image, ax=list(all_axes))
        _titled(figure, title, "median over seeds; bright is more")
        _save(figure, path)


def _grid(axes: Axes, grid: pd.DataFrame, names: Sequence[str], title: str) -> Any:
    """Draws one panel of numbers; returns the image for the bar of colours."""
    values = grid.to_numpy(float)
    axes.grid(visible=False)
    image = axes.imshow(values, vmin=0, vmax=1, aspect="auto")
    columns = [str(column) for column in grid.columns]
    axes.set_xticks(
        range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(range(len(names)), [str(name) for name in names])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title)
    for row, cells in enumerate(values):
        for place, value in enumerate(cells):
            if not pd.isna(value):
                colour = "black" if value > 0.6 else "white"
                text = f"{value:.2f}"
                axes.text(place, row, text, ha="center", va="center", color=colour)
    return image
