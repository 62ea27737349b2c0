"""An experiment without TensorFlow: NumPy clients, engine, evaluator and account.

As a program, `fake_experiment.py FOLDER ROUNDS SECONDS`, it is what the kill and
signal tests start: its rounds take at least SECONDS.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import math
import os
import sys
import time
from typing import Any, NamedTuple, Optional

import numpy as np

from tfl_research import program, storage
from tfl_research.data import Batching, ClientData, derived_generator
from tfl_research.program.evaluation.client_metrics import Evaluation

FEATURES = 5
HPARAMS = {"task": "fake", "client_learning_rate": 0.1, "rounds": 6}


class Weights(NamedTuple):
    trainable: Any
    non_trainable: Any


class State(NamedTuple):
    global_model_weights: Any
    client_work: Any
    aggregator: Any


def clients(count: int = 8) -> ClientData:
    generator = derived_generator("fake clients")
    truth = generator.normal(size=FEATURES)
    arrays = {}
    for index in range(count):
        x = generator.normal(size=(index + 3, FEATURES)).astype(np.float32)
        y = (x @ truth + 0.5 * generator.normal(size=len(x)) > 0).astype(np.int32)
        arrays[f"client {index}"] = {"x": x, "y": y}
    return ClientData.from_arrays(arrays, Batching(batch_size=4))


@dataclasses.dataclass
class Task:
    name: str = "fake"
    train: ClientData = dataclasses.field(default_factory=clients)
    selection_metric: str = "accuracy"
    non_trainable: None = None


@dataclasses.dataclass
class Sampler:
    """Poisson sampling at rate 1/2; the third round's cohort is empty."""

    client_ids: tuple[str, ...] = tuple(f"client {i}" for i in range(8))

    def sample(self, round_number: int) -> tuple[str, ...]:
        if round_number == 3:
            return ()
        drawn = derived_generator("cohort", round_number).random(len(self.client_ids))
        return tuple(c for c, u in zip(self.client_ids, drawn) if u < 0.5)


class Engine:
    """Logistic regression by averaged gradient steps, with seeded noise."""

    def __init__(
        self, seed: int = 0, seconds: float = 0.0, diverge_in: Optional[int] = None
    ):
        self.seed = seed
        self.seconds = seconds
        self.diverge_in = diverge_in
        self.rounds: list[int] = []

    def initialize(self) -> State:
        weights = Weights([np.zeros(FEATURES, np.float32), np.float32(0.0)], [])
        aggregator = collections.OrderedDict(
            clip_norm=np.float32(1.0), momentum=(np.zeros(FEATURES), None)
        )
        return State(weights, np.int32(0), aggregator)

    def next(self, state: State, cohort: Any) -> tuple[State, Any]:
        round_number = int(state.client_work) + 1
        self.rounds.append(round_number)
        time.sleep(self.seconds)
        (w, b), _ = state.global_model_weights
        stacked = cohort.stacked()
        x, y = stacked["x"][stacked["mask"]], stacked["y"][stacked["mask"]]
        logits = x @ w + b
        p = 1 / (1 + np.exp(-logits))
        count = max(len(y), 1)
        gradient = x.T @ (p - y) / count
        noise = derived_generator("noise", self.seed, round_number).normal(
            scale=0.01, size=FEATURES
        )
        momentum = 0.5 * state.aggregator["momentum"][0] + gradient + noise
        if round_number == self.diverge_in:
            momentum = momentum * math.inf
        new = State(
            Weights(
                [
                    (w - 0.3 * momentum).astype(np.float32),
                    np.float32(b - 0.3 * np.sum(p - y) / count),
                ],
                [],
            ),
            np.int32(round_number),
            collections.OrderedDict(
                clip_norm=np.float32(state.aggregator["clip_norm"] * 0.99),
                momentum=(momentum, None),
            ),
        )
        loss = float(np.mean(np.logaddexp(0, -logits * (2 * y - 1)))) if len(y) else 0
        metrics = collections.OrderedDict(
            train=collections.OrderedDict(
                loss=np.float32(loss if len(y) else math.nan),
                accuracy=np.float32(np.mean((p > 0.5) == y) if len(y) else math.nan),
            ),
            cohort=collections.OrderedDict(
                clients=np.int32(len(cohort)),
                examples=np.float32(len(y)),
                excluded=np.int32(0),
            ),
            aggregator=collections.OrderedDict(
                clip_norm=new.aggregator["clip_norm"], noise_stddev=np.float32(0.01)
            ),
        )
        return new, metrics


