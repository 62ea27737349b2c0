"""Low-rank code: matrices are sent as two factors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfl_research import stateless_random


@dataclasses.dataclass(frozen=True)
class LowRank:
    """Approximates tensors by matrices of low rank.

    This is PowerSGD (Vogels et al. 2019, arXiv 1905.13727, Algorithm 1), from a random
    start in each round. A tensor of two or more axes is a matrix M
    `[all axes but the last, last]`. With a random Q, P is the orthonormalised M Q, and
    the message has P and P^T M. Tensors that are not larger than their factors are sent
    without the code.

    Attributes:
      rank: r, at least 1.
    """

    rank: int
    is_unbiased: bool = dataclasses.field(default=False, init=False)
    integer_bits: int = dataclasses.field(default=32, init=False)

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")

    def _factors(self, shape: Sequence[int]) -> tuple[int, int] | None:
        """Rows and columns of the matrix; None if the tensor is sent as it is."""
        if len(shape) < 2:
            return None
        rows, columns = int(np.prod(shape[:-1])), int(shape[-1])
        if self.rank * (rows + columns) >= rows * columns:
            return None
        return rows, columns

    def encode(self, update: Sequence[tf.Tensor], seed: tf.Tensor) -> list[tf.Tensor]:
        """The factors `[rows, r]` and `[r, columns]` of each tensor.

        A tensor that is not larger than its factors stays as it is.
        """
        message = []
        shapes = [self._factors(tensor.shape.as_list()) for tensor in update]
        starts = iter(
            stateless_random.normals(
                [(shape[1], self.rank) for shape in shapes if shape is not None], seed
            )
        )
        for tensor, shape in zip(update, shapes):
            if shape is None:
                message.append(tensor)
                continue
            matrix = tf.reshape(tensor, shape)
            start = next(starts)
            basis = _orthonormal(matrix @ start, self.rank)
            message += [basis, tf.transpose(basis) @ matrix]
        return message

    def decode(
        self, message: Sequence[tf.Tensor], specs: Sequence[tf.TensorSpec]
    ) -> list[tf.Tensor]:
        """Decodes a message to tensors of these shapes."""
        parts, tensors = iter(message), []
        for spec in specs:
            first = next(parts)
            if self._factors(spec.shape.as_list()) is not None:
                first = tf.reshape(first @ next(parts), spec.shape)
            tensors.append(first)
        return tensors


def _orthonormal(columns: tf.Tensor, rank: int) -> tf.Tensor:
    """Applies Gram-Schmidt, twice for accuracy; dependent columns become zero."""
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
