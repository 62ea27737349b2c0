"""Ditto against its paper, and the two models that it lies between."""

from __future__ import annotations

import numpy as np
import paper_algorithms as paper
import personal_clients
import pytest
import rounds

from tfl_research import algorithms

STRENGTH = rounds.DITTO
SERVER = np.array([0.2, 0.4, -0.3])


def test_the_global_model_is_that_of_fed_avg(run_algorithm):
    expected = paper.fed_avg(rounds.START, rounds.paper_rounds(), rounds.RATE)
    rounds.assert_close(run_algorithm("ditto").weights(), expected[-1])


def test_a_client_without_examples_keeps_its_initial_model(run_algorithm):
    rows = run_algorithm("ditto").table.rows(["e"])
    np.testing.assert_array_equal(rows[0], np.zeros(3))


def test_a_strong_pull_leaves_the_server_model(six_clients):
    steps = personal_clients.steps(six_clients, "a", state=[1.0, -2.0, 0.5])
    # A learning rate of 1 / lambda removes all of the distance in one step.
    work = algorithms.build_ditto(rounds.sgd(1e-4), strength=1e4).client_work
    found = personal_clients.result(six_clients, work, SERVER, steps).client_state
    np.testing.assert_allclose(rounds.START + found, SERVER, atol=2e-3)
    personal = personal_clients.personal(six_clients, work, SERVER, steps)
    np.testing.assert_allclose(personal, SERVER, atol=2e-3)


def test_without_a_pull_each_client_is_alone(six_clients):
    steps = personal_clients.steps(six_clients, "a", state=np.zeros(3))
    work = algorithms.build_ditto(rounds.sgd(), strength=0.0).client_work
    found = personal_clients.result(six_clients, work, SERVER, steps).client_state
    alone = paper.local_sgd(
        rounds.START, rounds.paper_rounds()[0]["a"].batches, rounds.RATE
    )
    rounds.assert_close(rounds.START + found, alone)


def test_the_personal_model_goes_on_from_the_kept_one(six_clients):
    work = algorithms.build_ditto(rounds.sgd(), strength=STRENGTH).client_work
    state = np.array([1.0, -2.0, 0.5])
    steps = personal_clients.steps(six_clients, "a", state)
    v = rounds.START + state
    for batch in rounds.paper_rounds()[0]["a"].batches:
        gradient = paper.gradient(v, batch)
        v = v - rounds.RATE * (gradient + STRENGTH * (v - SERVER))
    rounds.assert_close(personal_clients.personal(six_clients, work, SERVER, steps), v)


def test_a_client_that_never_took_part_begins_at_the_server_model(six_clients):
    work = algorithms.build_ditto(rounds.sgd(), strength=STRENGTH).client_work
    steps = personal_clients.steps(six_clients, "a", np.zeros(3))
    batches = rounds.paper_rounds()[0]["a"].batches
    tuned = paper.local_sgd(SERVER, batches, rounds.RATE, mu=STRENGTH)
    found = personal_clients.personal(six_clients, work, SERVER, steps)
    rounds.assert_close(found, tuned)
    nobody = personal_clients.steps(six_clients, "e", np.zeros(3))
    untouched = personal_clients.personal(six_clients, work, SERVER, nobody)
    rounds.assert_close(untouched, SERVER)


def test_a_negative_strength_is_refused():
    with pytest.raises(ValueError, match="strength must be at least 0, got -1"):
        algorithms.build_ditto(rounds.sgd(), strength=-1)
