"""Draws the noise of DP-FTRL: differences of noisy prefixes of trees over rounds."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfl_research import stateless_random
from tfl_research.privacy.mechanisms.noise.noise_processes import split, static_size


def node_noise(
    seed: tf.Tensor, tree: tf.Tensor, level: tf.Tensor, block: tf.Tensor, size: int
) -> tf.Tensor:
    """Draws a node's standard normal noise, float32 `[size]`.

    The noise is a function of (seed, tree, level, block), so nodes need not be kept.

    Args:
      seed: secret, int64 `[2]`.
      tree: number of the tree, from 0.
      level: 0 for leaves; a node covers 2^level leaves.
      block: number of the node in its level, from 0.
      size: number of scalars in all values that the noise is for.
    """
    fold = stateless_random.fold_in
    return stateless_random.normal([size], fold(fold(fold(seed, tree), level), block))


@dataclasses.dataclass(frozen=True)
class TreeNoise:
    """Draws the noise of tree aggregation.

    Kairouz et al. 2021 (arXiv 2103.00039), Algorithm 1 and Appendix B. The rounds of a
    tree are its leaves; each node has its own noise. A prefix of t rounds has one
    complete node for every 1 in t's binary form. With N_t the noise of the prefix,
    round t adds N_t - N_{t-1}, so that a server optimizer that sums the rounds has
    noise N_t. From t - 1 to t, one node replaces the nodes at levels below the number
    of trailing zeros of t, which takes two draws a round on average.

    With `efficient`, a node's noise is that of the best estimate of the node's sum from
    all nodes below (Honaker 2015). With U = node + (U_left + U_right) / 2, the estimate
    at level h is U / (2 - 2^-h), and its variance is 1 / (2 - 2^-h). The state has the
    U of open left nodes; without `efficient` there is no state.

    Attributes:
      restart_every: rounds of a tree, at least 1. The next tree's prefixes are added
        to the last prefix of the previous tree.
      efficient: whether prefixes are Honaker's estimates.
    """

    restart_every: int
    efficient: bool

    def initial_state(self, shapes: Sequence[Sequence[int]]) -> Any:
        """Returns zeros for the open left nodes, float32 `[levels, size]`, or ()."""
        size = static_size(shapes)
        if not self.efficient:
            return ()
        # The topmost level is never a left child.
        levels = max(1, int(self.restart_every).bit_length() - 1)
        return collections.OrderedDict(open_nodes=tf.zeros([levels, size]))

    def next(
        self,
        state: Any,
        seed: tf.Tensor,
        round_number: tf.Tensor,
        like: Sequence[tf.Tensor],
    ) -> tuple[list[tf.Tensor], Any]:
        """Returns the round's noise, shaped like the values, and the new state."""
        size = static_size([value.shape for value in like])
        tree = round_number // self.restart_every
        leaves = round_number % self.restart_every + 1
        # The level of the node that this round completes.
        completed = _trailing_zeros(leaves)

        def node(level: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
            block = tf.bitwise.right_shift(end, level) - 1
            return node_noise(seed, tree, level, block, size)

        if self.efficient:
            noise, state = _efficient(state, leaves, completed, node)
            return split(noise, like), state

        def subtract(level: tf.Tensor, noise: tf.Tensor) -> Any:
            ended = node(level, leaves - tf.bitwise.left_shift(1, level))
            return level + 1, noise - ended

        _, noise = tf.while_loop(
            lambda level, _: level < completed,
            subtract,
            (tf.constant(0), node(completed, leaves)),
        )
        return split(noise, like), state


def _efficient(
    state: Any,
    leaves: tf.Tensor,
    completed: tf.Tensor,
    node: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
) -> tuple[tf.Tensor, Any]:
    open_nodes = state["open_nodes"]

    def merge(level: tf.Tensor, merged: tf.Tensor, ended: tf.Tensor) -> Any:
        open_node = tf.gather(open_nodes, level)
        above = node(level + 1, leaves) + (open_node + merged) / 2
        return level + 1, above, ended + _estimate_weight(level) * open_node

    leaf = node(tf.constant(0), leaves)
    _, merged, ended = tf.while_loop(
        lambda level, *_: level < completed,
        merge,
        (tf.constant(0), leaf, tf.zeros_like(leaf)),
    )
    # Do not use `==`, which compares identities while TFF traces a computation.
    is_completed = tf.equal(tf.range(open_nodes.shape[0])[:, tf.newaxis], completed)
    new_open_nodes = tf.where(is_completed, merged[tf.newaxis], open_nodes)
    noise = _estimate_weight(completed) * merged - ended
    return noise, collections.OrderedDict(open_nodes=new_open_nodes)


def _trailing_zeros(number: tf.Tensor) -> tf.Tensor:
    """Counts the trailing zeros of the binary form of an int32 of at least 1."""
    lowest = tf.bitwise.bitwise_and(number, -number)
    powers = tf.constant([2**bit for bit in range(1, 31)], tf.int32)
    return tf.reduce_sum(tf.cast(lowest >= powers, tf.int32))


def _estimate_weight(level: tf.Tensor) -> tf.Tensor:
    return 1.0 / (2.0 - tf.pow(0.5, tf.cast(level, tf.float32)))
