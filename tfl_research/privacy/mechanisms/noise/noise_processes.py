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
        """A structure of tensors, fixed in shape, or () for none.

        Args:
          shapes: the shapes of the values that the noise is for, in `tf.nest`'s order.

        Raises:
          ValueError: an unknown shape on which the state depends.
        """

    def next(
        self,
        state: Any,
        seed: tf.Tensor,
        round_number: tf.Tensor,
        like: Sequence[tf.Tensor],
    ) -> tuple[list[tf.Tensor], Any]:
        """The round's noise, shaped like the values, and the new state.

        Args:
          state: after the previous round.
          seed: secret, int64 `[2]`.
          round_number: int32 `[]`, from 0.
          like: the values, in `tf.nest`'s order.
        """


def noise(seed: tf.Tensor, round_number: tf.Tensor, index: int, like: Any) -> Any:
    """Standard normal noise shaped like a tensor: a function of (seed, round, index).

    Floating-point Gaussian noise leaks in its low bits (Mironov 2012): this is for
    research, not for protecting a deployment.
    """
    fold = stateless_random.fold_in
    return stateless_random.normal(
        tf.shape(like), fold(fold(seed, round_number), index)
    )


def static_size(shapes: Sequence[Sequence[int]]) -> int:
    """The number of scalars in values of these shapes.

    Raises:
      ValueError: a size is not known before the run.
    """
    listed = [list(shape) for shape in shapes]
    if any(size is None for shape in listed for size in shape):
        raise ValueError(
            f"correlated noise needs values of known shape, got the shapes {listed}"
        )
    return sum(math.prod(shape) for shape in listed)


def split(vector: tf.Tensor, like: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """A flat vector as parts with the shapes of `like`."""
    sizes = [static_size([value.shape]) for value in like]
    parts = tf.split(vector, sizes)
    return [tf.reshape(part, value.shape) for part, value in zip(parts, like)]


@dataclasses.dataclass(frozen=True)
class IndependentNoise:
    """New Gaussian noise every round, as in DP-SGD; without state."""

    def initial_state(self, shapes: Sequence[Sequence[int]]) -> Any:
        """A structure of tensors, fixed in shape, or () for none."""
        del shapes
        return ()

    def next(
        self,
        state: Any,
        seed: tf.Tensor,
        round_number: tf.Tensor,
        like: Sequence[tf.Tensor],
    ) -> tuple[list[tf.Tensor], Any]:
        """The round's noise, shaped like the values, and the new state."""
        # Index 0 is for the clipped count of an adaptive clip. One draw for all values:
        # each random number takes some twenty operations.
        sizes = [tf.size(value) for value in like]
        vector = noise(seed, round_number, 1, tf.zeros([tf.add_n(sizes)]))
        parts = tf.split(vector, sizes, num=len(like))
        return [tf.reshape(p, tf.shape(v)) for p, v in zip(parts, like)], state
