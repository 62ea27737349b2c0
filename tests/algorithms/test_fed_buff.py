"""FedBuff against its paper."""

from __future__ import annotations

import numpy as np
import paper_algorithms as paper
import pytest
import rounds
import tensorflow as tf

from tfl_research import aggregators, algorithms, clients, processes


def test_fresh_clients_are_fed_avg_with_uniform_weights(six_clients):
    # All with examples: FedAvg leaves out the zero update of a client without.
    members = (("a", "c", "f"), *rounds.COHORTS[1:])
    plain = rounds.cohorts_of(six_clients, cohorts=members)
    fresh = [
        cohort.with_members(staleness=np.zeros(len(cohort), np.int32))
        for cohort in plain
    ]
    ours = rounds.run(rounds.built("fed_buff", six_clients), fresh)
    average = algorithms.build_fed_avg(rounds.sgd()).build(
        six_clients, max_cohort_size=4, client_weighting=processes.uniform()
    )
    theirs = rounds.run(average, plain)
    by_hand = paper.fed_avg(
        rounds.START, rounds.paper_rounds(), rounds.RATE, uniform=True
    )
    for index in range(3):
        np.testing.assert_array_equal(ours.weights(index), theirs.weights(index))
        rounds.assert_close(theirs.weights(index), by_hand[index])


def stale(task, members, ages, number=1):
    cohort = task.train.cohort(members, seed=0, round_number=number)
    return cohort.with_members(staleness=np.array(ages, np.int32))


def test_a_buffer_counts_the_update_of_a_client_without_examples(six_clients):
    """Two updates, one of them zero: half of the other."""
    process = rounds.built("fed_buff", six_clients)
    ours = rounds.run(process, [stale(six_clients, ("c", "e"), (0, 0))])
    client = rounds.paper_rounds((("c",),), ({},))[0]["c"]
    moved = paper.local_sgd(rounds.START, client.batches, rounds.RATE) - rounds.START
    rounds.assert_close(ours.weights(), rounds.START + moved / 2)


@pytest.mark.parametrize("why", ["the rule skips", "nobody counts"])
def test_a_step_that_does_not_move_the_model_makes_clients_staler(six_clients, why):
    """A client of staleness 1 begins at the model that it was sent: the same model."""
    algorithm = algorithms.build_fed_buff(
        clients.LocalTraining(rounds.sgd()), max_staleness=3
    )
    skipping = aggregators.StackingFactory(
        aggregators.TrimmedMean(byzantine=1, on_breakdown="skip"), 4
    )
    process = algorithm.build(
        six_clients,
        max_cohort_size=4,
        aggregator=skipping if why == "the rule skips" else None,
    )
    # A trimmed mean of three takes the median; it cannot trim two.
    second = ("a", "b") if why == "the rule skips" else ("e",)
    buffers = [
        stale(six_clients, ("a", "c", "f"), (0, 0, 0)),
        stale(six_clients, second, (0,) * len(second), 2),
        stale(six_clients, ("b", "c", "f"), (1, 1, 2), 3),
    ]
    ours = rounds.run(process, buffers)
    np.testing.assert_array_equal(ours.weights(1), ours.weights(0))
    theta = ours.weights(0).astype(float)
    history = [rounds.START, theta, theta]
    held = rounds.paper_rounds((("b", "c", "f"),), ({},))[0]
    updates = []
    for name, age in (("b", 1), ("c", 1), ("f", 2)):
        start = history[-1 - age]
        moved = paper.local_sgd(start, held[name].batches, rounds.RATE) - start
        updates.append(moved / np.sqrt(1 + age))
    combine = np.median if why == "the rule skips" else np.mean
    rounds.assert_close(ours.weights(2), theta + combine(updates, axis=0))
    for index, model in enumerate((ours.weights(2), theta, theta, rounds.START)):
        kept = np.concatenate([np.ravel(h[index]) for h in ours.server()[1]])
        rounds.assert_close(kept, model)


def test_a_stale_client_has_the_learning_rate_of_when_it_began(six_clients):
    rates = (0.1, 0.05, 0.02)
    steps = clients.LocalSteps(
        rounds.sgd().optimizer,
        learning_rate_schedule=lambda r: tf.gather(tf.constant(rates), r),
    )
    process = algorithms.build_fed_buff(
        clients.LocalTraining(steps), max_staleness=3
    ).build(six_clients, max_cohort_size=4)
    ages = (0, 1, 2)
    ours = rounds.run(
        process,
        [stale(six_clients, ("c",), (age,), i) for i, age in enumerate(ages, start=1)],
    )
    client = rounds.paper_rounds((("c",),), ({},))[0]["c"]
    models = [rounds.START]
    for number, age in enumerate(ages):
        # All began at the first step, from the initial model.
        moved = paper.local_sgd(rounds.START, client.batches, rates[0]) - rounds.START
        models.append(models[-1] + moved / np.sqrt(1 + age))
        rounds.assert_close(ours.weights(number), models[-1])


def test_refusals(six_clients):
    work = clients.LocalTraining(rounds.sgd())
    with pytest.raises(ValueError, match="max_staleness must be at least 0, got -1"):
        algorithms.build_fed_buff(work, max_staleness=-1)
    with pytest.raises(ValueError, match="needs client weighting 'uniform'"):
        algorithms.build_fed_buff(work).build(
            six_clients, max_cohort_size=4, client_weighting=processes.by_examples()
        )
