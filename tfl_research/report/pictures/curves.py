"""Curves over rounds as parts of a page: an SVG element, its numbers, and a caption."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tfl_research.report import words
from tfl_research.report.pictures import style
from tfl_research.report.pictures.panels import Panel, Series

# A curve with more points is thinned out, to keep the page small.
_MAX_POINTS = 400
# With fewer points, no line is drawn between the points.
_LEAST_OF_A_CURVE = 3
_MARKED = 30
# Width and height of a picture in inches.
_SIZE = 4.6, 2.6


class Key(NamedTuple):
    """A line of a legend.

    Attributes:
      id: the id of the curve's element.
      label: the label of the curve.
      colour: number of the colour.
      dashes: the dashes of the line in SVG's notation; empty for a solid line, None for
        no line.
      glyph: a character that looks like the curve's marker.
    """

    id: str
    label: str
    colour: int
    dashes: Optional[str]
    glyph: str


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture in a page.

    Attributes:
      key: prefix of the ids in the element.
      title: the title of the picture.
      svg: the element.
      caption: a text that describes the picture.
      legend: the legend of several curves; empty for one curve.
      data: JSON with the numbers, from which the page shows values under the pointer.
    """

    key: str
    title: str
    svg: str
    caption: str
    legend: tuple[Key, ...] = ()
    data: str = ""


# The shapes of matplotlib's markers as letters.
_GLYPHS = dict(zip(style.MARKERS, "●■▲◆▼✚✖"))
_DASHES = {"-": "", "--": "6 3", "-.": "7 3 2 3", ":": "2 3"}


def thinned(
    rounds: Sequence[float], values: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Selects at most 400 points, always with the last point."""
    step = max(1, math.ceil(len(rounds) / _MAX_POINTS))
    # The steps are counted from the end, so that the last round is always drawn.
    return list(rounds[::-1][::step][::-1]), list(values[::-1][::step][::-1])


def legend_of(
    key: str,
    labels: Sequence[str],
    *,
    places: Optional[Sequence[int]] = None,
    lines: bool = True,
) -> tuple[Key, ...]:
    """Makes the legend of curves; empty for one curve, unless `places` is given.

    Args:
      key: the key of the picture.
      labels: the labels of the curves.
      places: numbers of the curves' styles; by default 0, 1, ... in the order of the
        labels.
      lines: whether the curves have lines, not only points.
    """
    if places is None:
        if len(labels) < 2:
            return ()
        places = range(len(labels))
    entries = []
    for place, label in zip(places, labels):
        how = style.curve(place)
        dashes = _DASHES[how["linestyle"]] if lines else None
        colour = place % len(style.COLOURS)
        entries.append(
            Key(f"{key}-s{place}", label, colour, dashes, _GLYPHS[how["marker"]])
        )
    return tuple(entries)


def geometry(axes: Axes) -> dict[str, Any]:
    """Returns the place of the axes as shares of the picture's size, and the x range.

    The figure's layout must already be executed.
    """
    place = axes.get_position()
    return {
        "box": [
            round(v, 5) for v in (place.x0, 1 - place.y1, place.width, place.height)
        ],
        "xlim": [float(v) for v in axes.get_xlim()],
    }


def _plot(axes: Axes, one: Series, place: int) -> None:
    how = style.curve(place)
    rounds, values = thinned(one.rounds, one.values)
    if len(one.rounds) < _LEAST_OF_A_CURVE:
        how["linestyle"] = "none"
        how["markersize"] = 6
    elif len(one.rounds) > _MARKED:
        how["marker"] = None
    axes.plot(rounds, values, gid=f"s{place}", **how)


def _caption(panel: Panel) -> str:
    """Describes the last value of each curve; of few curves also the first value."""
    parts = []
    shown = functools.partial(words.of_picture, is_bound=panel.bound)
    for one in panel.series:
        text = f"{one.label} {shown(one.values[-1])}"
        few = len(panel.series) < 3 and panel.begins_untrained
        if few and one.rounds[0] == 0:
            text += f" (untrained {shown(one.values[0])})"
        parts.append(text)
    last = {one.rounds[-1] for one in panel.series}
    when = f"Round {last.pop():.0f}" if len(last) == 1 else "Last values"
    text = f"{when}: {', '.join(parts)}."
    return text + " The axis is logarithmic." if panel.is_logarithmic else text


def _drawn(
    panel: Panel, key: str, figure: Figure, axes: Axes
) -> tuple[str, dict[str, Any]]:
    """Draws the element of a panel; returns also the place of its axes."""
    for place, one in enumerate(panel.series):
        _plot(axes, one, place)
    if panel.limit is not None:
        value, label = panel.limit
        axes.axhline(value, color=style.INK, linestyle=(0, (4, 3)), linewidth=1)
        axes.annotate(
            label,
            (0, value),
            xycoords=("axes fraction", "data"),
            xytext=(4, 3),
            textcoords="offset points",
            fontsize="small",
        )
    axes.set_xlabel("round")
    last = max(one.rounds[-1] for one in panel.series)
    axes.set_xlim(-0.02 * last, 1.03 * last)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_ylim(panel.low, panel.high)
    return style.inline(figure, key), geometry(axes)


def draw(panel: Panel, key: str) -> Picture:
    """Draws a panel as a part of a page; `key` must be unique in the page."""
    with style.applied():
        if panel.is_logarithmic:
            figure, axes = style.figure(*_SIZE)
            axes.set_yscale("log")
            svg, where = _drawn(panel, key, figure, axes)
        else:
            with style.lent(*_SIZE) as (figure, axes):
                axes.yaxis.set_major_locator(MaxNLocator(5))
                svg, where = _drawn(panel, key, figure, axes)
    series = []
    shown = functools.partial(words.of_picture, is_bound=panel.bound)
    for one in panel.series:
        rounds, values = thinned(one.rounds, one.values)
        texts = [shown(value) for value in values]
        series.append({"label": one.label, "x": rounds, "y": texts})
    data = json.dumps({**where, "name": "round", "series": series}, ensure_ascii=False)
    labels = [one.label for one in panel.series]
    return Picture(key, panel.title, svg, _caption(panel), legend_of(key, labels), data)
