"""The heading of a sweep's picture: task, rounds, seeds, clients, n and f."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfl_research.report import words


def _values(runs: Sequence[Mapping[str, Any]], name: str) -> str:
    """Returns the different values of a setting; empty if no run has the setting."""
    found = dict.fromkeys(run.get(name) for run in runs)
    return ", ".join(words.number(value) for value in found if value is not None)


def of_settings(runs: Sequence[Mapping[str, Any]]) -> str:
    """Makes the heading of runs; settings that no run has are left out.

    n is the expected number of clients in a round. f is the number of malicious clients
    that a robust rule assumes.

    Example:
      >>> from tfl_research.report import sweep_heading
      >>> same = {"task": "mnist", "rounds": 50, "expected_cohort_size": 25.0}
      >>> runs = [{**same, "seed": seed} for seed in range(3)]
      >>> sweep_heading.of_settings(runs)
      'mnist, 50 rounds, 3 seeds, n = 25 clients in a round'
    """
    parts = [_values(runs, "task")]
    rounds = _values(runs, "rounds")
    parts.append(f"{rounds} round{'' if rounds == '1' else 's'}" if rounds else "")
    seeds = {run["seed"] for run in runs if "seed" in run}
    parts.append(words.counted(len(seeds), "seed") if seeds else "")
    clients = _values(runs, "num_train_clients")
    cohort = _values(runs, "expected_cohort_size")
    of_all = f" of {clients}" if clients else ""
    parts.append(f"n = {cohort}{of_all} clients in a round" if cohort else "")
    malicious = _values(runs, "byzantine")
    parts.append(f"f = {malicious}" if malicious else "")
    return ", ".join(part for part in parts if part)


def of_folders(folders: Iterable[pathlib.Path]) -> str:
    """Makes the heading of the runs in these folders, see `of_settings`.

    Raises:
      ValueError: a folder has no run, or its hparams.json is damaged.
    """
    runs = []
    for folder in folders:
        path = folder / "hparams.json"
        try:
            runs.append(json.loads(path.read_text(encoding="utf-8"))["hparams"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a run's record ({error})") from error
    return of_settings(runs)
