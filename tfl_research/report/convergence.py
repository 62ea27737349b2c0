"""Curves of algorithms over rounds, and how soon each reaches a target."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from scipy import stats

# Columns of metrics.csv that say what a round cost, where devices are simulated.
SECONDS, DOWN, UP = "simulated_seconds", "bytes_down", "bytes_up"
# Share of the best value that is the target when none is given.
_SHARE = 0.95


def read(
    labels: Sequence[tuple[str, str, int]],
    folders: Sequence[pathlib.Path],
    *,
    metric: str,
) -> pd.DataFrame:
    """The evaluated rounds of several runs.

    Args:
      labels: (algorithm, heterogeneity, seed) of each run.
      folders: the runs' folders.
      metric: column of metrics.csv.

    Returns:
      Columns algorithm, alpha, seed, round, value and, where devices are simulated,
      seconds and megabytes since the start of the run.
    """
    frames = []
    for (algorithm, alpha, seed), folder in zip(labels, folders):
        rows = pd.read_csv(folder / "metrics.csv")
        found = pd.DataFrame({"round": rows["round"], "value": rows[metric]})
        if SECONDS in rows:
            found["seconds"] = rows[SECONDS]
        if DOWN in rows:
            found["megabytes"] = (rows[DOWN] + rows[UP]).fillna(0).cumsum() / 1e6
        for name, label in (("algorithm", algorithm), ("alpha", alpha), ("seed", seed)):
            found.insert(0, name, label)
        frames.append(found.dropna(subset=["value"]))
    return pd.concat(frames, ignore_index=True)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half width of the 95% interval of Student's t; NaN for one value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan")
    error = float(np.std(values, ddof=1)) / np.sqrt(len(values))
    return mean, float(stats.t.ppf(0.975, len(values) - 1) * error)


def targets(curves: pd.DataFrame, target: float | None) -> dict[str, float]:
    """The value to be reached at each heterogeneity.

    Args:
      curves: of `read`.
      target: as given; None for 95% of the best value of any run.
    """
    best = curves.groupby("alpha", sort=False)["value"].max()
    return {a: _SHARE * v if target is None else target for a, v in best.items()}


def reached(curves: pd.DataFrame, target: float | None = None) -> pd.DataFrame:
    """When each run first reached the target, higher values being better.

    Returns:
      A row for each run: algorithm, alpha, seed, target, final, and round, seconds and
      megabytes at which it was reached, NaN for never.
    """
    goals = targets(curves, target)
    rows = []
    for (algorithm, alpha, seed), run in curves.groupby(
        ["algorithm", "alpha", "seed"], sort=False
    ):
        row = {
            "algorithm": algorithm,
            "alpha": alpha,
            "seed": seed,
            "target": goals[alpha],
            "final": run["value"].iloc[-1],
        }
        there = run[run["value"] >= goals[alpha]]
        for name in ("round", "seconds", "megabytes"):
            if name in run:
                row[name] = there[name].iloc[0] if len(there) else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def table(curves: pd.DataFrame, *, target: float | None = None) -> str:
    """A Markdown table: each algorithm's final value and when it reached the target.

    The mean over seeds, with the half width of its 95% interval for the final value;
    "2 of 3: 40" means that two of three seeds reached the target, on average in round
    40.
    """
    found = reached(curves, target)
    costs = [name for name in ("round", "seconds", "megabytes") if name in found]
    head = ["α", "algorithm", "final", "target", *costs]
    lines = [head, ["---"] * len(head)]
    for (alpha, algorithm), runs in found.groupby(["alpha", "algorithm"], sort=False):
        mean, half = interval(runs["final"].to_numpy(float))
        final = f"{mean:.3f}" if np.isnan(half) else f"{mean:.3f} ± {half:.3f}"
        cells = [str(alpha), str(algorithm), final, f"{runs['target'].iloc[0]:.3f}"]
        for name in costs:
            there = runs[name].dropna()
            if len(there) == 0:
                cells.append("never")
                continue
            share = "" if len(there) == len(runs) else f"{len(there)} of {len(runs)}: "
            cells.append(f"{share}{there.mean():.4g}")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plot(curves: pd.DataFrame, path: pathlib.Path, *, metric: str) -> None:
    """A panel for each heterogeneity: mean over seeds by round, and its interval.

    Args:
      curves: of `read`.
      path: of the SVG file.
      metric: name of the values.
    """
    alphas = list(dict.fromkeys(curves["alpha"]))
    algorithms = list(dict.fromkeys(curves["algorithm"]))
    figure = Figure(figsize=(1.6 + 4.2 * len(alphas), 4), layout="constrained")
    panels = figure.subplots(1, len(alphas), squeeze=False, sharey=True)[0]
    for axes, alpha in zip(panels, alphas):
        of_alpha = curves[curves["alpha"] == alpha]
        for place, algorithm in enumerate(algorithms):
            own = of_alpha[of_alpha["algorithm"] == algorithm]
            spread = own.groupby("round")["value"].apply(
                lambda values: interval(values.to_numpy(float))
            )
            mean = np.array([m for m, _ in spread])
            half = np.array([h for _, h in spread])
            colour = f"C{place}"
            axes.plot(spread.index, mean, color=colour, label=algorithm)
            if not np.isnan(half).all():
                axes.fill_between(
                    spread.index,
                    mean - half,
                    mean + half,
                    color=colour,
                    alpha=0.15,
                    linewidth=0,
                )
        named = alpha if alpha == "natural" else f"Dirichlet, α = {alpha}"
        axes.set_title(f"{named}", fontsize="medium")
        axes.set_xlabel("round")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(metric)
    panels[-1].legend(fontsize="small", loc="lower right")
    FigureCanvasSVG(figure).print_svg(str(path), metadata={"Date": None})
