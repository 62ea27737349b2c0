"""FedProx with an adaptive strength against its paper."""

from __future__ import annotations

import numpy as np
import pytest
import rounds
import tensorflow as tf

from tfl_research import algorithms
from tfl_research.processes import Aggregated


def test_the_strength_changes_within_three_rounds(run_algorithm):
    """Otherwise the comparison with the paper would show little."""
    found = [float(run_algorithm("adaptive_prox").server(i)[1]) for i in range(3)]
    assert len({round(mu, 6) for mu in found}) > 1


def strengths(losses, initial):
    """mu after each round whose clients' mean loss is this; None: nobody came."""
    server = algorithms.build_adaptive_prox(rounds.sgd(), initial=initial).server_work
    weights = [tf.constant([1.0])]
    state, found = server.initial_state(weights), []
    for loss in losses:
        weights, state = server.apply(
            weights,
            state,
            Aggregated(
                [tf.zeros([1])],
                tf.constant(loss or 0.0),
                tf.constant(0.0 if loss is None else 2.0),
                tf.constant(len(found)),
            ),
        )
        found.append(float(server.shared(weights, state)))
    return found


def test_the_heuristic_by_hand():
    falling = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]
    np.testing.assert_allclose(strengths(falling, 1.0), [1, 1, 1, 1, 1, 0.9])
    # A rise ends the count, and so does a tie.
    mixed = [9.0, 8.0, 7.0, 6.0, 5.0, 5.5, 5.5, 5.0, 4.0, 3.0, 2.0, 1.0]
    np.testing.assert_allclose(strengths(mixed, 1.0), [1] * 5 + [1.1] * 6 + [1.0])
    # Never below zero, and the next fall starts a new count.
    np.testing.assert_allclose(strengths([*falling, 3.0, 2.0], 0.05)[-3:], [0, 0, 0])
    # A round without clients is no loss of zero.
    with_nobody = [9.0, 8.0, None, 7.0, 6.0, 5.0, None, 4.0]
    np.testing.assert_allclose(strengths(with_nobody, 1.0), [1.0] * 7 + [0.9])
    np.testing.assert_allclose(strengths([None, 9.0], 1.0), [1, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial": -0.1}, "initial must be at least 0, got -0.1"),
        ({"change": -1.0}, "change must be at least 0, got -1.0"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
    ],
)
def test_refusals(arguments, message):
    server = algorithms.build_adaptive_prox(rounds.sgd()).server_work
    with pytest.raises(ValueError, match=message):
        type(server)(server.step, **arguments)
