"""One style for all pictures: colours, line styles, and how pictures are written.

The colours are Okabe and Ito's, which colour-blind people can distinguish; a curve also
has a line style and a marker of its own. A picture in a page takes its colours from the
page's style sheet, so that it fits a light and a dark page.
"""

from __future__ import annotations

import io
import os
import pathlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cycler
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#b4508c",
    "#8a6d00",
    "#3a8fc7",
    "#6b6b6b",
)
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, MUTED, RULE = "#1c2733", "#55606c", "#d5dae0"
# The colours of heatmaps, which are readable in grey too.
COLOUR_MAP = "cividis"
# The endings of pictures' files, and metadata that removes the time from the file.
_DATED = {".svg": {"Date": None}, ".png": {}, ".pdf": {"CreationDate": None}}

_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    **{colour: f"var(--series-{i})" for i, colour in enumerate(COLOURS)},
}
_SETTINGS = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.prop_cycle": cycler.cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.facecolor": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.0,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "image.cmap": COLOUR_MAP,
}

# Returned figures by their size. Each thread has its own, since threads draw at once.
_waiting = threading.local()


def curve(place: int) -> Any:
    """Returns colour, line style and marker of the curve at a place in a picture."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": LINES[place % len(LINES)],
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 4,
        "linewidth": 1.8,
    }


@contextmanager
def applied() -> Iterator[None]:
    """Gives the style to figures that are made and drawn inside of the block."""
    with mpl.rc_context(_SETTINGS):
        yield


def figure(width: float, height: float, *, fitted: bool = False) -> tuple[Figure, Axes]:
    """Makes a figure of one panel; call this inside of `applied`.

    Args:
      width, height: the width and height of the figure, in inches.
      fitted: whether the margins fit the labels, which takes twice the time. Otherwise
        the margins fit numbers of up to five characters.
    """
    made = Figure(figsize=(width, height), layout="constrained" if fitted else None)
    if fitted:
        return made, made.add_subplot()
    left, low, right, high = 0.52 / width, 0.45 / height, 0.2 / width, 0.16 / height
    return made, made.add_axes((left, low, 1 - left - right, 1 - low - high))


@contextmanager
def lent(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """Lends an empty `figure` of one panel, which a later picture uses again.

    Making axes and ticks takes half of the time of a picture, and a page has several
    pictures of one size. A picture must have the same bytes as with a new figure. So
    the caller must set limits, tick locators and labels of the axes, and may add only
    lines and texts. Call this inside of `applied`.

    Args:
      width, height: the width and height of the figure, in inches.
    """
    waiting: dict[Any, Any] = _waiting.__dict__
    made, axes, settings = waiting.pop(repr((width, height)), (None, None, None))
    # A figure keeps settings of matplotlib, which a program may have changed.
    if made is None or not dict.__eq__(settings, mpl.rcParams):
        settings = mpl.rcParams.copy()
        made, axes = figure(width, height)
    yield made, axes
    for artist in [*axes.lines, *axes.texts]:
        artist.remove()
    waiting[repr((width, height))] = made, axes, settings


def inline(made: Figure, prefix: str) -> str:
    """Returns the figure as an SVG element with the page's colours and fonts.

    Args:
      made: the result of `figure`; call this inside of `applied`.
      prefix: the prefix of all ids in the element, so that they are unique in the page.
    """
    made.patch.set_visible(False)
    for axes in made.axes:
        axes.patch.set_visible(False)
    text = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tfl_research"}):
        canvas = FigureCanvasSVG(made)
        canvas.print_svg(text, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    # The XML prologue, which is not allowed inside HTML, and the metadata are removed.
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("'DejaVu Sans'", "inherit").replace("sans-serif", "inherit")
    svg = re.sub(r"font: ([^;\"]*?)inherit(, inherit)*", r"font: \1sans-serif", svg)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    # The caption and the label of the figure say in words what is drawn.
    return svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)


def save(made: Figure, path: str | os.PathLike[str]) -> None:
    """Writes the figure in the format that the file's ending says.

    Raises:
      ValueError: the ending is no format of pictures, or the file cannot be written.
    """
    ending = pathlib.Path(path).suffix.lower()
    if ending not in _DATED:
        raise ValueError(
            f"{os.fspath(path)}: a picture's name ends in {', '.join(_DATED)}; "
            f"got {repr(ending) if ending else 'no ending'}"
        )
    try:
        with mpl.rc_context({"svg.hashsalt": "tfl_research"}):
            made.savefig(
                os.fspath(path), format=ending[1:], dpi=144, metadata=_DATED[ending]
            )
    except OSError as error:
        raise ValueError(f"cannot write {path} ({error.strerror})") from error
