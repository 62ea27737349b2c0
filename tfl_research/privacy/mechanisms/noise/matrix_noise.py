"""Draws the noise of banded matrix factorisation round by round."""

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
    """Draws row t of C^-1 ξ in round t, for a banded lower-triangular C.

    Choquette-Choo et al. 2023 (arXiv 2306.08153), Algorithm 1.

    With ξ_t independent noise, the round's noise is
    noise_t = (ξ_t - Σ_{j >= 1} C[t, t-j] noise_{t-j}) / C[t, t].
    The state keeps the noise of the last bands - 1 rounds. After the last row, the
    matrix begins again with its first row and new noise.

    The state has the matrix too, so that a resumed run continues with the same
    numbers.

    Attributes:
      rows: float64 `[rounds, bands]`; `rows[t, j]` is C[t, t-j], 0 for j > t.
    """

    rows: np.ndarray

    def initial_state(self, shapes: Sequence[Sequence[int]]) -> Any:
        """Returns the matrix, and zeros for the noise of earlier rounds.

        The noise is that of the last bands - 1 rounds (at least one), newest first,
        `[bands - 1, size]`.
        """
        past_rounds = max(1, self.rows.shape[1] - 1)
        return collections.OrderedDict(
            rows=tf.constant(self.rows, tf.float32),
            last=tf.zeros([past_rounds, static_size(shapes)]),
        )

    def next(
        self,
        state: Any,
        seed: tf.Tensor,
        round_number: tf.Tensor,
        like: Sequence[tf.Tensor],
    ) -> tuple[list[tf.Tensor], Any]:
        """Returns the noise of a round, and the next state.

        ξ in the formula of the class is `noise_processes.noise` with index 1.

        Args:
          state: see `initial_state`.
          seed: int64 `[2]`.
          round_number: int32 `[]`, from 0.
          like: tensors; the noise has their shapes.
        """
        rounds, bands = self.rows.shape
        row = tf.gather(state["rows"], round_number % rounds)
        past_noise = state["last"]
        round_noise = noise(seed, round_number, 1, past_noise[0])
        if bands > 1:
            earlier = tf.linalg.matvec(past_noise, row[1:], transpose_a=True)
            round_noise = round_noise - earlier
        round_noise = round_noise / row[0]
        past_noise = tf.concat([round_noise[tf.newaxis], past_noise[:-1]], axis=0)
        return split(round_noise, like), collections.OrderedDict(
            rows=state["rows"], last=past_noise
        )
