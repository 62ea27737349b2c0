"""FedExP against its paper."""

from __future__ import annotations

import numpy as np
import paper_algorithms as paper
import pytest
import rounds
import tensorflow as tf

from tfl_research import algorithms, clients, data, processes


def test_the_mean_of_the_last_two_models(six_clients):
    algorithm = algorithms.build_fed_exp(
        clients.LocalTraining(rounds.sgd()), averages=True
    )
    process = algorithm.build(six_clients, max_cohort_size=4)
    assert process.download_bytes == 12
    ours = rounds.run(process, rounds.cohorts_of(six_clients))
    expected = paper.fed_exp(
        rounds.START, rounds.paper_rounds(), rounds.RATE, epsilon=1e-3
    )
    x = [rounds.START, *(theta for theta, _ in expected)]
    for index in range(3):
        rounds.assert_close(ours.weights(index), (x[index] + x[index + 1]) / 2)
        rounds.assert_close(rounds.vector(ours.server(index)[1]), x[index + 1])


def test_it_extrapolates_where_clients_disagree(make_linear_task):
    """Two clients that pull apart: the mean is small, the updates are not."""
    x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    held = {"up": (x, np.full(3, 4.0)), "down": (x, np.full(3, -3.4))}
    batching = data.Batching(batch_size=3, epochs=2, shuffle=False)
    task = make_linear_task(held, batching)
    local = [paper.client(*held[n], batch_size=3, epochs=2) for n in ("up", "down")]
    expected = paper.fed_exp(
        rounds.START, [dict(zip(("up", "down"), local))] * 2, rounds.RATE, 0.01
    )
    algorithm = algorithms.build_fed_exp(
        clients.LocalTraining(rounds.sgd()), epsilon=0.01
    )
    process = algorithm.build(task, max_cohort_size=2)
    cohort = task.train.cohort(("up", "down"), seed=0, round_number=1)
    ours = rounds.run(process, [cohort] * 2)
    for index, (theta, eta) in enumerate(expected):
        rounds.assert_close(ours.server(index)[0], eta)
        # A sum of updates that nearly cancel, in float32.
        np.testing.assert_allclose(ours.weights(index), theta, rtol=1e-4)
    assert expected[0][1] > 2


def test_the_step_is_never_below_one(six_clients, run_algorithm):
    for state in run_algorithm("fed_exp").states:
        assert float(state.finalizer[0]) >= 1
    # One client agrees with itself: the ratio is below 1/2.
    cohort = six_clients.train.cohort(("a",), seed=0, round_number=1)
    ours = rounds.run(rounds.built("fed_exp", six_clients), [cohort])
    assert float(ours.server()[0]) == 1


@pytest.mark.parametrize(
    ("epsilon", "eta"),
    [
        # The paper: 0.1 / (2 (0.0025 + 0.001)).
        (1e-3, 0.1 / 0.007),
        # The authors' code has 4 epsilon for a cohort of 4: 0.1 / (2 (0.0025 + 0.004)).
        (4 * 1e-3, 0.1 / 0.013),
    ],
)
def test_epsilon_is_the_papers_and_not_the_authors_codes(epsilon, eta):
    server = algorithms.build_fed_exp(
        clients.LocalTraining(rounds.sgd()), epsilon=epsilon
    ).server_work
    weights = [tf.constant([1.0, 2.0])]
    mean = processes.Aggregated(
        [tf.constant([0.03, 0.04])],
        tf.constant(0.1),
        tf.constant(4.0),
        tf.constant(0),
    )
    new, (found, _) = server.apply(weights, server.initial_state(weights), mean)
    assert float(found) == pytest.approx(eta, rel=1e-5)
    np.testing.assert_allclose(new[0], [1 + 0.03 * eta, 2 + 0.04 * eta], rtol=1e-5)


def test_epsilon_is_above_zero():
    with pytest.raises(ValueError, match="epsilon must be above 0, got 0"):
        algorithms.build_fed_exp(clients.LocalTraining(rounds.sgd()), epsilon=0.0)
