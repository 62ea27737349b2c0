"""Workloads on random images, W1 to W4 and W9, for contenders in every environment.

Needs NumPy alone.
"""

from __future__ import annotations

import dataclasses
from typing import Optional

import numpy as np

EXAMPLES = 100
BATCH_SIZE = 20
CLIENT_RATE = 0.01
NOISE_MULTIPLIER = 1.0
# Relative difference of the norms of first updates, above which the work is not the
# same. Contenders draw their batches, dropout and noise anew.
NORM_TOLERANCE = 0.05


@dataclasses.dataclass(frozen=True)
class Images:
    """Federated averaging of one local epoch of SGD on random images.

    Attributes:
      title: what it is.
      num_clients: the cohort, which is everyone.
      model: "mlp" (784-128-10) or "cnn" (the EMNIST CNN of Reddi et al. 2020).
      clip: l2 norm clip of a Gaussian mechanism with `NOISE_MULTIPLIER` on the sum
        of the clients' model deltas, or None.
      examples: number of examples of each client.
      record_clip: l2 norm clip of each example's gradient in local DP-SGD with
        `NOISE_MULTIPLIER`, or None. A local step takes an example with probability
        `batch_size / examples`.
      batch_size: examples of a local step.
      client_rate: SGD learning rate of the clients.
    """

    title: str
    num_clients: int
    model: str
    clip: Optional[float] = None
    examples: int = EXAMPLES
    record_clip: Optional[float] = None
    batch_size: int = BATCH_SIZE
    client_rate: float = CLIENT_RATE

    @property
    def norm_tolerance(self) -> float:
        """The difference of norms up to which the work is the same.

        `NORM_TOLERANCE`, and more where dropout decides about a tiny update.

        The norm of W3's update was 0.0152 to 0.0173 for five seeds of one torch
        program, and 0.0100 without dropout.
        """
        has_dropout = self.model == "cnn" and self.record_clip is None
        return 0.2 if has_dropout else NORM_TOLERANCE

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return (784,) if self.model == "mlp" else (28, 28, 1)

    @property
    def num_classes(self) -> int:
        """How many labels there are."""
        return 10 if self.model == "mlp" else 62

    @property
    def kernels(self) -> list[tuple[int, ...]]:
        """Shapes of the layers' kernels, inputs before outputs."""
        if self.model == "mlp":
            return [(784, 128), (128, self.num_classes)]
        dense = [(64 * 12 * 12, 128), (128, self.num_classes)]
        return [(3, 3, 1, 32), (3, 3, 32, 64), *dense]

    def initial_weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(kernel, bias) of each layer, equal for all peers: Glorot uniform, zeros."""
        generator = np.random.default_rng(1)
        layers = []
        for shape in self.kernels:
            area = int(np.prod(shape[:-2]))
            bound = np.sqrt(6.0 / (area * (shape[-2] + shape[-1])))
            kernel = generator.uniform(-bound, bound, shape).astype(np.float32)
            layers.append((kernel, np.zeros(shape[-1], np.float32)))
        return layers

    def clients(self) -> dict[str, dict[str, np.ndarray]]:
        """`{client: {"x": [examples, *shape] float32, "y": [examples] int32}}`."""
        generator = np.random.default_rng(0)
        return {
            f"client{i}": self._examples(generator) for i in range(self.num_clients)
        }

    def client(self, client_id: str) -> dict[str, np.ndarray]:
        """One client's examples, made anew from its id, "client" and a number."""
        seed = int(client_id[len("client") :])
        return self._examples(np.random.default_rng((2, seed)))

    def _examples(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        return {
            "x": generator.random((self.examples, *self.shape), dtype=np.float32),
            "y": generator.integers(0, self.num_classes, self.examples).astype(
                np.int32
            ),
        }


IMAGES = {
    "W1": Images("MLP 784-128-10, 10 clients x 100", 10, "mlp"),
    "W2": Images("MLP 784-128-10, 100 clients x 100", 100, "mlp"),
    "W3": Images("EMNIST CNN, 10 clients x 100", 10, "cnn"),
    "W4": Images("W1 with clip and Gaussian noise", 10, "mlp", clip=0.1),
    "W9": Images("W3 with record-level DP-SGD", 10, "cnn", record_clip=1.0),
}
