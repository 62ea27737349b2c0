"""Mime and MimeLite against their paper."""

from __future__ import annotations

import numpy as np
import paper_algorithms as paper
import pytest
import rounds
import tensorflow as tf

from tfl_research import algorithms, clients, data, processes

RATES, SERVER_RATES = (0.1, 0.05, 0.02), (1.0, 0.5, 2.0)


def by_round(rates):
    return lambda number: tf.gather(tf.constant(rates), number)


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


@pytest.mark.parametrize("name", ["mime", "mime_lite"])
@pytest.mark.parametrize("second", [("b", "a", "d", "f"), ("e",)])
def test_both_schedules_count_the_rounds_of_the_paper(six_clients, name, second):
    """Also a round in which nobody counts."""
    steps = clients.LocalSteps(
        rounds.sgd(momentum=rounds.MOMENTUM).optimizer,
        learning_rate_schedule=by_round(RATES),
    )
    server = processes.OptimizerStep(learning_rate_schedule=by_round(SERVER_RATES))
    build = algorithms.build_mime if name == "mime" else algorithms.build_mime_lite
    process = build(steps, server=server).build(six_clients, max_cohort_size=4)
    cohorts, limits = (("a", "c"), second, ("c", "f")), ({},) * 3
    exchanges = 2 if name == "mime" else 1
    ours = rounds.run(
        process,
        rounds.cohorts_of(six_clients, exchanges, cohorts=cohorts, limits=limits),
    )
    expected = paper.mime(
        rounds.START,
        rounds.paper_rounds(cohorts, limits),
        RATES,
        rounds.MOMENTUM,
        name == "mime",
        SERVER_RATES,
    )
    for index, (theta, s) in enumerate(expected, start=1):
        at = exchanges * index - 1
        rounds.assert_close(ours.weights(at), theta)
        rounds.assert_close(rounds.vector(ours.server(at)[1]["accumulator"]), s)


@pytest.mark.parametrize(
    "batching",
    [
        data.Batching(batch_size=2, epochs=1, max_examples=3),
        data.Batching(batch_size=2, steps=1),
    ],
)
def test_both_exchanges_have_the_same_examples(make_linear_task, batching):
    """c is the mean gradient of the examples of the local steps."""
    held = rounds.examples()
    task = make_linear_task(held, batching)
    train = task.train.with_exchanges(2)
    cohorts = [
        train.cohort(("a", "c", "f"), seed=0, round_number=number)
        for number in range(1, 7)
    ]
    present = []
    for first, second in zip(cohorts[::2], cohorts[1::2]):
        np.testing.assert_array_equal(first.seeds, second.seeds)
        drawn = {}
        for row, name in enumerate(first.client_ids):
            np.testing.assert_array_equal(first.orders[row], second.orders[row])
            x, y = held[name]
            rows = [order[order >= 0] for order in second.orders[row]]
            design = np.concatenate([x, np.ones((len(y), 1))], axis=1)
            batches = [(design[each], y[each]) for each in rows]
            drawn[name] = paper.Client(batches, len(set(np.concatenate(rows))))
        present.append(drawn)
    # Another paper round draws others.
    assert any(
        not np.array_equal(one, other)
        for one, other in zip(cohorts[0].orders, cohorts[2].orders)
    )
    process = algorithms.build_mime(rounds.sgd(momentum=rounds.MOMENTUM)).build(
        task, max_cohort_size=4
    )
    ours = rounds.run(process, cohorts)
    expected = paper.mime(rounds.START, present, rounds.RATE, rounds.MOMENTUM, True)
    for index, (theta, _) in enumerate(expected, start=1):
        rounds.assert_close(ours.weights(2 * index - 1), theta)


def test_without_exchanges_every_round_draws_anew(six_clients):
    with pytest.raises(ValueError, match="exchanges must be at least 1, got 0"):
        six_clients.train.with_exchanges(0)
    assert six_clients.train.with_exchanges(2).with_exchanges(1) == six_clients.train