class Evaluator:
    """Loss and accuracy of the logistic regression on every client."""

    splits = ("eval",)
    metrics: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, data: Optional[ClientData] = None):
        self.data = data or clients()
        self.calls = 0

    def evaluate(self, weights: Weights, split: str = "eval") -> Evaluation:
        self.calls += 1
        w, b = weights.trainable
        losses, hits = [], []
        for _, examples in self.data.items():
            logits = examples["x"] @ np.asarray(w) + b
            losses.append(np.logaddexp(0, -logits * (2 * examples["y"] - 1)))
            hits.append((logits > 0) == examples["y"])
        return Evaluation(
            {
                "loss": float(np.concatenate(losses).mean()),
                "accuracy": float(np.concatenate(hits).mean()),
            },
            tuple(self.data.client_ids),
            np.array([len(h) for h in hits]),
            {
                "loss": np.array([x.mean() for x in losses]),
                "accuracy": np.array([x.mean() for x in hits]),
            },
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """Stands in for a privacy plan."""

    noise_multiplier: float = 1.25
    clip: float = 1.0

    def record(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class Account:
    """Stands in for a privacy account: a write-ahead ledger, ε = sqrt(round) / 10."""

    noise_multiplier: Optional[float] = 1.25
    delta: Optional[float] = 1e-4
    charges_abandoned = False
    plan = Plan()
    measured_stddev = 0.01

    def __init__(self, path: Any, budget: float = math.inf):
        self.path = path
        self.budget = budget
        self.releases: dict[tuple[str, int], Any] = {}
        held = path.read_bytes() if path.exists() else b""
        whole = held[: held.rfind(b"\n") + 1]
        if whole != held:
            path.write_bytes(whole)
        self.charged = [json.loads(line)["round"] for line in whole.splitlines()]

    def check_measured(self, metrics: Any) -> None:
        stddev = float(metrics["aggregator"]["noise_stddev"])
        if abs(stddev - self.measured_stddev) > 1e-6:
            raise ValueError(
                f"the noise has stddev {stddev:g}, expected {self.measured_stddev:g}"
            )

    def charge_release(self, name: str, round_number: int, event: Any) -> float:
        self.releases[name, round_number] = event
        return self.epsilon_after(round_number) + len(self.releases)

    def shared_epsilon(self, rounds: int) -> Optional[float]:
        return None

    def epsilon_after(self, rounds: int) -> float:
        return math.sqrt(rounds) / 10

    def charge(self, round_number: int) -> float:
        if round_number not in self.charged:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"round": round_number}) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self.charged.append(round_number)
        return self.epsilon_after(round_number)

    def would_exceed(self, round_number: int) -> bool:
        return self.epsilon_after(round_number) > self.budget

    def positions(self) -> dict[str, Any]:
        return {"own": len(self.charged)}

    def check_positions(self, positions: Any) -> None:
        if len(self.charged) < positions["own"]:
            raise ValueError(f"{self.path} has lost its last lines")


def export(weights: Weights, path: Any) -> None:
    path.mkdir(parents=True, exist_ok=True)
    np.savez(path / "weights.npz", *weights.trainable)


def config(**changes: Any) -> program.RunConfig:
    settings: dict[str, Any] = {
        "rounds": 6,
        "evaluate_every": 2,
        "checkpoint_every": 2,
        "checkpoint_seconds": 1e6,
        "report": False,
    }
    return program.RunConfig(**{**settings, **changes})


@contextlib.contextmanager
def arguments(
    path: Any, *, hparams: Any = None, budget: float = math.inf, **options: Any
):
    """Opens the folder; gives the arguments of `program.run` and `program.rounds`."""
    options["config"] = options.get("config") or config()
    private = options.pop("private", True)
    seed = options.pop("run_seed", 7)
    with storage.RunFolder.open(
        path, {**HPARAMS, **(hparams or {})}, experiment="fake", run_seed=seed
    ) as folder:
        options.setdefault("engine", Engine(folder.run_seed))
        if private:
            options.setdefault("account", Account(folder.ledger_path, budget))
            options.setdefault("process_plan", Plan())
        options["task"] = options.get("task") or Task()
        options["evaluator"] = options.get("evaluator") or Evaluator()
        options.setdefault("sampler", Sampler())
        options.setdefault("exporter", export)
        yield {"folder": folder, **options}


def run(path: Any, **options: Any):
    """Opens the folder and runs; `options` go to `program.run`."""
    with arguments(path, **options) as given:
        return program.run(**given)


def without_seconds(path: Any) -> list[list[str]]:
    """metrics.csv but for its last column, which is the time."""
    lines = (path / "metrics.csv").read_text(encoding="utf-8").splitlines()
    rows = [line.split(",") for line in lines]
    if rows[0][-1] != "round_seconds":
        raise ValueError(f"expected round_seconds to be last, got {rows[0]}")
    return [row[:-1] for row in rows]


if __name__ == "__main__":
    result = run(
        sys.argv[1],
        config=config(rounds=int(sys.argv[2]), checkpoint_every=3),
        engine=Engine(7, float(sys.argv[3])),
    )
    if "tensorflow" in sys.modules:
        raise SystemExit("TensorFlow was imported")
