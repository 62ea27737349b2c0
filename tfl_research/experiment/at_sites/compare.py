"""Compares a federation's run with the simulation of the same run, to the last bit.

The comparison needs all data, and the secrets of coordinator and sites, in one place.
So it is for demonstrations and tests. A real federation has no such place.
"""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Optional, TextIO

import numpy as np

from tfl_research.experiment.at_sites.site import secret_of
from tfl_research.experiment.experiment import Experiment
from tfl_research.experiment.federated.coordinator import FOLDER, run_id
from tfl_research.experiment.running import execution
from tfl_research.experiment.running.draws import Draws
from tfl_research.federation.site.site_noise import own_seed
from tfl_research.storage import run_record, run_seed
from tfl_research.storage.computation_record import ComputationRecord

# Columns that differ from one run to the next.
_TIMES = ("round_seconds",)
# The entries of a run's record that are no settings.
_NO_SETTINGS = frozenset(
    {
        "batching",
        "cohorts_sha256",
        "data_sha256",
        "expected_cohort_size",
        "num_train_clients",
        "plugins",
    }
)


def simulate(
    run_folder: pathlib.Path,
    out_folder: pathlib.Path,
    *,
    compiler: str,
    site_of: Mapping[str, pathlib.Path],
    changes: Mapping[str, Any],
    stream: Optional[TextIO] = None,
) -> pathlib.Path:
    """Runs the simulation of a federation's run.

    Args:
      run_folder: the folder of the federation's run.
      out_folder: the output folder of the simulation.
      compiler: the compiler of the clients' work, "xla" or "graph".
      site_of: maps each client to the folder of its site, which has the site's secret.
      changes: settings that differ from the federation's settings, such as data_dir
        with the data of all sites.
      stream: where progress is printed.

    Returns:
      The folder of the simulation.
    """
    record = run_record.read(run_folder / "hparams.json")
    flat = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in record["hparams"].items()
        if name not in _NO_SETTINGS
    }
    flat.update(
        runtime="in_process",
        federation=None,
        client_execution=f"separate_{compiler}",
        **changes,
    )
    seed = run_seed.read(run_folder / "run_seed")
    private = record["privacy_plan"] is not None
    kept = ComputationRecord(run_folder / "computation.json", seed, private)
    key = kept.attempts().key(seed)
    run = run_id(run_folder / FOLDER)
    restarts = kept.restarts()
    seeds = {
        c: own_seed(secret_of(folder), run, restarts) for c, folder in site_of.items()
    }
    experiment = Experiment.from_flat({**flat, "run_seed": str(seed)})
    execution.run(experiment, out_folder, stream=stream, draws=Draws(key, seeds))
    return out_folder


def differences(one: pathlib.Path, other: pathlib.Path) -> list[str]:
    """Lists the differences between a federation's run and its simulation.

    Every weight of the last model, metrics.csv, and the rounds of the ledger are
    compared. Times and the columns of `only_in_simulation` are left out.

    Args:
      one: folder of the federation's run.
      other: folder of the simulation.

    Returns:
      A line for each difference; an empty list if the runs are equal.
    """
    found = []
    first, second = (_weights(folder) for folder in (one, other))
    if sorted(first) != sorted(second):
        found.append("the models have other weights")
    else:
        found += [
            f"weight {name} differs by {np.max(np.abs(first[name] - second[name]))}"
            for name in first
            if not np.array_equal(first[name], second[name], equal_nan=True)
        ]
    mine, theirs = (_rows(folder / "metrics.csv") for folder in (one, other))
    if len(mine) != len(theirs):
        found.append(f"metrics.csv has {len(mine)} rows and {len(theirs)} rows")
    left_out = {*_TIMES, *only_in_simulation(one, other)}
    for row, expected in zip(mine, theirs):
        for name in {**row, **expected}:
            cells = row.get(name) or "empty", expected.get(name) or "empty"
            if name not in left_out and cells[0] != cells[1]:
                found.append(f"round {row['round']}: {name} is {' and '.join(cells)}")
    if _charges(one / "ledger.jsonl") != _charges(other / "ledger.jsonl"):
        found.append("the ledgers' rounds differ")
    return found


def only_in_simulation(one: pathlib.Path, other: pathlib.Path) -> list[str]:
    """Lists the evaluation columns of metrics.csv that only the simulation fills.

    These are metrics over the examples of all clients together, such as the AUC. They
    need predictions, which no site sends.

    Args:
      one: folder of the federation's run.
      other: folder of the simulation.
    """
    filled = [
        {n for row in _rows(folder / "metrics.csv") for n, cell in row.items() if cell}
        for folder in (one, other)
    ]
    return sorted(n for n in filled[1] - filled[0] if n.startswith("eval_"))


def median_seconds(folder: pathlib.Path) -> Optional[float]:
    """Returns the median seconds of a run's rounds without the first, which compiles.

    The result is None if there are too few rounds, or if metrics.csv has no times.
    """
    cells = [row.get("round_seconds") for row in _rows(folder / "metrics.csv")[1:]]
    times = [float(cell) for cell in cells if cell]
    return float(np.median(times)) if times else None


def _weights(folder: pathlib.Path) -> dict[str, np.ndarray]:
    import tensorflow as tf

    model = tf.saved_model.load(str(folder / "export" / "final"))
    return {str(n): v.numpy() for n, v in enumerate(model.variables)}


def _rows(path: pathlib.Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _charges(path: pathlib.Path) -> Sequence[Any]:
    """Returns the charged events of a ledger, without fields specific to one file."""
    if not path.exists():
        return []
    from tfl_research.privacy import Ledger

    with Ledger(path) as ledger:
        return [repr(event) for event in ledger.events]
