"""Lossy codes for updates, as pure functions, and how many bytes each sends."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from tfl_research import stateless_random
from tfl_research.clients.vectors import from_vector, size_of, to_vector

_FLOAT_BYTES = 4
_INDEX_BYTES = 4
_SEED_BYTES = 8


class Compressor(Protocol):
    """A lossy code: what the server decodes of an update, and what it costs to send."""

    @property
    def is_unbiased(self) -> bool:
        """Whether the decoded update is the update in expectation."""
        ...

    def decoded(self, update: Sequence[tf.Tensor], seed: tf.Tensor) -> list[tf.Tensor]:
        """What the server sees of an update, tensors of the same shapes.

        Args:
          update: float32 tensors of static shapes.
          seed: int32 `[2]`, the client's own in this round.
        """
        ...

    def encoded_bytes(self, specs: Sequence[tf.TensorSpec]) -> int:
        """Bytes that an update of these shapes takes when it is sent."""
        ...


def _kept(fraction: float, size: int) -> int:
    return max(1, math.ceil(fraction * size))


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1, got {fraction}")


def _only(vector: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """The vector, zero but at `places`, int32 `[k]`."""
    values = tf.gather(vector, places)
    return tf.scatter_nd(places[:, None], values, tf.shape(vector))


@dataclasses.dataclass(frozen=True)
class TopK:
    """The entries of largest magnitude (Aji and Heafield 2017, arXiv 1704.05021).

    A value and its index are sent for each, eight bytes.

    Attributes:
      fraction: k over the number of entries, rounded up.
    """

    fraction: float
    is_unbiased: bool = dataclasses.field(default=False, init=False)

    def __post_init__(self) -> None:
        _check_fraction(self.fraction)

    def decoded(self, update: Sequence[tf.Tensor], seed: tf.Tensor) -> list[tf.Tensor]:
        """See `Compressor.decoded`; of equal magnitudes the first count."""
        specs = [tf.TensorSpec(u.shape, u.dtype) for u in update]
        vector = to_vector(update)
        k = _kept(self.fraction, size_of(specs))
        return from_vector(
            _only(vector, tf.math.top_k(tf.abs(vector), k).indices), specs
        )

    def encoded_bytes(self, specs: Sequence[tf.TensorSpec]) -> int:
        """See `Compressor.encoded_bytes`."""
        return _kept(self.fraction, size_of(specs)) * (_FLOAT_BYTES + _INDEX_BYTES)


@dataclasses.dataclass(frozen=True)
class RandomK:
    """Entries drawn at random (Konečný et al. 2016, arXiv 1610.05492, section 3).

    The indices follow from a seed, so that values alone are sent.

    Attributes:
      fraction: k over the number of entries, rounded up.
      rescale: values are divided by the fraction, which makes the code unbiased;
        without, it is a contraction, as error feedback needs it.
    """

    fraction: float
    rescale: bool = True

    def __post_init__(self) -> None:
        _check_fraction(self.fraction)

    @property
    def is_unbiased(self) -> bool:
        """See `Compressor.is_unbiased`."""
        return self.rescale

    def decoded(self, update: Sequence[tf.Tensor], seed: tf.Tensor) -> list[tf.Tensor]:
        """See `Compressor.decoded`."""
        specs = [tf.TensorSpec(u.shape, u.dtype) for u in update]
        size = size_of(specs)
        k = _kept(self.fraction, size)
        drawn = tf.math.top_k(stateless_random.uniform([size], seed), k).indices
        scale = size / k if self.rescale else 1.0
        return from_vector(scale * _only(to_vector(update), drawn), specs)

    def encoded_bytes(self, specs: Sequence[tf.TensorSpec]) -> int:
        """See `Compressor.encoded_bytes`."""
        return _kept(self.fraction, size_of(specs)) * _FLOAT_BYTES + _SEED_BYTES


@dataclasses.dataclass(frozen=True)
class Quantized:
    """Entries rounded at random to few levels (QSGD, Alistarh et al. 2017, arXiv
    1610.02132, section 3.1, with each tensor's largest magnitude as its norm).

    With s = 2^(bits - 1) - 1 levels beside zero, |v| / max is rounded to a multiple of
    1/s, up or down so that its expectation is kept.

    Attributes:
      bits: of an entry, its sign included; 2 to 16.
    """

    bits: int
    is_unbiased: bool = dataclasses.field(default=True, init=False)

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise ValueError(f"bits must be from 2 to 16, got {self.bits}")

    def decoded(self, update: Sequence[tf.Tensor], seed: tf.Tensor) -> list[tf.Tensor]:
        """See `Compressor.decoded`."""
        levels = float(2 ** (self.bits - 1) - 1)
        found = []
        for index, tensor in enumerate(update):
            own = stateless_random.fold_in(seed, index)
            largest = tf.reduce_max(tf.abs(tensor))
            scaled = levels * tf.math.divide_no_nan(tf.abs(tensor), largest)
            chance = stateless_random.uniform(tensor.shape, own)
            rounded = tf.minimum(tf.floor(scaled + chance), levels)
            found.append(tf.sign(tensor) * rounded * largest / levels)
        return found

    def encoded_bytes(self, specs: Sequence[tf.TensorSpec]) -> int:
        """See `Compressor.encoded_bytes`."""
        return sum(
            math.ceil(size_of([spec]) * self.bits / 8) + _FLOAT_BYTES for spec in specs
        )


@dataclasses.dataclass(frozen=True)
class LowRank:
    """Matrices of low rank (PowerSGD, Vogels et al. 2019, arXiv 1905.13727,
    Algorithm 1, from a random start each round).

    A tensor of two or more axes is a matrix M `[all axes but the last, last]`; with
    Q random, P = orthonormalised M Q and M is sent as P and M^T P. Tensors that are
    no larger than their factors are sent whole.

    Attributes:
      rank: r, at least 1.
    """

    rank: int
    is_unbiased: bool = dataclasses.field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")

    def _factors(self, shape: Sequence[int]) -> tuple[int, int] | None:
        """Rows and columns of the matrix, or None where it is sent whole."""
        if len(shape) < 2:
            return None
        rows, columns = int(np.prod(shape[:-1])), int(shape[-1])
        if self.rank * (rows + columns) >= rows * columns:
            return None
        return rows, columns

    def decoded(self, update: Sequence[tf.Tensor], seed: tf.Tensor) -> list[tf.Tensor]:
        """See `Compressor.decoded`."""
        found = []
        for index, tensor in enumerate(update):
            shape = self._factors(tensor.shape.as_list())
            if shape is None:
                found.append(tensor)
                continue
            matrix = tf.reshape(tensor, shape)
            own = stateless_random.fold_in(seed, index)
            start = stateless_random.normal([shape[1], self.rank], own)
            basis = _orthonormal(matrix @ start, self.rank)
            found.append(
                tf.reshape(basis @ (tf.transpose(basis) @ matrix), tensor.shape)
            )
        return found

    def encoded_bytes(self, specs: Sequence[tf.TensorSpec]) -> int:
        """See `Compressor.encoded_bytes`."""
        total = 0
        for spec in specs:
            shape = self._factors(spec.shape.as_list())
            numbers = size_of([spec]) if shape is None else self.rank * sum(shape)
            total += numbers * _FLOAT_BYTES
        return total


def _orthonormal(columns: tf.Tensor, rank: int) -> tf.Tensor:
    """Gram-Schmidt, twice for accuracy; columns that are dependent become zero."""
    basis: list[tf.Tensor] = []
    for index in range(rank):
        column = columns[:, index]
        length = tf.norm(column)
        for _ in range(2):
            for other in basis:
                column -= tf.reduce_sum(column * other) * other
        left = tf.norm(column)
        independent = left > 1e-6 * length
        column = tf.where(
            independent, tf.math.divide_no_nan(column, left), tf.zeros_like(column)
        )
        basis.append(column)
    return tf.stack(basis, axis=1)
