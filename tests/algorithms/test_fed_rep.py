"""FedRep against its paper, and how steps are shared out between body and head."""

from __future__ import annotations

import numpy as np
import paper_algorithms as paper
import paper_personal
import personal_clients
import pytest
import rounds
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import algorithms, clients
from tfl_research.algorithms.personal.part import PersonalPart

SHARE = rounds.REP_SHARE
SERVER = np.array([0.2, 0.4, -0.3])


def chosen(steps=None, **changes):
    settings = {"personal_tensors": 1, "personal_share": SHARE, **changes}
    return algorithms.build_fed_rep(steps or rounds.sgd(), **settings)


@pytest.fixture
def run(run_algorithm):
    return run_algorithm("fed_rep")


@pytest.mark.parametrize("name", ["c", "e"])
def test_padded_steps_do_not_shift_the_phases(six_clients, name):
    """Clients that are executed at once all take as many steps as the longest."""
    work = chosen().client_work
    alone = personal_clients.steps(six_clients, name, [0.7])
    cohort = six_clients.train.cohort([name], seed=0, round_number=1)
    stacked = cohort.stacked(num_clients=1, num_steps=11)
    padded = {key: tf.constant(value[0]) for key, value in stacked.items()}
    padded["client_state"] = alone["client_state"]
    padded["num_steps"] = tf.constant(11)
    ours = personal_clients.result(six_clients, work, SERVER, padded)
    expected = personal_clients.result(six_clients, work, SERVER, alone)
    for found, same in zip(tf.nest.flatten(ours), tf.nest.flatten(expected)):
        np.testing.assert_allclose(found, same, rtol=1e-6, atol=1e-7)


def test_the_server_head_never_changes(run):
    for index, _ in enumerate(rounds.COHORTS):
        assert run.weights(index)[-1] == np.float32(rounds.START[-1])
        assert np.abs(run.weights(index)[:-1] - rounds.START[:-1]).max() > 0.01


def test_a_client_without_examples_keeps_the_initial_head(run):
    np.testing.assert_array_equal(run.table.rows(["e"]), [[np.float32(0.1)]])


@pytest.mark.parametrize(
    ("share", "by_steps"),
    [(0.5, [0, 1, 1, 2, 2, 3]), (0.01, [0, 1, 1, 1, 1, 1]), (0.99, [0, 1, 1, 2, 3, 4])],
)
def test_both_parts_are_trained_whatever_the_number_of_steps(share, by_steps):
    part = PersonalPart(1, share)
    found = [int(part.personal_steps(tf.constant(n))) for n in range(6)]
    assert found == by_steps


def test_what_is_fixed_counts_in_no_clip_norm_and_no_momentum(six_clients):
    momentum, norm = 0.9, 0.3
    optimizer = tff.learning.optimizers.build_sgdm(rounds.RATE, momentum)
    work = chosen(clients.LocalSteps(optimizer, norm), personal_share=0.5).client_work
    steps = personal_clients.steps(six_clients, "a", [0.7])
    found = personal_clients.result(six_clients, work, SERVER, steps)
    batches = rounds.paper_rounds()[0]["a"].batches
    theta = np.append(SERVER[:-1], 0.7)
    half = len(batches) // 2
    phases = (
        (paper_personal.HEAD, batches[:half]),
        (paper_personal.BODY, batches[half:]),
    )
    for trained, own in phases:
        velocity = np.zeros(3)
        for batch in own:
            gradient = trained * paper.gradient(theta, batch)
            gradient *= min(1.0, norm / np.linalg.norm(gradient))
            velocity = momentum * velocity + gradient
            theta = theta - rounds.RATE * velocity
    rounds.assert_close(found.client_state, theta[-1:])
    update = rounds.vector(found.update)
    rounds.assert_close(update, np.append(theta[:-1] - SERVER[:-1], 0.0))


def test_the_personal_model_trains_the_kept_head_on_the_server_body(six_clients):
    steps = personal_clients.steps(six_clients, "a", [0.7])
    theta = np.append(SERVER[:-1], 0.7)
    for batch in rounds.paper_rounds()[0]["a"].batches:
        theta = theta - rounds.RATE * paper_personal.HEAD * paper.gradient(theta, batch)
    found = personal_clients.personal(six_clients, chosen().client_work, SERVER, steps)
    rounds.assert_close(found, theta)
    np.testing.assert_array_equal(found[:-1], SERVER[:-1].astype(np.float32))


def test_a_part_that_leaves_nothing_to_share_is_refused(six_clients):
    with pytest.raises(
        ValueError, match=r"2 personal tensors leave nothing.*at most 1"
    ):
        chosen(personal_tensors=2).build(six_clients, max_cohort_size=4)
    with pytest.raises(ValueError, match="tensors must be at least 1, got 0"):
        chosen(personal_tensors=0)
    with pytest.raises(ValueError, match="share must be above 0 and below 1, got 1"):
        chosen(personal_share=1)
