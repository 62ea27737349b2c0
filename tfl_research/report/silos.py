"""Tables of a cross-silo comparison: the metrics of each method at each silo."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.storage.files import safe_text

# Prefix of the name of a method that trains on one silo only.
ALONE = "only "


def by_silo(
    runs: Sequence[tuple[str, pathlib.Path]], *, model: str = "final"
) -> pd.DataFrame:
    """Reads a model's metrics at every silo.

    Args:
      runs: (method, run folder) of each run; a method has several runs if seeds differ.
      model: "final" or "best"; for both, ε covers all rounds of the run.

    Returns:
      A table with a row for each run and silo. Its columns are `method`, `run`, `silo`,
      `examples`, the metrics, and `epsilon` of the silo's records (NaN for a run
      without record-level privacy). A run that withholds the silos' metrics has no
      rows, see `lists_silos`.
    """
    frames = []
    for method, folder in runs:
        if not lists_silos(folder):
            continue
        clients = pd.read_csv(
            folder / "clients.csv", converters={"client_id": safe_text.from_cell}
        )
        chosen = clients[(clients["model"] == model) & (clients["split"] == "eval")]
        chosen = chosen.drop(columns=["model", "split"]).rename(
            columns={"client_id": "silo"}
        )
        chosen.insert(0, "method", method)
        chosen.insert(1, "run", folder.name)
        chosen["epsilon"] = chosen["silo"].map(_epsilons(folder))
        frames.append(chosen)
    return pd.concat(frames, ignore_index=True)


def lists_silos(folder: pathlib.Path) -> bool:
    """Whether a run's folder has metrics of each silo; a private run can withhold them.

    The folder has none without the file, or if all rows are of held-out clients.
    """
    path = folder / "clients.csv"
    if not path.exists():
        return False
    return bool((pd.read_csv(path, usecols=["split"])["split"] == "eval").any())


def _epsilons(folder: pathlib.Path) -> dict[str, float]:
    path = folder / "client_epsilon.csv"
    if not path.exists():
        return {}
    spent = pd.read_csv(path, converters={"client_id": safe_text.from_cell})
    final = spent[spent["round"] == spent["round"].max()]
    return dict(zip(final["client_id"], final["epsilon"].astype(float)))


def write(rows: pd.DataFrame, path: pathlib.Path) -> None:
    """Writes the rows of `by_silo` as CSV."""
    named = rows.assign(silo=rows["silo"].map(safe_text.to_cell))
    named.to_csv(path, index=False, float_format="%.6g")


def remarks(
    runs: Mapping[str, pathlib.Path], rows: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Makes remarks for readers of the tables: which runs diverged or are left out.

    Args:
      runs: folders by the runs' names.
      rows: the rows of results.csv, one for each run.
    """
    lines = []
    lost = [n for n, row in zip(runs, rows) if row["stop_reason"] == "diverged"]
    if lost:
        lines.append(
            f"diverged, shown by their last model that was finite: {', '.join(lost)}"
        )
    left_out = [n for n, folder in runs.items() if not lists_silos(folder)]
    if left_out:
        lines.append(
            "left out, since they withhold the silos' metrics, which "
            f"--release_exact=clients.csv gives out: {', '.join(left_out)}"
        )
    return lines


def table(by_run: pd.DataFrame, *, metric: str) -> str:
    """Makes a Markdown table of each method's metric at each silo, mean over runs.

    Two lines are for silos that train alone. The first line has each silo's own model
    at this silo, the second line the mean of all silos' models at each silo. The last
    columns are the mean over silos, and the mean weighted by examples. A line with the
    ε of silos' records ends with the largest ε.

    Args:
      by_run: the result of `by_silo`.
      metric: a metric's column of `by_run`.
    """
    alone = by_run["method"].str.startswith(ALONE)
    at_home = by_run[alone & (by_run["method"] == ALONE + by_run["silo"])]
    rows = pd.concat(
        [
            by_run[~alone],
            at_home.assign(method="each silo alone, at home"),
            by_run[alone].assign(method="the average silo alone"),
        ]
    )
    silos = list(dict.fromkeys(rows["silo"]))
    lines = [["method", *silos, "mean of silos", "by examples"]]
    lines.append(["---"] * len(lines[0]))
    for method in dict.fromkeys(rows["method"]):
        of_method = rows[rows["method"] == method]
        scored = of_method.dropna(subset=[metric])
        means = scored.groupby("silo")[metric].mean()
        weighted = (scored[metric] * scored["examples"]).sum() / scored[
            "examples"
        ].sum()
        cells = [_cell(means.get(silo)) for silo in silos]
        lines.append([method, *cells, _cell(means.mean()), _cell(weighted)])
        spent = of_method.groupby("silo")["epsilon"].max()
        if spent.notna().any():
            bounds = [_bound(spent.get(silo)) for silo in silos]
            lines.append(
                ["ε of its records", *bounds, "", f"at most {_bound(spent.max())}"]
            )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bound(epsilon: float | None) -> str:
    if epsilon is None or pd.isna(epsilon):
        return "–"
    return rounded_up(epsilon)


def _cell(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.3f}"
