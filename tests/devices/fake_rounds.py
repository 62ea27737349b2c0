"""The round loop on a NumPy engine, with a sampler of simulated devices."""

from __future__ import annotations

import csv
import io
import json
import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "program"))

import fake_experiment

from tfl_research import program, storage

Engine = fake_experiment.Engine
clients = fake_experiment.clients


class ClientsNoise(fake_experiment.Account):
    """Of noise that has left the clients when a round is abandoned."""

    charges_abandoned = True


class SpentElsewhere(ClientsNoise):
    """Other runs spend the rest of the budget after round `last`."""

    def __init__(self, path, budget, last):
        super().__init__(path, budget)
        self.last = last

    def charge(self, round_number):
        return None if round_number > self.last else super().charge(round_number)


def run(
    path,
    rounds,
    number,
    engine=None,
    stream=None,
    budget=math.inf,
    account=fake_experiment.Account,
):
    """Runs so many rounds in total; gives the result and the rows of metrics.csv."""
    with storage.RunFolder.open(
        path, fake_experiment.HPARAMS, experiment="fake", run_seed=7
    ) as folder:
        result = program.run(
            task=fake_experiment.Task(train=rounds.clients),
            engine=engine or Engine(7),
            sampler=rounds,
            folder=folder,
            config=fake_experiment.config(rounds=number, evaluate_every=1),
            account=account(folder.ledger_path, budget),
            process_plan=fake_experiment.Plan(),
            evaluator=fake_experiment.Evaluator(),
            exporter=fake_experiment.export,
            stream=stream or io.StringIO(),
        )
    with open(path / "metrics.csv", encoding="utf-8", newline="") as file:
        return result, list(csv.DictReader(file))


def ledger(path):
    """Numbers of the rounds charged."""
    lines = (path / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["round"] for line in lines]
