"""Pictures of several runs: overlaid curves, and results against a cost."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from tfl_research.report import words
from tfl_research.report.convergence import LEAST_OF_AN_INTERVAL, interval
from tfl_research.report.pictures import panels, style
from tfl_research.report.pictures.curves import (
    Picture,
    geometry,
    legend_of,
    thinned,
)
from tfl_research.report.several.groups import Group

# More curves than this are hard to tell apart.
MOST_CURVES = 8
_FAR = 20.0


@dataclasses.dataclass(frozen=True)
class _Mean:
    """Mean and interval of a group at the rounds that all its runs have."""

    rounds: list[float]
    mean: list[float]
    half: list[float]


def _points(group: Group, column: str) -> list[dict[float, float]]:
    found = []
    for run in group.runs:
        metrics = run.results.metrics
        pairs = zip(metrics.get("round", ()), metrics.get(column, ()))
        values = {r: v for r, v in pairs if math.isfinite(v)}
        untrained = (run.results.summary.get("untrained") or {}).get(column)
        if values and isinstance(untrained, (int, float)):
            values = {0.0: float(untrained), **values}
        if values:
            found.append(values)
    return found


def _mean(runs: Sequence[dict[float, float]]) -> _Mean:
    common = sorted(set.intersection(*(set(run) for run in runs)))
    pairs = [interval(np.asarray([run[r] for run in runs])) for r in common]
    return _Mean(common, [m for m, _ in pairs], [h for _, h in pairs])


def best_first(groups: Sequence[Group], column: str) -> list[Group]:
    """Sorts the groups that have a value of the column, the best mean first."""
    sign = 1 if words.lower_is_better(words.split_column(column)[0]) else -1
    shown = [group for group in groups if _points(group, column)]
    last = math.inf

    def place(group: Group) -> float:
        mean = group.mean(column)
        return sign * mean if math.isfinite(mean) else last

    return sorted(shown, key=place)


def overlaid(groups: Sequence[Group], column: str, key: str) -> Picture | None:
    """Draws the curves of the groups; returns None if no group has a value.

    Two runs of a group are drawn as thin lines with their mean, three and more runs as
    a mean with its 95% interval. Of many groups, the best eight are drawn, and the
    caption says so.
    """
    chosen = best_first(groups, column)[:MOST_CURVES]
    # The groups have the order of the table.
    places = [place for place, group in enumerate(groups) if group in chosen]
    chosen = [groups[place] for place in places]
    if not chosen:
        return None
    points = [_points(group, column) for group in chosen]
    metric, whose = words.split_column(column)
    values = [v for runs in points for run in runs for v in run.values()]
    low, high, is_logarithmic = panels.axis(metric, values)
    series = []
    with style.applied():
        figure, axes = style.figure(5.2, 3.0)
        for place, group, runs in zip(places, chosen, points):
            mean = _mean(runs)
            _draw(axes, runs, mean, place)
            rounds, shown = thinned(mean.rounds, mean.mean)
            texts = [words.number(value) for value in shown]
            series.append({"label": group.label, "x": rounds, "y": texts})
        last = max(r for runs in points for run in runs for r in run)
        axes.set_xlim(-0.02 * last, 1.03 * last or 1)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        if is_logarithmic:
            axes.set_yscale("log")
        axes.set_ylim(low, high)
        axes.set_xlabel("round")
        svg = style.inline(figure, key)
        where = geometry(axes)
    caption = words.capital(f"{words.metric_name(metric)}, {whose}: ")
    best = best_first(chosen, column)[0]
    if len(groups) > 1 and len(chosen) == 1:
        caption += (
            f"only {best.label} has these values: {best.text(column)} at the end."
        )
    else:
        caption += f"{best.label} is best at the end, {best.text(column)}."
    left_out = len([g for g in groups if _points(g, column)]) - len(chosen)
    if left_out:
        caption += (
            f" The best {MOST_CURVES} settings are drawn, and {left_out} more are in "
            "the table."
        )
    title = words.capital(words.column_name(column))
    data = json.dumps({**where, "name": "round", "series": series}, ensure_ascii=False)
    labels = [group.label for group in chosen]
    # A group has the same style in all pictures, also if other groups have no curve.
    legend = legend_of(key, labels, places=places if len(groups) > 1 else None)
    return Picture(key, title, svg, caption, legend, data)


def _draw(
    axes: Axes, runs: Sequence[dict[float, float]], mean: _Mean, place: int
) -> None:
    how = style.curve(place)
    if len(mean.rounds) > 30:
        how["marker"] = None
    if len(mean.rounds) < 3:
        how["linestyle"] = "none"
    if 1 < len(runs) < LEAST_OF_AN_INTERVAL:
        thin = {**how, "linewidth": 0.7, "markersize": 2, "alpha": 0.6}
        for number, run in enumerate(runs):
            gid = f"s{place}.{number}"
            axes.plot(*thinned(list(run), list(run.values())), gid=gid, **thin)
    axes.plot(*thinned(mean.rounds, mean.mean), gid=f"s{place}", **how)
    if len(runs) >= LEAST_OF_AN_INTERVAL:
        middle, half = np.asarray(mean.mean), np.asarray(mean.half)
        axes.fill_between(
            mean.rounds,
            middle - half,
            middle + half,
            color=how["color"],
            alpha=0.18,
            linewidth=0,
            gid=f"s{place}.band",
        )


def against(
    groups: Sequence[Group],
    column: str,
    cost: Callable[[Group], float],
    *,
    title: str,
    x_label: str,
    key: str,
    written: Callable[[float], str],
) -> Picture | None:
    """Draws the final value against a cost: a point and a range for each group.

    Args:
      groups: the groups of runs.
      column: the column of the value.
      cost: returns the cost of a group. Groups without a finite cost, such as ε without
        privacy, are drawn as dashed lines.
      title: the text after the metric in the title.
      x_label: the label of the cost's axis.
      key: prefix of the ids.
      written: returns a cost as text.

    Returns:
      The picture; None if fewer than two groups have a cost and a value.
    """
    shown = [group for group in groups if group.values(column)]
    costly = [group for group in shown if math.isfinite(cost(group))]
    if len(costly) < 2:
        return None
    free = [group for group in shown if math.isinf(cost(group))]
    metric, whose = words.split_column(column)
    costs = [cost(group) for group in costly]
    values = [v for group in [*costly, *free] for v in group.values(column)]
    with style.applied():
        figure, axes = style.figure(5.2, 3.0)
        for group in costly:
            place = groups.index(group)
            middle, found = group.mean(column), group.values(column)
            how = {**style.curve(place), "linestyle": "none", "markersize": 7}
            spread = [[middle - min(found)], [max(found) - middle]]
            axes.errorbar(
                [cost(group)],
                [middle],
                spread,
                capsize=3,
                elinewidth=1.2,
                gid=f"s{place}",
                **how,
            )
        for group in free:
            place = groups.index(group)
            axes.axhline(
                group.mean(column),
                color=style.curve(place)["color"],
                linestyle="--",
                linewidth=1,
                gid=f"s{place}",
            )
        if min(costs) > 0 and max(costs) > _FAR * min(costs):
            axes.set_xscale("log")
        elif min(costs) >= 0:
            axes.set_xlim(0, 1.08 * max(costs) or 1)
        low, high, _ = panels.axis(metric, values)
        axes.set_ylim(low, high)
        axes.set_xlabel(x_label)
        svg = style.inline(figure, key)
    caption = (
        f"{words.capital(words.metric_name(metric))}, {whose}, from "
        f"{written(min(costs))} to {written(max(costs))}. Points are means over the "
        "runs of a setting, and bars their range."
    )
    if free:
        caption += " Dashed lines are runs without privacy."
    labels = [group.label for group in shown]
    places = [groups.index(group) for group in shown]
    legend = legend_of(key, labels, places=places, lines=False)
    title = f"{words.capital(words.metric_name(metric))} {title}"
    return Picture(key, title, svg, caption, legend)
