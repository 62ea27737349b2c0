"""Noise of banded matrix factorisation, streamed round by round."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfl_research.privacy.mechanisms.noise.noise_processes import (
    noise,
    split,
    static_size,
)


@dataclasses.dataclass(frozen=True, eq=False)
class MatrixNoise:
    """Row t of C^-1 ξ for a banded lower-triangular C (arXiv 2306.08153, Algorithm 1).

    With ξ_t independent noise, the round's is
    noise_t = (ξ_t - Σ_{j >= 1} C[t, t-j] noise_{t-j}) / C[t, t],
    for which the last bands - 1 rounds' noise is kept. After the matrix' last row
    comes its first again: the next rounds are a new matrix, of new noise.

    The state holds the matrix too, so that a resumed run goes on with the numbers
    that it began with.

    Attributes:
      rows: float64 `[rounds, bands]`; `rows[t, j]` is C[t, t-j], 0 for j > t.
    """

    rows: np.ndarray

    def initial_state(self, shapes: Sequence[Sequence[int]]) -> Any:
        """The matrix, and the last rounds' noise, newest first: `[bands - 1, size]`
        (at least one)."""
        kept = max(1, self.rows.shape[1] - 1)
        return collections.OrderedDict(
            rows=tf.constant(self.rows, tf.float32),
            last=tf.zeros([kept, static_size(shapes)]),
        )

    def next(
        self,
        state: Any,
        seed: tf.Tensor,
        round_number: tf.Tensor,
        like: Sequence[tf.Tensor],
    ) -> tuple[list[tf.Tensor], Any]:
        """See `NoiseProcess.next`; ξ is `noise_processes.noise` of index 1."""
        rounds, bands = self.rows.shape
        row, last = tf.gather(state["rows"], round_number % rounds), state["last"]
        drawn = noise(seed, round_number, 1, last[0])
        if bands > 1:
            drawn = drawn - tf.linalg.matvec(last, row[1:], transpose_a=True)
        drawn = drawn / row[0]
        last = tf.concat([drawn[tf.newaxis], last[:-1]], axis=0)
        return split(drawn, like), collections.OrderedDict(
            rows=state["rows"], last=last
        )
