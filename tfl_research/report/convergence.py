"""Values of algorithms by cost, and the cost at which each reaches a target."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from tfl_research.errors import UserError
from tfl_research.report import sweeps

# Columns of metrics.csv with the cost of a round, for simulated devices.
SECONDS, DOWN, UP = "simulated_seconds", "bytes_down", "bytes_up"
# Kinds of cost: columns of `read`, with their titles.
COSTS = {
    "round": "round",
    "seconds": "simulated seconds",
    "megabytes": "megabytes sent and received",
}
# With fewer seeds there is no interval.
LEAST_OF_AN_INTERVAL = 3
# The default target is this share of the best value.
_SHARE = 0.95


def metric_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the metric that selects the models of a sweep.

    Args:
      rows: the rows of results.csv.

    Raises:
      UserError: every run diverged before its first evaluation, or no evaluation has
        a value of the metric.
    """
    sweeps.check_not_all_diverged(rows)
    metric = next((str(row["metric"]) for row in rows if row.get("metric")), None)
    if metric is None:
        raise UserError(
            "no run has a value of the metric that chooses models: the metric is not "
            "defined on the examples that were evaluated; choose another "
            "--selection_metric, or raise --max_evaluation_examples, in another "
            "--output_dir"
        )
    return metric


def of_sweep(
    rows: Sequence[Mapping[str, Any]], folders: Sequence[pathlib.Path]
) -> pd.DataFrame:
    """Reads the evaluated rounds of a sweep over algorithms; see `read`.

    Args:
      rows: the rows of results.csv, with `algorithm`, `alpha` and `seed`.
      folders: the runs' folders.

    Raises:
      UserError: see `metric_of`.
    """
    return read(
        [(row["algorithm"], row["alpha"], row["seed"]) for row in rows],
        folders,
        metric=metric_of(rows),
        diverged=[row["stop_reason"] == "diverged" for row in rows],
    )


def read(
    labels: Sequence[tuple[str, str, int]],
    folders: Sequence[pathlib.Path],
    *,
    metric: str,
    diverged: Sequence[bool],
) -> pd.DataFrame:
    """Reads the evaluated rounds of several runs.

    Args:
      labels: (algorithm, heterogeneity, seed) of each run.
      folders: the runs' folders.
      metric: column of metrics.csv.
      diverged: whether each run ended because its model was not finite.

    Returns:
      A table with the columns algorithm, alpha, seed, round, value and megabytes and,
      for simulated devices, seconds since the start of the run. A run that diverged has
      a last row without a value, for the round after its completed rounds.
    """
    frames = []
    for (algorithm, alpha, seed), folder, lost in zip(labels, folders, diverged):
        rows = pd.read_csv(folder / "metrics.csv")
        frame = pd.DataFrame({"round": rows["round"], "value": rows[metric]})
        if SECONDS in rows:
            frame["seconds"] = rows[SECONDS]
        if DOWN in rows:
            frame["megabytes"] = (rows[DOWN] + rows[UP]).fillna(0).cumsum() / 1e6
        frame = frame.dropna(subset=["value"])
        if lost:
            frame.loc[len(rows)] = np.nan
            frame.loc[len(rows), "round"] = len(rows) + 1
        for name, label in (("algorithm", algorithm), ("alpha", alpha), ("seed", seed)):
            frame.insert(0, name, label)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Computes the mean and the half width of the 95% interval of Student's t.

    With fewer than three values the half width is NaN: one value has no interval, and
    the interval of two values has one degree of freedom and is too wide to be useful.
    """
    mean = float(np.mean(values))
    if len(values) < LEAST_OF_AN_INTERVAL:
        return mean, float("nan")
    error = float(np.std(values, ddof=1)) / np.sqrt(len(values))
    return mean, float(stats.t.ppf(0.975, len(values) - 1) * error)


def averaged(runs: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Averages an algorithm's values over its seeds, by mean cost.

    Values and their costs are averaged at equal rounds, not at equal cost: a single
    round that waits for its deadline delays a seed so much that seeds have no times in
    common.

    Args:
      runs: rows of `read` of one algorithm and heterogeneity.
      cost: one of `COSTS`.

    Returns:
      A table with a row for each round that was evaluated under all seeds. Its columns
      are `cost`, "mean" and "half": the half width of the 95% interval, or NaN (see
      `interval`). There are no rows for rounds after a seed diverged.
    """
    seeds = runs["seed"].nunique()
    rows = [
        (of_round[cost].mean(), *interval(of_round["value"].to_numpy(float)))
        for _, of_round in runs.dropna(subset=["value"]).groupby("round")
        if len(of_round) == seeds
    ]
    return pd.DataFrame(rows, columns=[cost, "mean", "half"])


def targets(curves: pd.DataFrame, target: float | None) -> dict[str, float]:
    """Returns the target at each heterogeneity.

    Args:
      curves: the result of `read`.
      target: the target at all heterogeneities; None for 95% of the best value of any
        run at the heterogeneity.
    """
    best = curves.groupby("alpha", sort=False)["value"].max()
    return {a: _SHARE * v if target is None else target for a, v in best.items()}


def reached(curves: pd.DataFrame, target: float | None = None) -> pd.DataFrame:
    """Finds the cost at which each run first reached the target.

    Higher values are better.

    Returns:
      A table with a row for each run: algorithm, alpha, seed, target, final (NaN for a
      run that diverged), and the round, seconds and megabytes at which the run reached
      the target (NaN if the run did not reach the target).
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
        on_target = run[run["value"] >= goals[alpha]]
        for name in COSTS:
            if name in run:
                row[name] = on_target[name].iloc[0] if len(on_target) else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def table(curves: pd.DataFrame, *, target: float | None = None) -> str:
    """Makes a Markdown table of final values and of the cost of reaching the target.

    Values are means over the seeds that did not diverge. With three or more seeds, the
    final value has the half width of its 95% interval; with two seeds, the table shows
    both values. "2 of 3: 40" means that two of three seeds reached the target, on
    average in round 40.
    """
    rows = reached(curves, target)
    costs = [name for name in COSTS if name in rows]
    head = ["α", "algorithm", "final", "target", *costs]
    lines = [head, ["---"] * len(head)]
    for (alpha, algorithm), runs in rows.groupby(["alpha", "algorithm"], sort=False):
        goal = f"{runs['target'].iloc[0]:.3f}"
        cells = [str(alpha), str(algorithm), _final(runs), goal]
        for name in costs:
            values = runs[name].dropna()
            if len(values) == 0:
                cells.append("never")
                continue
            counts = f"{len(values)} of {len(runs)}: "
            share = "" if len(values) == len(runs) else counts
            cells.append(f"{share}{values.mean():.4g}")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _final(runs: pd.DataFrame) -> str:
    values = runs["final"].dropna().to_numpy(float)
    lost = len(runs) - len(values)
    if not len(values):
        return "diverged"
    mean, half = interval(values)
    notes = [f"{lost} of {len(runs)} diverged"] if lost else []
    if len(values) < LEAST_OF_AN_INTERVAL:
        text = ", ".join(f"{value:.3f}" for value in values)
        notes = [f"{len(values)} seeds", *notes] if len(values) > 1 else notes
    else:
        text = f"{mean:.3f} ± {half:.3f}"
    return f"{text} ({'; '.join(notes)})" if notes else text
