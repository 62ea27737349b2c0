"""The picture of algorithms' values by rounds, simulated time and traffic."""

from __future__ import annotations

import pathlib
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tfl_research.report import convergence

_COLOURS = 10
_STYLES = ("-", "--", ":")


def draw(curves: pd.DataFrame, *, metric: str) -> Figure:
    """Mean over seeds and its 95% interval, and each seed as a thin line.

    A column of panels for each heterogeneity, and a row for each cost of the runs:
    rounds and, for simulated devices, seconds and megabytes. Costs are means over seeds
    (`convergence.averaged`).

    Args:
      curves: of `convergence.read`.
      metric: name of the values.
    """
    alphas = list(dict.fromkeys(curves["alpha"]))
    costs = [name for name in convergence.COSTS if name in curves]
    figure = Figure(
        figsize=(2.4 + 4.2 * len(alphas), 0.4 + 3.2 * len(costs)), layout="constrained"
    )
    panels = figure.subplots(len(costs), len(alphas), squeeze=False, sharey=True)
    algorithms = list(dict.fromkeys(curves["algorithm"]))
    low, high = curves["value"].min(), curves["value"].max()
    if not low < high:
        low, high = low - 0.5, high + 0.5
    for row, cost in zip(panels, costs):
        for axes, alpha in zip(row, alphas):
            of_alpha = curves[curves["alpha"] == alpha]
            for place, algorithm in enumerate(algorithms):
                runs = of_alpha[of_alpha["algorithm"] == algorithm]
                if len(runs):
                    _curve(axes, runs, cost, place)
            axes.set_xlabel(convergence.COSTS[cost])
            axes.set_xlim(left=0)
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=cost == "round"))
            # The range of the values; the first intervals of a few seeds are wider.
            axes.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))
            axes.grid(alpha=0.3)
        row[0].set_ylabel(metric)
    for axes, alpha in zip(panels[0], alphas):
        named = alpha if alpha == "natural" else f"Dirichlet, α = {alpha}"
        axes.set_title(named, fontsize="medium")
    figure.legend(
        handles=[
            figure.axes[0].plot([], [], label=algorithm, **_style(place))[0]
            for place, algorithm in enumerate(algorithms)
        ],
        fontsize="small",
        loc="outside right upper",
    )
    return figure


def write(curves: pd.DataFrame, path: pathlib.Path, *, metric: str) -> None:
    """`draw` as an SVG file."""
    canvas = FigureCanvasSVG(draw(curves, metric=metric))
    canvas.print_svg(str(path), metadata={"Date": None})


def _style(place: int) -> dict[str, Any]:
    return {
        "color": f"C{place % _COLOURS}",
        "linestyle": _STYLES[place // _COLOURS % len(_STYLES)],
    }


def _curve(axes: Axes, runs: pd.DataFrame, cost: str, place: int) -> None:
    style = _style(place)
    for _, run in runs.groupby("seed"):
        axes.plot(run[cost], run["value"], **style, alpha=0.35, linewidth=0.6)
    mean = convergence.averaged(runs, cost)
    marker = "." if len(mean) == 1 else None
    axes.plot(mean[cost], mean["mean"], marker=marker, linewidth=1.8, **style)
    if not mean["half"].isna().all():
        axes.fill_between(
            mean[cost],
            mean["mean"] - mean["half"],
            mean["mean"] + mean["half"],
            color=style["color"],
            alpha=0.1,
            linewidth=0,
        )
