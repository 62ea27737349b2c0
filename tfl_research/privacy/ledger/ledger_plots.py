"""Plots spent ε and the cost of a plan with matplotlib, without a screen."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

# Number of points of all curves together; ε of a point takes a tenth of a second.
POINTS = 15
ENDINGS = (".svg", ".png", ".pdf")


def format_of(path: str | os.PathLike[str]) -> str:
    """Returns the format of a plot's file by its ending: "svg", "png" or "pdf".

    Raises:
      ValueError: the name has another ending, or no ending.
    """
    ending = pathlib.Path(path).suffix.lower()
    if ending not in ENDINGS:
        got = f"the ending {ending}" if ending else "no ending"
        raise ValueError(
            f"{os.fspath(path)} has {got}; a plot's name ends in {', '.join(ENDINGS)}"
        )
    return ending[1:]


def rounds_shown(rounds: int, curves: int) -> list[int]:
    """Returns the numbers of rounds at which a curve has points, denser at the start.

    Args:
      rounds: the last number of rounds; 0 for a curve without points.
      curves: number of curves in the plot.
    """
    if rounds < 1:
        return []
    points = min(max(1, POINTS // curves), rounds)
    shown = np.linspace(rounds**0.5, 1, points) ** 2
    return sorted({*np.rint(shown).astype(int).tolist(), rounds})


def save(
    path: str | os.PathLike[str],
    curves: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    title: str,
    limit: float | None = None,
) -> None:
    """Draws curves into a file.

    Args:
      path: the path of the file; its ending says the format, see `format_of`.
      curves: label, x and y of each curve.
      x_label: the label of the horizontal axis.
      y_label: the label of the vertical axis.
      title: the title above the plot.
      limit: height of a horizontal line, such as a budget; None for no line.

    Raises:
      ValueError: the ending is unknown, or the file cannot be written.
    """
    kind = format_of(path)
    # Without pyplot and a window system, the import takes half the time.
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(7, 4.5))
    # A layout engine would draw everything twice.
    axes = figure.add_axes((0.1, 0.12, 0.87, 0.79))
    for label, xs, ys in curves:
        axes.plot(xs, ys, marker=".", label=label)
    if limit is not None:
        axes.axhline(limit, color="black", linestyle="--", label=f"budget {limit:g}")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend()
    try:
        figure.savefig(path, format=kind, dpi=120)
    except OSError as error:
        raise ValueError(f"cannot write {path} ({error.strerror})") from error
