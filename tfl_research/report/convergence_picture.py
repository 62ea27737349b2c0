"""The picture of algorithms' values by rounds, simulated time and traffic."""

from __future__ import annotations

import pathlib
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tfl_research.report import convergence, words
from tfl_research.report.pictures import style


def draw(curves: pd.DataFrame, *, metric: str, title: str = "") -> Figure:
    """Draws the mean over seeds with its 95% interval, and each seed as a thin line.

    With fewer than three seeds there is no interval, and the heading says so.

    The picture has a column of panels for each heterogeneity, and a row for each cost
    of the runs: rounds and, for simulated devices, seconds and megabytes. Costs are
    means over seeds (`convergence.averaged`).

    Args:
      curves: the result of `convergence.read`.
      metric: column of the values.
      title: the text above the picture, see `sweep_heading`.
    """
    with style.applied():
        return _drawn(curves, metric, title)


def _drawn(curves: pd.DataFrame, metric: str, title: str) -> Figure:
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
            # The axis has the range of the values: first intervals can be much wider.
            axes.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))
            axes.grid(alpha=0.3)
        row[0].set_ylabel(words.column_name(metric))
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
    seeds = curves.groupby(["algorithm", "alpha"])["seed"].nunique()
    how = "thick: mean of the seeds; thin: each seed"
    if seeds.min() >= convergence.LEAST_OF_AN_INTERVAL:
        how += "; band: 95% interval of the mean"
    elif seeds.max() > 1:
        how += "; no band with fewer than three seeds"
    figure.suptitle(f"{title}\n{how}".strip(), fontsize="small", x=0.02, ha="left")
    return figure


def write(
    curves: pd.DataFrame, path: pathlib.Path, *, metric: str, title: str = ""
) -> None:
    """Writes the picture of `draw` to a file; the file's ending says the format."""
    with style.applied():
        style.save(draw(curves, metric=metric, title=title), path)


def _style(place: int) -> dict[str, Any]:
    how = style.curve(place)
    return {"color": how["color"], "linestyle": how["linestyle"]}


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
