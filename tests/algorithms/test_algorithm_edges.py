"""Excluded clients, empty rounds, rates of zero and schedules."""

from __future__ import annotations

import numpy as np
import paper_algorithms as paper
import rounds
import tensorflow as tf

from tfl_research import algorithms, clients, processes, runtime


def poisoned(make_linear_task, *names):
    held = rounds.examples()
    for name in names:
        held[name][0][0, 0] = np.nan
    return make_linear_task(held, rounds.BATCHING)


def cohort(task, *names):
    return task.train.cohort(names, seed=0, round_number=1)


def test_an_excluded_client_keeps_its_state_and_others_go_on(
    make_linear_task, six_clients
):
    process = rounds.built("scaffold_2", six_clients)
    bad = poisoned(make_linear_task, "a")
    ours = rounds.run(process, [cohort(six_clients, "a", "b"), cohort(bad, "a", "c")])
    alone = rounds.run(process, [cohort(six_clients, "a", "b"), cohort(bad, "c")])
    assert int(ours.metrics[1]["cohort"]["excluded"]) == 1
    first = rounds.run(process, [cohort(six_clients, "a", "b")])
    np.testing.assert_array_equal(ours.table.rows(["a"]), first.table.rows(["a"]))
    np.testing.assert_allclose(ours.weights(), alone.weights(), rtol=1e-6)
    everyone = ours.table.rows(tuple(rounds.SIZES))
    np.testing.assert_allclose(
        rounds.vector(ours.server()[1]), everyone.mean(axis=0), atol=1e-6
    )


def test_rounds_in_which_nobody_counts_change_nothing(make_linear_task, six_clients):
    bad = poisoned(make_linear_task, "a", "c")
    for name in ("scaffold_2", "fed_dyn"):
        process = rounds.built(name, six_clients)
        start = [cohort(six_clients, "a", "b")]
        nobody = [cohort(bad, "a", "c"), cohort(six_clients), cohort(bad, "e")]
        ours = rounds.run(process, start + nobody)
        first = rounds.run(process, start)
        np.testing.assert_array_equal(ours.weights(), first.weights())
        for new, old in zip(
            tf.nest.flatten(ours.server()), tf.nest.flatten(first.server())
        ):
            np.testing.assert_array_equal(new, old)
        names = tuple(rounds.SIZES)
        np.testing.assert_array_equal(ours.table.rows(names), first.table.rows(names))
        assert np.isnan(float(ours.metrics[-1]["train"]["loss"]))


def test_mime_lite_follows_the_clients_schedule(six_clients):
    rates = (0.1, 0.05, 0.0)
    steps = clients.LocalSteps(
        rounds.sgd(momentum=rounds.MOMENTUM).optimizer,
        learning_rate_schedule=lambda r: tf.gather(tf.constant(rates), r),
    )
    process = algorithms.build_mime_lite(steps).build(six_clients, max_cohort_size=4)
    ours = rounds.run(process, rounds.cohorts_of(six_clients))
    first = paper.mime(
        rounds.START, rounds.paper_rounds()[:1], rates[0], rounds.MOMENTUM, False
    )
    rounds.assert_close(ours.weights(0), first[0][0])
    assert np.abs(ours.weights(1) - ours.weights(0)).max() > 1e-3
    np.testing.assert_array_equal(ours.weights(2), ours.weights(1))


def test_steps_of_rate_zero_leave_scaffolds_variates(six_clients):
    rates = (0.1, 0.0)
    steps = clients.LocalSteps(
        rounds.sgd().optimizer,
        learning_rate_schedule=lambda r: tf.gather(tf.constant(rates), r),
    )
    process = algorithms.build_scaffold(steps, population=6).build(
        six_clients, max_cohort_size=4
    )
    ours = rounds.run(process, [cohort(six_clients, "a", "b")] * 2)
    first = rounds.run(process, [cohort(six_clients, "a", "b")])
    np.testing.assert_array_equal(
        ours.table.rows(["a", "b"]), first.table.rows(["a", "b"])
    )


def test_chunks_and_threads_keep_states_with_their_clients(six_clients, run_algorithm):
    process = rounds.built("scaffold_2", six_clients)
    engine = runtime.in_process(process, mode=rounds.MODE, chunk_size=1, parallel=2)
    ours = rounds.run(process, rounds.cohorts_of(six_clients), engine)
    names = tuple(rounds.SIZES)
    reference = run_algorithm("scaffold_2")
    rounds.assert_close(ours.table.rows(names), reference.table.rows(names))


def test_the_servers_schedule_counts_every_round(six_clients):
    """Also rounds in which the server waits, as the clients' schedule does."""
    rates = (1.0, 0.5, 0.25)
    server = processes.OptimizerStep(
        learning_rate_schedule=lambda r: tf.gather(tf.constant(rates), r)
    )
    process = algorithms.build_fed_avg(rounds.sgd(), server=server).build(
        six_clients, max_cohort_size=4
    )
    cohorts = [cohort(six_clients, "a"), cohort(six_clients), cohort(six_clients, "c")]
    ours = rounds.run(process, cohorts)
    present = rounds.paper_rounds((("a",), ("c",)), ({}, {}))
    theta = rounds.START
    for (name, client), rate in zip(
        [*present[0].items(), *present[1].items()], (rates[0], rates[2])
    ):
        assert client.batches, name
        local = paper.local_sgd(theta, client.batches, rounds.RATE)
        theta = theta + rate * (local - theta)
    rounds.assert_close(ours.weights(), theta)
