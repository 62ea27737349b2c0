"""Pictures of a metric at each silo, or of its distribution over many clients."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from tfl_research.report import words
from tfl_research.report.pictures import panels, style
from tfl_research.report.pictures.curves import Picture, geometry, legend_of

# Up to this many clients have a line each; more clients are drawn as a distribution.
MOST_SILOS = 15
_LONGEST_NAME = 22


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _plain(text: str) -> str:
    """Escapes text so that matplotlib draws dollar signs, and no formulas."""
    return text.replace("$", r"\$")


def silos(values: Mapping[str, Mapping[str, float]], metric: str, key: str) -> Picture:
    """Draws a line for each silo, with a point for each model.

    Args:
      values: the metric by model and silo; at least one value.
      metric: the name of the metric.
      key: prefix of the ids.
    """
    names = list(dict.fromkeys(n for of_model in values.values() for n in of_model))
    with style.applied():
        figure, axes = style.figure(4.6, 1.0 + 0.3 * len(names), fitted=True)
        for row in range(len(names)):
            axes.axhline(row, color=style.RULE, linewidth=0.8)
        for place, of_model in enumerate(values.values()):
            how = {**style.curve(place), "linestyle": "none", "markersize": 7}
            if place:
                # The marker is hollow, so that a point below can be seen.
                how.update(markerfacecolor="none", markeredgewidth=2, markersize=9)
            rows = [names.index(n) for n in of_model]
            axes.plot(list(of_model.values()), rows, gid=f"s{place}", **how)
        axes.set_yticks(range(len(names)), [_plain(_short(name)) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        everything = [v for of_model in values.values() for v in of_model.values()]
        low, high, is_logarithmic = panels.axis(metric, everything)
        if is_logarithmic:
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5))
        margin = 0.02 * (high - low)
        axes.set_xlim(low - (0 if is_logarithmic else margin), high + margin)
        axes.set_xlabel(words.column_name(metric))
        svg = style.inline(figure, key)
    told = []
    shown = functools.partial(words.of_picture, is_bound=metric == "epsilon")
    for model, of_model in values.items():
        worst = sorted(of_model, key=lambda n: of_model[n])
        if words.lower_is_better(metric):
            worst.reverse()
        ends = [f"{shown(of_model[name])} at {name}" for name in (worst[0], worst[-1])]
        told.append(f"{model}: from {ends[0]} to {ends[1]}")
    caption = "; ".join(told) + "."
    title = f"{words.column_name(metric)} at each client"
    return Picture(
        key,
        words.capital(title),
        svg,
        words.capital(caption),
        legend_of(key, list(values), lines=False),
    )


def distribution(
    values: Sequence[float],
    metric: str,
    model: str,
    key: str,
    *,
    whose: str = "client",
) -> Picture:
    """Draws the distribution of a metric over clients, with mean and worst tenth.

    Of n clients, the worst tenth are the ceil(n/10) worst, as for
    `eval_client_worst_decile`. The line is at the best of them. With at most ten
    clients there is no such line.

    Args:
      values: finite values of at least one client.
      metric: the name of the metric.
      model: the model that has the metric.
      key: prefix of the ids.
      whose: the word for the clients.
    """
    found = np.asarray(values, float)
    low, high, _ = panels.axis(metric, values)
    lower = words.lower_is_better(metric)
    worst_first = np.sort(found)[:: -1 if lower else 1]
    worst = float(worst_first[-(-len(found) // 10) - 1])
    mean = float(found.mean())
    lines = {"mean": mean}
    if len(found) > panels.TENTH:
        lines["worst tenth"] = worst
    with style.applied():
        # Numbers of clients have any number of digits, with their label beside them.
        figure, axes = style.figure(4.6, 2.6, fitted=True)
        bins = min(30, max(8, int(np.sqrt(len(found)) * 1.5)))
        counts, edges = np.histogram(found, bins=bins, range=(low, high))
        axes.stairs(counts, edges, fill=True, color=style.COLOURS[0], alpha=0.75)
        for place, (label, value) in enumerate(lines.items()):
            axes.axvline(value, color=style.INK, linestyle=("-", "--")[place], lw=1.2)
            axes.annotate(
                label,
                (value, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(-3 if value < mean else 3, 2),
                textcoords="offset points",
                ha="right" if value < mean else "left",
                va="bottom",
                fontsize="small",
            )
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(f"{words.metric_name(metric)} of a {whose}")
        axes.set_ylabel("clients")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        svg = style.inline(figure, key)
        where = geometry(axes)
    bars = [
        {
            "label": f"{words.number(a)} to {words.number(b)}",
            "x": [float((a + b) / 2)],
            "y": [words.counted(int(count), whose)],
        }
        for a, b, count in zip(edges, edges[1:], counts)
    ]
    caption = (
        f"{words.counted(len(found), whose)}: mean "
        f"{words.number(mean)}, the worst has {words.number(float(worst_first[0]))}"
    )
    if "worst tenth" in lines:
        bound = "at least" if lower else "at most"
        caption += f", the worst tenth has {bound} {words.number(worst)}"
    caption += "."
    title = f"{words.metric_name(metric)} of the {whose}s, {model} model"
    data = json.dumps({**where, "name": "", "nearest": True, "series": bars})
    return Picture(key, words.capital(title), svg, caption, (), data)
