"""The task that every program trains, as files, so that all have the same arrays.

Needs NumPy and Python 3.8 alone: programs import it in environments of their own.
`reference` trains it by hand, and shares no code with any framework.
"""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

import numpy as np

NUM_CLIENTS = 10
EXAMPLES = 380
BATCH_SIZE = 20
RATE = 0.1
PIXELS, HIDDEN, CLASSES = 784, 128, 10

# Names of environment variables that the driver sets for a program.
TASK = "COMPARE_TASK"
OUTPUT = "COMPARE_OUTPUT"
ROUNDS = "COMPARE_ROUNDS"

if TYPE_CHECKING:
    # Python 3.8, which a framework needs, cannot make it.
    Arrays = tuple[np.ndarray, np.ndarray]


def _folder() -> pathlib.Path:
    return pathlib.Path(os.environ[TASK])


def output() -> pathlib.Path:
    """A folder for what the program keeps: checkpoints, logs."""
    return pathlib.Path(os.environ[OUTPUT])


def rounds() -> int:
    """How many rounds a whole run has."""
    return int(os.environ[ROUNDS])


def client(number: int) -> Arrays:
    """A client's images float32 `[380, 784]` and labels int32 `[380]`, in order."""
    with np.load(_folder() / f"client{number}.npz") as file:
        return file["x"], file["y"]


def initial() -> list[np.ndarray]:
    """The initial weights: kernel `[784, 128]`, bias, kernel `[128, 10]`, bias."""
    with np.load(_folder() / "initial.npz") as file:
        return [file[name] for name in sorted(file.files)]


def glorot(seed: int) -> list[np.ndarray]:
    """Weights as Keras draws them by default: Glorot uniform, and zeros."""
    generator = np.random.default_rng(seed)
    weights = []
    for shape in ((PIXELS, HIDDEN), (HIDDEN, CLASSES)):
        bound = np.sqrt(6.0 / sum(shape))
        weights.append(generator.uniform(-bound, bound, shape).astype(np.float32))
        weights.append(np.zeros(shape[1], np.float32))
    return weights


def write(
    folder: pathlib.Path, clients: list[Arrays], test: Arrays, weights: list[np.ndarray]
) -> None:
    """Writes what `client` and `initial` read, and test.npz."""
    for number, (x, y) in enumerate(clients):
        np.savez(folder / f"client{number}.npz", x=x, y=y)
    np.savez(folder / "test.npz", x=test[0], y=test[1])
    named = {f"{index}": array for index, array in enumerate(weights)}
    np.savez(folder / "initial.npz", **named)


def logits(weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """The network: a hidden layer of 128 units with ReLU."""
    return np.maximum(x @ weights[0] + weights[1], 0) @ weights[2] + weights[3]


def accuracy(weights: list[np.ndarray], test: Arrays) -> float:
    """The share of test images whose largest logit is their label's."""
    x, y = test
    return float(np.mean(logits(weights, x).argmax(axis=1) == y))


def distance(ones: list[np.ndarray], others: list[np.ndarray]) -> float:
    """The l2 norm of the difference of two models."""
    squares = (np.sum((a.astype(float) - b) ** 2) for a, b in zip(ones, others))
    return float(np.sqrt(sum(squares)))


def _local_epoch(weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> None:
    """One epoch of SGD on the mean cross-entropy of minibatches, in order; in place."""
    for start in range(0, len(y), BATCH_SIZE):
        inputs, labels = x[start : start + BATCH_SIZE], y[start : start + BATCH_SIZE]
        hidden = np.maximum(inputs @ weights[0] + weights[1], 0)
        outputs = hidden @ weights[2] + weights[3]
        outputs = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        error = outputs / outputs.sum(axis=1, keepdims=True)
        error[np.arange(len(labels)), labels] -= 1
        error /= len(labels)
        back = (error @ weights[2].T) * (hidden > 0)
        gradients = (inputs.T @ back, back.sum(0), hidden.T @ error, error.sum(0))
        for weight, gradient in zip(weights, gradients):
            weight -= np.float32(RATE) * gradient


def reference(
    clients: list[Arrays], weights: list[np.ndarray], num_rounds: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Federated averaging by hand (McMahan et al. 2017, arXiv 1602.05629, Algorithm 1).

    Returns:
      The models after the first and after the last round.
    """
    first = current = weights
    for number in range(num_rounds):
        total = [np.zeros(array.shape) for array in current]
        for x, y in clients:
            local = [array.copy() for array in current]
            _local_epoch(local, x, y)
            for accumulated, array in zip(total, local):
                accumulated += len(y) * array.astype(float)
        examples = sum(len(y) for _, y in clients)
        current = [(array / examples).astype(np.float32) for array in total]
        if number == 0:
            first = current
    return first, current
