"""SCAFFOLD against its paper, and what its control variates keep to."""

from __future__ import annotations

import numpy as np
import pytest
import rounds

from tfl_research import algorithms


@pytest.mark.parametrize("option", [1, 2])
def test_the_servers_variate_is_the_mean_of_the_clients(six_clients, option):
    def check(state, table):
        everyone = table.rows(tuple(rounds.SIZES))
        assert np.abs(everyone).max() > 0.1
        mean = everyone.mean(axis=0)
        np.testing.assert_allclose(rounds.vector(state.finalizer[1]), mean, atol=1e-6)

    process = rounds.built(f"scaffold_{option}", six_clients)
    rounds.run(process, rounds.cohorts_of(six_clients), after=check)


def test_a_client_that_was_not_asked_keeps_its_variate(six_clients):
    process = rounds.built("scaffold_2", six_clients)
    ours = rounds.run(process, rounds.cohorts_of(six_clients)[:2])
    first = rounds.run(process, rounds.cohorts_of(six_clients)[:1])
    np.testing.assert_array_equal(ours.table.rows(["c"]), first.table.rows(["c"]))
    assert np.any(ours.table.rows(["a"]) != first.table.rows(["a"]))


def test_option_two_needs_plain_sgd():
    with pytest.raises(ValueError, match=r"option 2 needs plain SGD.*'momentum'"):
        algorithms.build_scaffold(rounds.sgd(momentum=0.9), population=3)
    algorithms.build_scaffold(rounds.sgd(momentum=0.9), population=3, option=1)
    with pytest.raises(ValueError, match="option must be 1 or 2, got 3"):
        algorithms.build_scaffold(rounds.sgd(), population=3, option=3)
    with pytest.raises(ValueError, match="population must be at least 1, got 0"):
        algorithms.build_scaffold(rounds.sgd(), population=0)
