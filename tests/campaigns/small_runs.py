"""Runs of NumPy that write every file of a run: ledger, states, vectors, models."""

from __future__ import annotations

import io
import json
import pathlib
import sys
from typing import Any, Optional

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "program"))

import fake_experiment as fake

from tfl_research import privacy, program, storage
from tfl_research.experiment.private import accounts
from tfl_research.privacy.accounting.events.gaussian_event import (
    GaussianEvent,
)
from tfl_research.storage.files import atomic

EVENT = GaussianEvent("poisson", 1.25, 0.5, 8, 4.0, "add_or_remove_one")
ROUNDS, BEFORE = 6, 4


class Engine(fake.Engine):
    """Clients count their rounds, and a round measures a vector."""

    def next(self, state: Any, cohort: Any) -> tuple[Any, Any]:
        new, metrics = super().next(state, cohort)
        (w, _), _ = new.global_model_weights
        metrics["vector"] = np.asarray(w)
        metrics["client_states"] = cohort.stacked()["client_state"] + 1
        return new, metrics


class States:
    """What each client keeps: two numbers."""

    initial = np.zeros(2, np.float32)
    capacity = 8


class Account(fake.Account):
    """The fake's account on a ledger of the toolkit."""

    def __init__(self, ledger: privacy.Ledger):
        self.ledger = ledger
        self.budget = float("inf")
        self.releases = {}

    def charge(self, round_number: int) -> float:
        try:
            self.ledger.record(round_number, EVENT)
        except ValueError as error:
            raise privacy.ChargeError(str(error)) from error
        return self.epsilon_after(round_number)

    def positions(self) -> dict[str, Any]:
        try:
            self.ledger.check_unchanged()
        except ValueError as error:
            raise privacy.ChargeError(str(error)) from error
        return {"own": self.ledger.position}

    def check_positions(self, positions: Any) -> None:
        self.ledger.check_position(positions["own"])


def export(weights: Any, path: pathlib.Path) -> None:
    """Writes a model as the toolkit does: another folder takes the place of the old."""
    temporary = path.with_name(f"{path.name}.tmp")
    atomic.remove(temporary)
    fake.export(weights, temporary)
    atomic.replace_folder(temporary, path)


def run(
    folder: pathlib.Path, rounds: int = ROUNDS, stream: Optional[io.StringIO] = None
) -> Any:
    """Runs or resumes, with everything that a run writes but TensorFlow's models."""
    config = fake.config(rounds=rounds)
    out = io.StringIO() if stream is None else stream
    with (
        storage.RunFolder.open(
            folder,
            fake.HPARAMS,
            experiment="fake",
            run_seed=7,
            plan=fake.Plan().record(),
        ) as opened,
        accounts.opened(
            opened, out, lambda ledger, _: Account(ledger), lambda _: ()
        ) as account,
    ):
        return program.run(
            task=fake.Task(),
            engine=Engine(opened.run_seed),
            sampler=fake.Sampler(),
            folder=opened,
            config=config,
            account=account,
            process_plan=fake.Plan(),
            client_states=States(),
            evaluator=fake.Evaluator(),
            exporter=export,
            stream=out,
        )


def results(folder: pathlib.Path) -> dict[str, Any]:
    """What two runs of one experiment must have in common."""
    record = json.loads((folder / "hparams.json").read_text())
    found: dict[str, Any] = {
        "metrics": fake.without_seconds(folder),
        "ledger": _without_ids(folder / "ledger.jsonl"),
        "vectors": (folder / "measurements.jsonl").read_bytes(),
        "summary": json.loads((folder / "summary.json").read_text()),
        "record": {n: v for n, v in record.items() if n != "digest"},
        "clients": (folder / "clients.csv").read_text(),
    }
    for name in ("final", "best"):
        with np.load(folder / "export" / name / "weights.npz") as models:
            found[name] = [models[key].tolist() for key in models]
    return found


def _without_ids(path: pathlib.Path) -> list[Any]:
    """The lines of a ledger without the run's random id, and what depends on it."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        {n: v for n, v in line.items() if n in ("round", "event", "release")}
        for line in lines
    ]
