"""Neighbouring data: twelve clients, of which one is changed in some way."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

CHANGED = "client 3"
Clients = dict[str, dict[str, np.ndarray]]


def build_model() -> Any:
    """Logistic regression with two logits."""
    import tensorflow as tf

    return tf.keras.Sequential(
        [tf.keras.layers.Input([3]), tf.keras.layers.Dense(2, name="logits")]
    )


def clients() -> Clients:
    """Clients of distinct sizes, so that a sum of sizes tells who took part."""
    generator = np.random.default_rng(0)
    found = {}
    for number in range(12):
        x = generator.normal(size=(8 + 2**number % 17 + number, 3)).astype(np.float32)
        found[f"client {number}"] = {"x": x, "y": (x[:, 0] > 0).astype(np.int32)}
    return found


def emptied(data: Clients) -> None:
    """The client has no examples, as if it had never been there."""
    data[CHANGED] = {name: array[:0] for name, array in data[CHANGED].items()}


def ten_times(data: Clients) -> None:
    """The client has ten times as many rows."""
    data[CHANGED] = {
        name: np.concatenate([array] * 10) for name, array in data[CHANGED].items()
    }


def huge(data: Clients) -> None:
    """A feature of the client is a million."""
    data[CHANGED]["x"] = data[CHANGED]["x"].copy()
    data[CHANGED]["x"][0, 1] = 1e6


def overflowing(data: Clients) -> None:
    """The client's update is not finite."""
    data[CHANGED]["x"] = np.full_like(data[CHANGED]["x"], 3e38)


def flipped(data: Clients) -> None:
    """All labels of the client are the other class."""
    data[CHANGED]["y"] = 1 - data[CHANGED]["y"]


CHANGES: dict[str, Callable[[Clients], None]] = {
    change.__name__: change
    for change in (emptied, ten_times, huge, overflowing, flipped)
}


def neighbours(change: Callable[[Clients], None]) -> tuple[Clients, Clients]:
    """The clients, and the clients with the change."""
    one, other = clients(), clients()
    change(other)
    return one, other


def unchanged(data: Clients) -> None:
    """No change."""


def other_record(data: Clients) -> None:
    """One record of the client has other features."""
    data[CHANGED]["x"] = data[CHANGED]["x"].copy()
    data[CHANGED]["x"][2] += 3


def own(task: Any, *, changed: bool) -> Any:
    """The task with its training data as a user's own.

    Args:
      task: a built-in task.
      changed: whether the second training client has no training example.
    """
    chosen = task.train.client_ids[1]

    def load(client_id: str) -> dict[str, np.ndarray]:
        examples = task.train.load(client_id)
        if not changed or client_id != chosen:
            return examples
        return {name: array[:0] for name, array in examples.items()}

    return dataclasses.replace(task, train=dataclasses.replace(task.train, load=load))


def written(folder: pathlib.Path, change: Callable[[Clients], None]) -> pathlib.Path:
    """The clients as CSV files with a schema.json, after the change."""
    data = clients()
    change(data)
    folder.mkdir()
    for name, arrays in data.items():
        rows = [
            ",".join([*(f"{value:.6f}" for value in row), str(label)])
            for row, label in zip(arrays["x"], arrays["y"])
        ]
        text = "\n".join(["a,b,c,y", *rows]) + "\n"
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    column = {"minimum": -10, "maximum": 10, "missing": False}
    schema = {"columns": dict.fromkeys("abc", column), "label": {"classes": [0, 1]}}
    (folder / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    return folder
