"""Lossy codes for updates: encoding to messages, and decoding."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol

import tensorflow as tf

from tfl_research import stateless_random
from tfl_research.clients import messages
from tfl_research.clients.vectors import from_vector, size_of, to_vector


class Compressor(Protocol):
    """A lossy code: encodes updates to messages, and decodes messages."""

    @property
    def is_unbiased(self) -> bool:
        """Whether the expectation of the decoded update is the update."""
        ...

    @property
    def integer_bits(self) -> int:
        """Bits of an entry of an integer tensor in a message."""
        ...

    def encode(self, update: Sequence[tf.Tensor], seed: tf.Tensor) -> list[tf.Tensor]:
        """Encodes an update to float32 and int32 tensors of static shapes.

        Args:
          update: float32 tensors of static shapes.
          seed: int32 `[2]`, seed of the client in this round.
        """
        ...

    def decode(
        self, message: Sequence[tf.Tensor], specs: Sequence[tf.TensorSpec]
    ) -> list[tf.Tensor]:
        """Decodes a message to tensors of these shapes."""
        ...


def specs_of(update: Sequence[tf.Tensor]) -> list[tf.TensorSpec]:
    """Shapes and dtypes of an update."""
    return [tf.TensorSpec(u.shape, u.dtype) for u in update]


def decoded(
    compressor: Compressor, update: Sequence[tf.Tensor], seed: tf.Tensor
) -> list[tf.Tensor]:
    """Encodes and decodes an update."""
    return compressor.decode(compressor.encode(update, seed), specs_of(update))


def encoded_bytes(compressor: Compressor, specs: Sequence[tf.TensorSpec]) -> int:
    """Computes the length of a message in bytes; it depends only on the shapes.

    The length is measured on the message of an update of zeros.
    """
    zeros = [tf.zeros(spec.shape, spec.dtype) for spec in specs]
    message = compressor.encode(zeros, tf.zeros([2], tf.int32))
    sent = messages.to_bytes(
        [part.numpy() for part in message], compressor.integer_bits
    )
    return len(sent)


def _kept(fraction: float, size: int) -> int:
    # In floating point, 0.07 * 100 is slightly above 7.
    return max(1, math.ceil(fraction * size - 1e-9))


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1, got {fraction}")


def _placed(
    values: tf.Tensor, places: tf.Tensor, specs: Sequence[tf.TensorSpec]
) -> list[tf.Tensor]:
    """Makes tensors of zeros with values at `places` of their vector, int32 `[k]`."""
    vector = tf.scatter_nd(places[:, None], values, [size_of(specs)])
    return from_vector(vector, specs)


@dataclasses.dataclass(frozen=True)
class TopK:
    """Sends entries of largest magnitude (Aji and Heafield 2017, arXiv 1704.05021).

    The message has the indices and the values. Of entries with equal magnitude, the
    first is sent.

    Attributes:
      fraction: k over the number of entries, rounded up.
    """

    fraction: float
    is_unbiased: bool = dataclasses.field(default=False, init=False)
    integer_bits: int = dataclasses.field(default=32, init=False)

    def __post_init__(self) -> None:
        _check_fraction(self.fraction)

    def encode(self, update: Sequence[tf.Tensor], seed: tf.Tensor) -> list[tf.Tensor]:
        """Places and values of the largest entries: int32 `[k]` and float32 `[k]`."""
        vector = to_vector(update)
        k = _kept(self.fraction, size_of(specs_of(update)))
        places = tf.math.top_k(tf.abs(vector), k).indices
        return [places, tf.gather(vector, places)]

    def decode(
        self, message: Sequence[tf.Tensor], specs: Sequence[tf.TensorSpec]
    ) -> list[tf.Tensor]:
        """Decodes a message to tensors of these shapes."""
        places, values = message
        return _placed(values, places, specs)


@dataclasses.dataclass(frozen=True)
class RandomK:
    """Sends random entries (Konečný et al. 2016, arXiv 1610.05492, section 3).

    The seed determines the indices, so the message has the seed and the values.

    Attributes:
      fraction: k over the number of entries, rounded up.
      rescale: whether values are divided by the fraction, which makes the code
        unbiased. Otherwise the code is a contraction, which error feedback needs.
    """

    fraction: float
    rescale: bool = True
    integer_bits: int = dataclasses.field(default=32, init=False)

    def __post_init__(self) -> None:
        _check_fraction(self.fraction)

    @property
    def is_unbiased(self) -> bool:
        """Whether the expectation of the decoded update is the update."""
        return self.rescale

    def _places(self, specs: Sequence[tf.TensorSpec], seed: tf.Tensor) -> tf.Tensor:
        size = size_of(specs)
        k = _kept(self.fraction, size)
        return tf.math.top_k(stateless_random.uniform([size], seed), k).indices

    def encode(self, update: Sequence[tf.Tensor], seed: tf.Tensor) -> list[tf.Tensor]:
        """The seed of the places, int32 `[2]`, and the entries, float32 `[k]`."""
        places = self._places(specs_of(update), seed)
        return [seed, tf.gather(to_vector(update), places)]

    def decode(
        self, message: Sequence[tf.Tensor], specs: Sequence[tf.TensorSpec]
    ) -> list[tf.Tensor]:
        """Decodes a message to tensors of these shapes."""
        seed, values = message
        size = size_of(specs)
        scale = size / _kept(self.fraction, size) if self.rescale else 1.0
        return _placed(scale * values, self._places(specs, seed), specs)


@dataclasses.dataclass(frozen=True)
class Quantized:
    """Rounds entries at random to few levels.

    This is QSGD (Alistarh et al. 2017, arXiv 1610.02132, section 3.1), with each
    tensor's largest magnitude as its norm. With s = 2^(bits - 1) - 1 levels besides
    zero, `|v| / max` is rounded up or down at
    random to a multiple of 1/s, so that the expectation does not change. For each
    tensor the message has the multiples, counted from 0 for -s, and the largest
    magnitude.

    Attributes:
      bits: bits of an entry with its sign, 2 to 16.
    """

    bits: int
    is_unbiased: bool = dataclasses.field(default=True, init=False)

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise ValueError(f"bits must be from 2 to 16, got {self.bits}")

    @property
    def integer_bits(self) -> int:
        """Bits of an entry of an integer tensor in a message."""
        return self.bits

    @property
    def _levels(self) -> int:
        return 2 ** (self.bits - 1) - 1

    def encode(self, update: Sequence[tf.Tensor], seed: tf.Tensor) -> list[tf.Tensor]:
        """Levels, int32, and a scale, float32 `[]`, for each tensor."""
        levels = float(self._levels)
        chances = stateless_random.uniforms([tensor.shape for tensor in update], seed)
        message = []
        for tensor, chance in zip(update, chances):
            largest = tf.reduce_max(tf.abs(tensor))
            scaled = levels * tf.math.divide_no_nan(tf.abs(tensor), largest)
            rounded = tf.minimum(tf.floor(scaled + chance), levels)
            signed = tf.sign(tensor) * rounded + levels
            message += [tf.cast(signed, tf.int32), largest]
        return message

    def decode(
        self, message: Sequence[tf.Tensor], specs: Sequence[tf.TensorSpec]
    ) -> list[tf.Tensor]:
        """Decodes a message to tensors of these shapes."""
        levels = float(self._levels)
        return [
            (tf.cast(codes, tf.float32) - levels) * largest / levels
            for codes, largest in zip(message[::2], message[1::2])
        ]
