"""FedNova against its paper, and its normalisation."""

from __future__ import annotations

import numpy as np
import paper_algorithms as paper
import pytest
import rounds
import tensorflow_federated as tff

from tfl_research import algorithms, clients, processes

CASES = {
    "fed_nova": {},
    "fed_nova_momentum": {"momentum": rounds.MOMENTUM},
    "fed_nova_proximal": {"mu": rounds.MU},
}


def test_it_differs_from_fed_avg_where_clients_do_different_work(run_algorithm):
    average = paper.fed_avg(rounds.START, rounds.paper_rounds(), rounds.RATE)
    assert np.abs(run_algorithm("fed_nova").weights() - average[-1]).max() > 0.01


@pytest.mark.parametrize("name", ["fed_nova", "fed_nova_proximal"])
def test_equal_local_steps_are_fed_avg(six_clients, name):
    # Every round's clients cut off at the same step.
    limits = tuple(dict.fromkeys(rounds.SIZES, steps) for steps in (4, 1, 2))
    cohorts = (("a", "c", "f"), ("b", "d", "f"), ("c", "d", "a"))
    ours = rounds.run(
        rounds.built(name, six_clients),
        rounds.cohorts_of(six_clients, cohorts=cohorts, limits=limits),
    )
    expected = paper.fed_avg(
        rounds.START,
        rounds.paper_rounds(cohorts, limits),
        rounds.RATE,
        mu=CASES[name].get("mu", 0.0),
    )
    for index, theta in enumerate(expected):
        rounds.assert_close(ours.weights(index), theta)


@pytest.mark.parametrize(
    ("momentum", "mu"), [(None, 0.0), (0.9, 0.0), (0.3, 0.0), (None, 1.5)]
)
def test_what_a_client_divides_by_is_the_sum_of_its_steps_shares(momentum, mu):
    work = algorithms.build_fed_nova(
        rounds.sgd(momentum=momentum), proximal_strength=mu
    ).client_work

    class Loop:
        class model:
            weight_specs = ()

    for tau in (1, 2, 7, 30):
        found = work._norm(Loop, np.float32(tau), np.float32(rounds.RATE))
        a = paper.accumulation(tau, rounds.RATE, momentum or 0.0, mu)
        np.testing.assert_allclose(found, a.sum(), rtol=1e-5)


def test_the_effective_steps_under_a_proximal_term_are_not_the_authors(six_clients):
    """tau_eff is sum p_i ||a_i||_1 = 4.524; their code has sum p_i tau_i = 5.333."""
    cohort = six_clients.train.cohort(("a", "d"), seed=0, round_number=1)
    ours = rounds.run(rounds.built("fed_nova_proximal", six_clients), [cohort])
    held = rounds.paper_rounds((("a", "d"),), ({},))[0]
    assert [len(held[name].batches) for name in ("a", "d")] == [6, 2]
    # eta mu is 0.07, so that a step keeps 0.93 of those before.
    norms = {"a": (1 - 0.93**6) / 0.07, "d": 1 + 0.93}
    p = {"a": 5 / 6, "d": 1 / 6}
    effective = p["a"] * norms["a"] + p["d"] * norms["d"]
    assert effective == pytest.approx(4.52417, abs=1e-4)
    direction = sum(
        p[name]
        * (
            paper.local_sgd(rounds.START, held[name].batches, rounds.RATE, rounds.MU)
            - rounds.START
        )
        / norms[name]
        for name in norms
    )
    rounds.assert_close(ours.weights() - rounds.START, effective * direction)
    # A server rate of the factor that the docstring names gives their step.
    factor = (p["a"] * 6 + p["d"] * 2) / effective
    assert factor == pytest.approx(1.17885, abs=1e-4)
    server = processes.OptimizerStep(tff.learning.optimizers.build_sgdm(factor))
    longer = algorithms.build_fed_nova(
        rounds.sgd(), server=server, proximal_strength=rounds.MU
    ).build(six_clients, max_cohort_size=4)
    theirs = rounds.run(longer, [cohort])
    rounds.assert_close(theirs.weights() - rounds.START, 16 / 3 * direction)


def test_what_it_cannot_normalise_is_refused():
    adam = clients.LocalSteps(tff.learning.optimizers.build_adam(0.1))
    with pytest.raises(ValueError, match=r"needs SGD at the clients.*'beta_1'"):
        algorithms.build_fed_nova(adam)
    with pytest.raises(ValueError, match=r"not both, got momentum 0\.9 and mu 1"):
        algorithms.build_fed_nova(rounds.sgd(momentum=0.9), proximal_strength=1.0)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        algorithms.build_fed_nova(rounds.sgd(), proximal_strength=-1.0)
    clipping = clients.LocalSteps(rounds.sgd().optimizer, gradient_clip_norm=1.0)
    with pytest.raises(ValueError, match=r"not both, got clip norm 1\.0 and mu 0\.5"):
        algorithms.build_fed_nova(clipping, proximal_strength=0.5)
    algorithms.build_fed_nova(clipping)
    algorithms.build_fed_nova(rounds.sgd(0.1), proximal_strength=9.9)
    with pytest.raises(ValueError, match=r"at most 1 under FedNova, got 1\.01"):
        algorithms.build_fed_nova(rounds.sgd(0.1), proximal_strength=10.1)
