"""Comparisons of two runs, two splits and two readings of a ledger.

Each fails where something is not as the guarantee needs it. So a test can see whether
the comparison finds what happens when a safeguard is missing.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

import tfl_research as tfl
from tfl_research import outputs
from tfl_research.cli import privacy_ledger
from tfl_research.errors import SettingError


def released(
    experiment: tfl.Experiment, folder: pathlib.Path, *, to_the_end: bool = False
) -> np.ndarray:
    """The model after the first round, as one vector.

    Args:
      experiment: of one round.
      folder: of the run.
      to_the_end: whether the run writes what it gives out at its end.
    """
    with contextlib.closing(experiment.rounds(folder, stream=io.StringIO())) as rounds:
        weights = next(rounds).weights.trainable
        model = np.concatenate([np.asarray(w).ravel() for w in weights])
        if to_the_end:
            assert not list(rounds)
    return model


def check_sensitivity(
    pair: Sequence[tfl.Experiment], folder: pathlib.Path, *, clip: float, clients: int
) -> None:
    """Fails if one client moves the released sum by more than two clips.

    Give runs with the same noise. A run that is refused releases nothing.

    Args:
      pair: experiments on neighbouring data, of full cohorts and a server's learning
        rate of 1.
      folder: for the runs.
      clip: of an update.
      clients: that the sum is divided by.
    """
    try:
        one, other = (
            released(experiment, folder / f"sum {number}")
            for number, experiment in enumerate(pair)
        )
    except SettingError:
        return
    moved = float(np.linalg.norm(one - other)) * clients / clip
    assert moved <= 2.001, f"one client moves the released sum by {moved:.3g} clips"


def check_noise(one: np.ndarray, other: np.ndarray, stddev: float) -> None:
    """Fails if the difference of two releases of other things is free of noise.

    Args:
      one: a release, with more noise than signal.
      other: another release of the same rounds.
      stddev: of the noise of one of them.
    """
    share = np.sum((one - other) ** 2) / (2 * len(one) * stddev**2)
    assert share > 0.5, f"the difference has {share:.2g} of the noise of two releases"


def check_splits(task: Any, shorter: Any, removed: set[Any]) -> None:
    """Fails if what is missing moves anything else between splits.

    Args:
      task: with training and test examples, and clients that are held out or not.
      shorter: the task without something.
      removed: the records (client, bytes) that it lacks.
    """
    moved = set()
    for name in ("train", "test", "held_out"):
        before, after = (_records(getattr(each, name)) for each in (task, shorter))
        moved |= before ^ after
    others = moved - removed
    assert not others, f"{len(others)} other records left a split or came to one"


def _records(split: Any) -> set[tuple[str, bytes]]:
    return {
        (client_id, row.tobytes())
        for client_id in split.client_ids
        for row in split.load(client_id)["x"]
    }


def shown(*paths: pathlib.Path) -> float:
    """What privacy_ledger shows as the total of ledgers; infinite if it refuses."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = privacy_ledger.main(["show", *map(str, paths)])
    if code != 0:
        return float("inf")
    (row,) = (line for line in out.getvalue().splitlines() if line.startswith("all "))
    return float(row.split()[-1])


def check_statement(folder: pathlib.Path) -> None:
    """Fails if the statement does not name what the folder has, as what it is."""
    described = json.loads((folder / "columns.json").read_text())["columns"]
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    empty = {name for name in rows[0] if not any(row[name] for row in rows)}
    # Vectors and texts of measurements.jsonl are described too.
    columns = [name for name in described if name not in empty]
    text = " ".join((folder / "privacy.txt").read_text().split())
    titles = {
        outputs.PRIVATE: "Private, covered by ε: ",
        outputs.PUBLIC: "Public, the same for any data: ",
        outputs.EXACT: "Exact, not covered by ε: ",
    }
    missing = []
    for name in columns:
        kind = described[name]["class"]
        title = titles.get(kind)
        if title is None:
            continue
        assert title in text, f"the statement has no list of what is {kind}"
        listed = text.split(title)[1].split(". ")[0]
        if name not in listed.split(", "):
            missing.append(name)
    section = text.split("5. What was given out")[1].split(" 7. Outside")[0]
    missing += [path.name for path in folder.iterdir() if path.name not in section]
    assert not missing, f"the statement does not name {missing}"


def check_report(folder: pathlib.Path) -> None:
    """Fails if report.html repeats another statement than the run's."""
    report = (folder / "report.html").read_text(encoding="utf-8")
    statement = (folder / "privacy.txt").read_text(encoding="utf-8")
    lines = [line.strip() for line in statement.splitlines() if "Done: " in line]
    assert lines
    assert all(line in report for line in lines), f"report.html has not {lines}"
