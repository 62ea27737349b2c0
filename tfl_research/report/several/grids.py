"""The grid of a sweep with two dimensions, as a heatmap of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np

from tfl_research.report import words
from tfl_research.report.pictures import style
from tfl_research.report.pictures.curves import Picture
from tfl_research.report.several import groups as grouping
from tfl_research.report.several.groups import Group

# With more rows or columns, numbers no longer fit into their cells.
_MOST = 10
# Cells brighter than this have dark numbers.
_BRIGHT = 0.55


def draw(groups: Sequence[Group], column: str, key: str) -> Picture | None:
    """Draws means over seeds by the two labels of a sweep that differ.

    Args:
      groups: the groups of a sweep.
      column: the column of the values.
      key: prefix of the ids.

    Returns:
      The picture. None unless exactly two labels differ, each with two to ten values,
      and at most one group has each pair of values.
    """
    names = grouping.dimensions(groups)
    if len(names) != 2:
        return None
    down, across = names
    labels = [group.runs[0].labels for group in groups]
    rows = list(dict.fromkeys(one.get(down, "") for one in labels))
    columns = list(dict.fromkeys(one.get(across, "") for one in labels))
    places = [
        (rows.index(one.get(down, "")), columns.index(one.get(across, "")))
        for one in labels
    ]
    values = np.full((len(rows), len(columns)), math.nan)
    for cell, group in zip(places, groups):
        values[cell] = group.mean(column)
    if max(values.shape) > _MOST or len(set(places)) < len(groups):
        return None
    if np.isnan(values).all():
        return None
    metric, whose = words.split_column(column)
    with style.applied():
        figure, axes = style.figure(5.2, 1.3 + 0.42 * len(rows), fitted=True)
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        if not words.lower_is_better(metric) and low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        scale = mpl.colors.Normalize(low, high)
        # This draws patches, not an image, since a page's policy forbids images.
        axes.pcolormesh(values, norm=scale, cmap=style.COLOUR_MAP, edgecolors="white")
        for (row, place), value in np.ndenumerate(values):
            if not math.isnan(value):
                colour = "black" if scale(value) > _BRIGHT else "white"
                text = f"{value:.3g}"
                axes.text(
                    place + 0.5, row + 0.5, text, ha="center", va="center", color=colour
                )
        axes.set_xticks(np.arange(len(columns)) + 0.5, [_tick(v) for v in columns])
        axes.set_yticks(np.arange(len(rows)) + 0.5, [_tick(v) for v in rows])
        axes.invert_yaxis()
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(across.replace("_", " "))
        axes.set_ylabel(down.replace("_", " "))
        svg = style.inline(figure, key)
    ends = []
    for flat in (int(np.nanargmin(values)), int(np.nanargmax(values))):
        row, place = divmod(flat, len(columns))
        text = words.number(float(values[row, place]))
        ends.append(f"{text} at {rows[row]}, {columns[place]}")
    caption = (
        f"{words.capital(words.metric_name(metric))}, {whose}, mean over seeds: from "
        f"{ends[0]} to {ends[1]}. Brighter cells have higher values."
    )
    title = f"{words.column_name(column)} by {down} and {across}".replace("_", " ")
    return Picture(key, words.capital(title), svg, caption)


def _tick(value: str) -> str:
    return words.number(value).replace("_", " ").replace("$", r"\$") or words.NONE
