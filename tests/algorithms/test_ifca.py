"""IFCA against its paper, and clusters that were planted."""

from __future__ import annotations

import dataclasses

import numpy as np
import paper_personal
import personal_clients
import pytest
import rounds
import tensorflow as tf

from tfl_research import algorithms, clients, data, models
from tfl_research.algorithms.personal import ifca
from tfl_research.tasks import objectives

MODELS = rounds.CLUSTERS


def chosen(models=MODELS):
    return algorithms.build_ifca(rounds.sgd(), [rounds.arrays(m) for m in models])


@pytest.fixture
def run(run_algorithm):
    return run_algorithm("ifca")


def model(server_state, j):
    """The weights of cluster j, as a vector."""
    return rounds.vector([np.asarray(tensor)[j] for tensor in server_state])


def test_two_models_are_in_use_within_three_rounds():
    """Otherwise the comparison with the paper would show little."""
    expected = paper_personal.ifca(MODELS, rounds.paper_rounds(), rounds.RATE)
    assert [set(c.values()) for _, _, c in expected] == [{0, 1}] * 3


def test_a_model_that_nobody_chose_stays(run):
    np.testing.assert_array_equal(model(run.server(), 2), MODELS[2])


PLANTED = (np.array([2.0, -1.0, 0.5]), np.array([-1.5, 1.0, -0.5]))


@pytest.fixture(scope="module")
def planted(make_linear_task):
    """Eight clients, of which every other one follows the same linear model."""
    held = {}
    for number in range(8):
        x = np.random.default_rng([8, number]).normal(size=(6, 2))
        theta = PLANTED[number % 2]
        held[f"c{number}"] = (x, x @ theta[:-1] + theta[-1])
    return make_linear_task(held, data.Batching(batch_size=3, epochs=3, shuffle=False))


def test_planted_clusters_are_recovered_under_partial_participation(planted):
    near = (0.1 * PLANTED[0], 0.1 * PLANTED[1])
    process = chosen(near).build(planted, max_cohort_size=4)
    generator = np.random.default_rng(1)
    cohorts = [
        planted.train.cohort(
            sorted(generator.choice(planted.train.client_ids, 4, replace=False)),
            seed=0,
            round_number=number,
        )
        for number in range(1, 26)
    ]
    state = rounds.run(process, cohorts).server()
    for j, theta in enumerate(PLANTED):
        np.testing.assert_allclose(model(state, j), theta, atol=0.02)
    work, shared = chosen(near).client_work, [tf.constant(t) for t in state]
    for number in range(8):
        steps = personal_clients.steps(planted, f"c{number}")
        found = personal_clients.personal(planted, work, np.zeros(3), steps, shared)
        np.testing.assert_array_equal(found, model(state, number % 2))


def stacked(*models):
    return [tf.stack(each) for each in zip(*map(personal_clients.tensors, models))]


def test_a_model_that_diverged_is_nobodys_choice(planted):
    shared = stacked([np.nan] * 3, PLANTED[1])
    steps = personal_clients.steps(planted, "c0")
    work = chosen().client_work
    found = personal_clients.personal(planted, work, np.zeros(3), steps, shared)
    rounds.assert_close(found, PLANTED[1])


def test_a_client_without_examples_has_the_mean_of_the_models(six_clients):
    steps = personal_clients.steps(six_clients, "e")
    center = np.array([0.3, 0.2, 0.1])
    work = chosen().client_work
    found = personal_clients.personal(
        six_clients, work, center, steps, stacked(*PLANTED)
    )
    rounds.assert_close(found, center)


def test_a_single_model_is_refused():
    with pytest.raises(ValueError, match="at least 2 cluster models, got 1"):
        chosen(MODELS[:1])


def test_cluster_models_are_those_of_consecutive_seeds(six_clients):
    def build_model():
        layers = [tf.keras.layers.InputLayer((2,)), tf.keras.layers.Dense(1)]
        return tf.keras.Sequential(layers)

    task = dataclasses.replace(six_clients, build_model=build_model)
    models = algorithms.cluster_models(task, 2, seed=3)
    for j, weights in enumerate(models):
        same = task.functional_model(3 + j).initial_weights
        for ours, expected in zip(weights, same):
            np.testing.assert_array_equal(ours, expected)
    assert np.abs(models[0][0] - models[1][0]).max() > 0.01


def test_cluster_models_differ_where_the_seed_changes_nothing(six_clients):
    models = algorithms.cluster_models(six_clients, 3)
    rounds.assert_close(rounds.vector(models[0]), rounds.START)
    distances = [
        np.linalg.norm(rounds.vector(models[i]) - rounds.vector(models[j]))
        for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    assert 0.01 < min(distances) <= max(distances) < 1.0
    again = algorithms.cluster_models(six_clients, 3)
    np.testing.assert_array_equal(again[2][0], models[2][0])


class NoZeros(tf.keras.layers.Layer):
    """Takes no row of zeros."""

    def call(self, inputs):
        sizes = tf.reduce_sum(tf.abs(inputs), axis=-1)
        with tf.control_dependencies([tf.debugging.assert_greater(sizes, 0.0)]):
            return tf.identity(inputs)


def test_the_best_model_is_chosen_without_padding():
    def build():
        dense = tf.keras.layers.Dense(1, use_bias=False)
        return tf.keras.Sequential([tf.keras.layers.Input(1), NoZeros(), dense])

    model = models.from_keras(build, tf.TensorSpec([None, 1]))
    loop = clients.LocalSteps(rounds.sgd()).loop(model, objectives.regression())
    batches = {
        "x": tf.constant([[[1.0], [2.0], [0.0]]]),
        "y": tf.constant([[3.0, 6.0, 0.0]]),
        "mask": tf.constant([[True, True, False]]),
        "num_steps": tf.constant(1),
    }
    choice = ifca.best_model(loop, [tf.constant([[[1.0]], [[2.9]], [[4.0]]])], batches)
    assert choice == 1
