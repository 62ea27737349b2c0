"""Mime and MimeLite against their paper."""

from __future__ import annotations

import numpy as np
import paper_algorithms as paper
import rounds


def test_the_first_exchange_moves_nothing_but_the_mean_gradient(run_algorithm):
    ours = run_algorithm("mime")
    np.testing.assert_array_equal(ours.weights(0), rounds.START.astype(np.float32))
    present = paper.working(rounds.paper_rounds()[0])
    p = paper.shares(present)
    c = sum(
        p[n] * paper.full_gradient(rounds.START, k.batches) for n, k in present.items()
    )
    rounds.assert_close(rounds.vector(ours.server(0)[2]), c)
    assert not np.any(rounds.vector(ours.server(0)[1]["accumulator"]))


def test_one_client_with_one_batch_corrects_nothing(six_clients):
    """g(y) - g(x) + c is g(y) where the cohort's gradient is the minibatch's."""
    cohort = six_clients.train.cohort(("b",), seed=0, round_number=1)
    lite = rounds.run(rounds.built("mime_lite", six_clients), [cohort] * 3)
    mime = rounds.run(rounds.built("mime", six_clients), [cohort] * 6)
    for index in range(3):
        rounds.assert_close(mime.weights(2 * index + 1), lite.weights(index))
    two = six_clients.train.cohort(("b", "a"), seed=0, round_number=1)
    lite = rounds.run(rounds.built("mime_lite", six_clients), [two])
    mime = rounds.run(rounds.built("mime", six_clients), [two] * 2)
    assert np.abs(mime.weights() - lite.weights()).max() > 1e-3
