"""Workloads on random data for larger models, W5 to W8, in every environment.

Needs NumPy alone. A model is a list of weights in a fixed order, which every framework
fills in, so that all of them start from the same model.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Optional

import numpy as np

# A gradient costs twice what the predictions cost: for the inputs and for the weights.
_PASSES = 3


@dataclasses.dataclass(frozen=True)
class Weight:
    """A weight's shape, and how it is drawn.

    Attributes:
      shape: as Keras has it.
      kind: "kernel" (Glorot uniform), "recurrent", "embedding", "ones", "zeros", or
        "forget" (zeros, and ones for an LSTM's second gate).
    """

    shape: tuple[int, ...]
    kind: str = "kernel"

    def drawn(self, generator: np.random.Generator) -> np.ndarray:
        """The initial value, float32."""
        if self.kind == "ones":
            return np.ones(self.shape, np.float32)
        if self.kind in ("zeros", "forget"):
            value = np.zeros(self.shape, np.float32)
            if self.kind == "forget":
                units = self.shape[0] // 4
                value[units : 2 * units] = 1.0
            return value
        area = math.prod(self.shape[:-2])
        bound = math.sqrt(6.0 / (area * (self.shape[-2] + self.shape[-1])))
        if self.kind == "recurrent":
            bound = 1.0 / math.sqrt(self.shape[0])
        if self.kind == "embedding":
            bound = 0.05
        return generator.uniform(-bound, bound, self.shape).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Large:
    """Federated averaging of one local epoch of SGD on random data.

    Attributes:
      title: what it is.
      model: "lstm" or "transformer" (ids in, a next id out: the last one or each), or
        "resnet" (images in, a class out).
      num_classes: the vocabulary, or the classes of images.
      length: ids in a sequence, or the side of an image.
      width: units of a layer, or channels of the first stage.
      layers: layers, or stages of two residual blocks with twice the channels each.
      embedding: of ids, for the LSTM.
      projection: width of a layer after the LSTM; 0 for none.
      every_step: whether each id has a label, or a sequence has one.
      num_clients: the cohort, which is everyone.
      examples: of each client.
      batch_size: examples of a local step.
      client_rate: SGD learning rate of the clients.
    """

    title: str
    model: str
    num_classes: int
    length: int
    width: int
    layers: int
    embedding: int = 0
    projection: int = 0
    every_step: bool = True
    num_clients: int = 10
    examples: int = 100
    batch_size: int = 20
    client_rate: float = 0.05
    clip: Optional[float] = None

    @property
    def heads(self) -> int:
        """Attention heads of the transformer."""
        return 4

    def weights(self) -> list[Weight]:
        """The model's weights in their order."""
        kinds = {"lstm": _lstm, "transformer": _transformer, "resnet": _resnet}
        return list(kinds[self.model](self))

    def initial_weights(self) -> list[np.ndarray]:
        """Equal for all frameworks."""
        generator = np.random.default_rng(1)
        return [weight.drawn(generator) for weight in self.weights()]

    def clients(self) -> dict[str, dict[str, np.ndarray]]:
        """`{client: {"x": ..., "y": int32}}`; ids and labels are above 0."""
        generator = np.random.default_rng(0)
        return {
            f"client{i}": self._examples(generator) for i in range(self.num_clients)
        }

    def _examples(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        def ids(*shape: int) -> np.ndarray:
            # 0 is padding, which no example has.
            return generator.integers(1, self.num_classes, shape).astype(np.int32)

        if self.model == "resnet":
            shape = (self.examples, self.length, self.length, 3)
            return {
                "x": generator.random(shape, dtype=np.float32),
                "y": ids(self.examples),
            }
        x = ids(self.examples, self.length)
        y = ids(self.examples, self.length) if self.every_step else ids(self.examples)
        return {"x": x, "y": y}

    def flops(self) -> float:
        """Of a round: multiplications and additions of matrix products, forwards and
        backwards."""
        return 2.0 * _PASSES * self._products() * self.examples * self.num_clients

    def _products(self) -> float:
        """Multiplications of one example's predictions."""
        if self.model == "resnet":
            return sum(area * math.prod(weight.shape) for weight, area in _areas(self))
        steps = float(self.length)
        kernels = [w for w in self.weights() if w.kind in ("kernel", "recurrent")]
        if self.model == "lstm" and not self.every_step:
            last = math.prod(kernels.pop().shape)
            return last + steps * sum(math.prod(w.shape) for w in kernels)
        total = steps * sum(math.prod(w.shape) for w in kernels)
        if self.model == "transformer":
            # Queries with keys, and weights with values.
            total += self.layers * 2 * steps * steps * self.width
        return total


def _lstm(spec: Large) -> Iterator[Weight]:
    yield Weight((spec.num_classes, spec.embedding), "embedding")
    inputs = spec.embedding
    for _ in range(spec.layers):
        yield Weight((inputs, 4 * spec.width))
        yield Weight((spec.width, 4 * spec.width), "recurrent")
        yield Weight((4 * spec.width,), "forget")
        inputs = spec.width
    if spec.projection:
        yield Weight((inputs, spec.projection))
        yield Weight((spec.projection,), "zeros")
        inputs = spec.projection
    yield Weight((inputs, spec.num_classes))
    yield Weight((spec.num_classes,), "zeros")


def _transformer(spec: Large) -> Iterator[Weight]:
    width = spec.width
    yield Weight((spec.num_classes, width), "embedding")
    yield Weight((spec.length, width), "embedding")
    for _ in range(spec.layers):
        yield from (Weight((width,), "ones"), Weight((width,), "zeros"))
        for _ in ("query", "key", "value", "output"):
            yield from (Weight((width, width)), Weight((width,), "zeros"))
        yield from (Weight((width,), "ones"), Weight((width,), "zeros"))
        yield from (Weight((width, 4 * width)), Weight((4 * width,), "zeros"))
        yield from (Weight((4 * width, width)), Weight((width,), "zeros"))
    yield from (Weight((width,), "ones"), Weight((width,), "zeros"))
    yield Weight((width, spec.num_classes))
    yield Weight((spec.num_classes,), "zeros")


@dataclasses.dataclass(frozen=True)
class Block:
    """A residual block.

    Attributes:
      inputs: its channels before.
      channels: its channels after.
      stride: of its first convolution.
    """

    inputs: int
    channels: int
    stride: int

    @property
    def projects(self) -> bool:
        """Whether the skip connection has a convolution."""
        return self.stride != 1 or self.inputs != self.channels


def blocks(spec: Large) -> list[Block]:
    """The residual blocks in their order."""
    found, inputs = [], spec.width
    for stage in range(spec.layers):
        for place in range(2):
            stride = 2 if stage > 0 and place == 0 else 1
            found.append(Block(inputs, spec.width << stage, stride))
            inputs = spec.width << stage
    return found


def _areas(spec: Large) -> Iterator[tuple[Weight, int]]:
    """The residual network's kernels, each with the places that it is applied to."""
    side = spec.length
    yield Weight((3, 3, 3, spec.width)), side * side
    for block in blocks(spec):
        side //= block.stride
        yield Weight((3, 3, block.inputs, block.channels)), side * side
        yield Weight((3, 3, block.channels, block.channels)), side * side
        if block.projects:
            yield Weight((1, 1, block.inputs, block.channels)), side * side
    yield Weight((spec.width << (spec.layers - 1), spec.num_classes)), 1


def _norm(channels: int) -> Iterator[Weight]:
    yield Weight((channels,), "ones")
    yield Weight((channels,), "zeros")


def _resnet(spec: Large) -> Iterator[Weight]:
    yield Weight((3, 3, 3, spec.width))
    yield from _norm(spec.width)
    for block in blocks(spec):
        yield Weight((3, 3, block.inputs, block.channels))
        yield from _norm(block.channels)
        # As Keras lists them, by their distance from the output.
        yield Weight((3, 3, block.channels, block.channels))
        if block.projects:
            yield Weight((1, 1, block.inputs, block.channels))
        yield from _norm(block.channels)
        if block.projects:
            yield from _norm(block.channels)
    yield Weight((spec.width << (spec.layers - 1), spec.num_classes))
    yield Weight((spec.num_classes,), "zeros")


LARGE = {
    "W5": Large(
        "LEAF's Shakespeare LSTM 2 x 256, 10 clients x 100 sequences of 80",
        model="lstm",
        num_classes=80,
        length=80,
        width=256,
        layers=2,
        embedding=8,
        every_step=False,
    ),
    "W6": Large(
        "Stack Overflow LSTM 670, 10 clients x 64 sentences of 20",
        model="lstm",
        num_classes=10_004,
        length=20,
        width=670,
        layers=1,
        embedding=96,
        projection=96,
        examples=64,
        batch_size=16,
    ),
    "W7": Large(
        "ResNet-18 with group norm, CIFAR-100 shapes, 10 clients x 20",
        model="resnet",
        num_classes=100,
        length=32,
        width=64,
        layers=4,
        examples=20,
        client_rate=0.01,
    ),
    "W8": Large(
        "transformer, 4 layers of 192, 10 clients x 100 sequences of 80",
        model="transformer",
        num_classes=500,
        length=80,
        width=192,
        layers=4,
        client_rate=0.01,
    ),
}

# Of the same kinds, small enough to compare frameworks in seconds.
SMALL = {
    "W5": dataclasses.replace(LARGE["W5"], width=6, length=5, examples=4, batch_size=2),
    "W6": dataclasses.replace(
        LARGE["W6"], num_classes=20, width=6, length=5, examples=4, batch_size=2
    ),
    "W7": dataclasses.replace(
        LARGE["W7"], width=4, layers=2, length=8, examples=4, batch_size=2
    ),
    "W8": dataclasses.replace(
        LARGE["W8"], width=8, length=5, layers=2, examples=4, batch_size=2
    ),
}
SMALL = {
    f"{name}_small": dataclasses.replace(spec, num_clients=2, title=f"{name}, small")
    for name, spec in SMALL.items()
}


def get(name: str) -> Large:
    """The workload of that name, also a small one."""
    return {**LARGE, **SMALL}[name]
