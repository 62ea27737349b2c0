"""FedDyn against its paper."""

from __future__ import annotations

import numpy as np
import pytest
import rounds

from tfl_research import algorithms


def test_h_is_the_mean_of_all_clients_gradients(six_clients):
    """h and every g_k move by the same -alpha (theta_k - theta)."""

    def check(state, table):
        everyone = table.rows(tuple(rounds.SIZES))
        assert np.abs(everyone).max() > 0.01
        np.testing.assert_allclose(
            rounds.vector(state.finalizer), everyone.mean(axis=0), atol=1e-6
        )

    process = rounds.built("fed_dyn", six_clients)
    rounds.run(process, rounds.cohorts_of(six_clients), after=check)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_alpha_is_above_zero(alpha):
    with pytest.raises(ValueError, match="alpha must be above 0, got"):
        algorithms.build_fed_dyn(rounds.sgd(), population=3, alpha=alpha)
    with pytest.raises(ValueError, match="population must be at least 1, got -1"):
        algorithms.build_fed_dyn(rounds.sgd(), population=-1)
