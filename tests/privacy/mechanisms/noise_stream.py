"""Noise processes run over many rounds in one call."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf


@functools.lru_cache(maxsize=4)
def _streamer(process, seed, shapes):
    """(state, first, rounds) -> noise of so many rounds, in one call."""
    like = [tf.zeros(shape) for shape in shapes]

    @tf.function(autograph=False)
    def run(state, first, rounds):
        drawn = tf.TensorArray(tf.float32, rounds)

        def step(index, state, drawn):
            parts, state = process.next(
                state, tf.constant(seed, tf.int64), first + index, like
            )
            row = tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)
            return index + 1, state, drawn.write(index, row)

        _, state, drawn = tf.while_loop(
            lambda index, *_: index < rounds, step, (tf.constant(0), state, drawn)
        )
        return drawn.stack(), state

    return run


def stream(process, rounds, shapes, state=None, first=0, *, seed):
    """Noise of so many rounds, float64 `[rounds, size]`, and the state after them.

    `seed` is an int64 tensor `[2]`.
    """
    state = process.initial_state(shapes) if state is None else state
    run = _streamer(process, tuple(seed.numpy().tolist()), tuple(shapes))
    drawn, state = run(state, tf.constant(first), tf.constant(rounds))
    return drawn.numpy().astype(np.float64), state
