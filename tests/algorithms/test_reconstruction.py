"""Federated reconstruction against its paper."""

from __future__ import annotations

import numpy as np
import paper_algorithms as paper
import paper_personal
import personal_clients
import pytest
import rounds

SHARE = rounds.RECON_SHARE
SERVER = np.array([0.2, 0.4, 5.0])


@pytest.fixture(scope="module")
def chosen():
    return rounds.ALGORITHMS["reconstruction"]()


@pytest.fixture(scope="module")
def process(six_clients):
    return rounds.built("reconstruction", six_clients)


def test_the_global_personal_part_is_never_trained(run_algorithm):
    for index in range(3):
        trained = run_algorithm("reconstruction").weights(index)
        assert trained[-1] == np.float32(rounds.START[-1])


def test_clients_keep_nothing(process):
    assert process.client_states is None


def test_the_personal_part_is_reconstructed_from_its_initial_value(chosen, six_clients):
    theta = np.append(SERVER[:-1], rounds.START[-1])
    for batch in rounds.paper_rounds()[0]["a"].batches:
        theta = theta - rounds.RATE * paper_personal.HEAD * paper.gradient(theta, batch)
    steps = personal_clients.steps(six_clients, "a")
    work = chosen.client_work
    found = personal_clients.personal(six_clients, work, SERVER, steps)
    rounds.assert_close(found, theta)


def test_a_client_without_examples_has_the_initial_personal_part(chosen, six_clients):
    steps = personal_clients.steps(six_clients, "e")
    work = chosen.client_work
    found = personal_clients.personal(six_clients, work, SERVER, steps)
    rounds.assert_close(found, np.append(SERVER[:-1], rounds.START[-1]))
    update = personal_clients.result(six_clients, work, SERVER, steps).update
    np.testing.assert_array_equal(rounds.vector(update), np.zeros(3))
