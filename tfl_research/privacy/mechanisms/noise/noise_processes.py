"""The interface of noise processes, and independent Gaussian noise."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Protocol

import tensorflow as tf

from tfl_research import stateless_random


class NoiseProcess(Protocol):
    """A stream of noise, one draw for each round, in units of a standard deviation.

    The noise is a function of (state, seed, round) alone, so that a resumed run
    releases the same noise again.
    """

    def initial_state(self, shapes: Sequence[Sequence[int]]) -> Any:
        """Returns the first state: a structure of tensors of fixed shapes, or ().

        Args:
          shapes: the shapes of the values that the noise is for, in `tf.nest`'s order.

        Raises:
          ValueError: the state depends on a shape that is not known.
        """

    def next(
        self,
        state: Any,
        seed: tf.Tensor,
        round_number: tf.Tensor,
        like: Sequence[tf.Tensor],
    ) -> tuple[list[tf.Tensor], Any]:
        """Returns the round's noise, shaped like the values, and the new state.

        Args:
          state: the state after the previous round.
          seed: secret, int64 `[2]`.
          round_number: int32 `[]`, from 0.
          like: the values, in `tf.nest`'s order.
        """


def noise(seed: tf.Tensor, round_number: tf.Tensor, index: int, like: Any) -> Any:
    """Draws standard normal noise, shaped like a tensor, from (seed, round, index).

    The low bits of floating-point Gaussian noise leak information (Mironov 2012). So
    this noise is for research, and does not protect a deployment.
    """
    fold = stateless_random.fold_in
    return stateless_random.normal(
        tf.shape(like), fold(fold(seed, round_number), index)
    )


def static_size(shapes: Sequence[Sequence[int]]) -> int:
    """Counts the scalars in values of these shapes.

    Raises:
      ValueError: a shape is not known before the run.
    """
    listed = [list(shape) for shape in shapes]
    if any(size is None for shape in listed for size in shape):
        raise ValueError(
            f"correlated noise needs values of known shape, got the shapes {listed}"
        )
    return sum(math.prod(shape) for shape in listed)


def split(vector: tf.Tensor, like: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Splits a flat vector into parts with the shapes of `like`."""
    sizes = [static_size([value.shape]) for value in like]
    parts = tf.split(vector, sizes)
    return [tf.reshape(part, value.shape) for part, value in zip(parts, like)]


@dataclasses.dataclass(frozen=True)
class IndependentNoise:
    """Draws new Gaussian noise in every round, as in DP-SGD; it has no state."""

    def initial_state(self, shapes: Sequence[Sequence[int]]) -> Any:
        """Returns ()."""
        del shapes
        return ()

    def next(
        self,
        state: Any,
        seed: tf.Tensor,
        round_number: tf.Tensor,
        like: Sequence[tf.Tensor],
    ) -> tuple[list[tf.Tensor], Any]:
        """Returns the round's noise, shaped like the values, and ()."""
        # Index 0 is for the clipped count of an adaptive clip. A single draw serves all
        # values, since each draw takes some twenty operations.
        sizes = [tf.size(value) for value in like]
        vector = noise(seed, round_number, 1, tf.zeros([tf.add_n(sizes)]))
        parts = tf.split(vector, sizes, num=len(like))
        return [tf.reshape(p, tf.shape(v)) for p, v in zip(parts, like)], state
