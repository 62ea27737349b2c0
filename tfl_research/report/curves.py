"""Curves over rounds as inline SVG."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# A curve with more points is thinned out, to keep the page small.
_MAX_POINTS = 2000

_PANELS = (
    (
        "Loss",
        (
            ("train_loss", "cohort, while training"),
            ("eval_loss", "test splits"),
            ("held_out_loss", "held-out clients"),
        ),
    ),
    (
        "Accuracy",
        (
            ("train_accuracy", "cohort, while training"),
            ("eval_accuracy", "test splits"),
            ("held_out_accuracy", "held-out clients"),
            ("eval_client_worst_decile_accuracy", "worst tenth of clients"),
        ),
    ),
    ("Privacy loss ε", (("epsilon", "ε"),)),
)
# Each metric of an evaluation also has its mean over clients.
_CLIENT_MEAN = "eval_client_mean_"


def _further_panels(columns: Iterable[str]) -> list[tuple[str, Any]]:
    """A panel for each metric of the test splits beside loss and accuracy."""
    names = [c[len(_CLIENT_MEAN) :] for c in columns if c.startswith(_CLIENT_MEAN)]
    return [
        (
            name,
            (
                (f"eval_{name}", "test splits"),
                (f"held_out_{name}", "held-out clients"),
                (f"eval_client_worst_decile_{name}", "worst tenth of clients"),
            ),
        )
        for name in names
        if name not in ("loss", "accuracy")
    ]


def _points(
    rounds: Sequence[float], values: Sequence[float]
) -> tuple[list[float], list[float]]:
    pairs = [(r, v) for r, v in zip(rounds, values) if math.isfinite(v)]
    step = max(1, math.ceil(len(pairs) / _MAX_POINTS))
    # Counted from the end, so that the last round is always drawn.
    thinned = pairs[::-1][::step][::-1]
    return [r for r, _ in thinned], [v for _, v in thinned]


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None})
    svg = text.getvalue()
    # Without the XML prologue, which is not allowed inside HTML.
    return svg[svg.index("<svg") :]


def draw(metrics: Mapping[str, Sequence[float]]) -> list[tuple[str, str]]:
    """Loss, accuracy, ε and the other metrics of evaluations over rounds.

    Args:
      metrics: metrics.csv by column, NaN where there is no value.

    Returns:
      (title, SVG element) of every panel that has a finite value; ids in the
      elements are unique among them.
    """
    panels = []
    for title, series in [*_PANELS, *_further_panels(metrics)]:
        figure = Figure(figsize=(5.4, 3.2), layout="constrained")
        axes = figure.add_subplot()
        for name, label in series:
            xs, ys = _points(metrics.get("round", ()), metrics.get(name, ()))
            if xs:
                # Few points have markers: a line through one point is invisible.
                marker = "o" if len(xs) <= 30 else None
                axes.plot(xs, ys, label=label, marker=marker, markersize=3)
        if not axes.lines:
            continue
        axes.set_xlabel("round")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
        if len(series) > 1:
            axes.legend(fontsize="small")
        prefix = re.sub(r"\W", "", title)
        svg = _svg(figure)
        svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
        svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
        panels.append((title, svg))
    return panels
