"""Plots an audit with matplotlib, without a screen."""

from __future__ import annotations

import os
from typing import Any

import numpy as np


def save(
    path: str | os.PathLike[str],
    cosines: np.ndarray,
    included: np.ndarray,
    *,
    statistic: str,
    dimension: int,
) -> None:
    """Draws histograms of the cosines of canaries that did and did not take part.

    Args:
      path: the path of the SVG file.
      cosines: float `[canaries]`.
      included: bool `[canaries]`, whether a canary took part.
      statistic: the statistic of the cosines; "max" has no curve for comparison.
      dimension: the dimension of the model; N(0, 1/dimension) is drawn.

    Raises:
      ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from scipy import stats

    figure: Any = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    edges = np.histogram_bin_edges(cosines, bins=40)
    for label, shown in (("took part", included), ("did not", ~included)):
        axes.hist(cosines[shown], edges, density=True, alpha=0.5, label=label)
    if statistic != "max":
        std = dimension**-0.5
        points = np.linspace(-4 * std, 4 * std, 200)
        label = f"N(0, 1/{dimension})"
        axes.plot(points, stats.norm.pdf(points, 0, std), color="black", label=label)
    axes.set_xlabel(f"{statistic} cosine of released updates with a canary's direction")
    axes.set_ylabel("density")
    axes.legend()
    axes.grid(alpha=0.3)
    FigureCanvasSVG(figure).print_svg(str(path), metadata={"Date": None})
