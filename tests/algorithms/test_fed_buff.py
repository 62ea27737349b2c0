"""FedBuff against its paper."""

from __future__ import annotations

import numpy as np
import paper_algorithms as paper
import pytest
import rounds

from tfl_research import algorithms, clients, processes


def test_fresh_clients_are_fed_avg_with_uniform_weights(six_clients):
    fresh = [
        cohort.with_members(staleness=np.zeros(len(cohort), np.int32))
        for cohort in rounds.cohorts_of(six_clients)
    ]
    ours = rounds.run(rounds.built("fed_buff", six_clients), fresh)
    average = algorithms.build_fed_avg(rounds.sgd()).build(
        six_clients, max_cohort_size=4, client_weighting=processes.uniform()
    )
    theirs = rounds.run(average, rounds.cohorts_of(six_clients))
    by_hand = paper.fed_avg(
        rounds.START, rounds.paper_rounds(), rounds.RATE, uniform=True
    )
    for index in range(3):
        np.testing.assert_array_equal(ours.weights(index), theirs.weights(index))
        rounds.assert_close(theirs.weights(index), by_hand[index])


def test_refusals(six_clients):
    work = clients.LocalTraining(rounds.sgd())
    with pytest.raises(ValueError, match="max_staleness must be at least 0, got -1"):
        algorithms.build_fed_buff(work, max_staleness=-1)
    with pytest.raises(ValueError, match="needs client weighting 'uniform'"):
        algorithms.build_fed_buff(work).build(
            six_clients, max_cohort_size=4, client_weighting=processes.by_examples()
        )
