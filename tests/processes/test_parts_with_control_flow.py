"""Parts of a user's own may have control flow over tensors.

Each part halves an update above 1. The same round without the part gives the update.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import aggregators, clients, processes, runtime

pytestmark = pytest.mark.slow

STEPS = clients.LocalSteps(tff.learning.optimizers.build_sgdm(0.5))


def halved_if_large(values):
    """Fails in a graph unless AutoGraph converts the function."""
    if tf.reduce_sum(tf.abs(values)) > 1:
        return values / 2
    return values


class HalvedAtTheServer(processes.ServerWork):
    """Remembers in its state how many updates were large."""

    def initial_state(self, weights):
        if tf.reduce_all(tf.math.is_finite(weights[0])):
            return tf.constant(0)
        return tf.constant(-1)

    def shared(self, weights, state):
        if state > 100:
            return tf.constant(1.0)
        return tf.constant(2.0)

    def apply(self, weights, state, round_mean):
        if tf.reduce_sum(tf.abs(round_mean.update[0])) > 1:
            state += 1
        moves = [halved_if_large(update) for update in round_mean.update]
        return [w + m for w, m in zip(weights, moves)], state

    def wait(self, weights, state):
        if state > 100:
            return state
        return state - 1


class TakesShared(clients.ClientWork):
    def build(self, model, objective):
        trained = clients.LocalTraining(STEPS).build(model, objective)
        return lambda weights, batches, number, shared: trained(
            weights, batches, number
        )


class HalvedAtTheClient(clients.ClientWork):
    def build(self, model, objective):
        trained = clients.LocalTraining(STEPS).build(model, objective)

        def client_function(*arguments):
            result = trained(*arguments)
            return result._replace(update=[halved_if_large(u) for u in result.update])

        return client_function


@dataclasses.dataclass(frozen=True)
class HalvedMean(aggregators.RuleSettings):
    NAME = "halved_mean"
    SUMMARY = "the mean, halved where it is large"
    PER_BYZANTINE, AT_LEAST, SOURCE = 0, 1, "none"

    def apply(self, rows, *, center=None):
        mean = tf.reduce_mean(tf.boolean_mask(rows.values, rows.present), axis=0)
        total = tf.zeros_like(mean)
        for coordinate in tf.range(tf.shape(mean)[0]):
            chosen = halved_if_large(mean[coordinate])
            place = tf.one_hot(coordinate, tf.shape(mean)[0])
            total += tf.where(place > 0, chosen, 0.0)
        return total


def moved(task, cohort=("a",), **parts):
    """How far a round moves weight and bias, and the server's state."""
    parts = {"client_work": clients.LocalTraining(STEPS), **parts}
    process = processes.build_fed_avg(task, max_cohort_size=2, **parts)
    engine = runtime.in_process(process, mode=runtime.Mode("folded", "graph"))
    drawn = task.train.cohort(cohort, seed=0, round_number=0)
    before = engine.initialize()
    after, _ = engine.next(before, drawn)
    pairs = zip(
        after.global_model_weights.trainable, before.global_model_weights.trainable
    )
    return [np.sum(np.subtract(a, b)) for a, b in pairs], after


@pytest.fixture(params=[0.7, 8.5], ids=["small", "large"])
def task(request, make_linear_task):
    return make_linear_task(
        {"a": (np.ones((2, 1)), np.full(2, request.param))}, weight=(0.5,), bias=0.0
    )


def expected_of(task):
    plain, _ = moved(task)
    assert plain[0] != 0
    return [value / 2 if abs(value) > 1 else value for value in plain]


def test_server_work(task):
    work = {"server_work": HalvedAtTheServer(), "client_work": TakesShared()}
    found, state = moved(task, **work)
    np.testing.assert_allclose(found, expected_of(task), rtol=1e-6)
    plain, _ = moved(task)
    assert int(server_state(state)) == int(abs(plain[0]) > 1)
    found, state = moved(task, cohort=(), **work)
    np.testing.assert_array_equal(found, [0, 0])
    assert int(server_state(state)) == -1


def server_state(state):
    return np.asarray(tf.nest.flatten(state.finalizer)[0])


def test_client_work(task):
    found, _ = moved(task, client_work=HalvedAtTheClient())
    np.testing.assert_allclose(found, expected_of(task), rtol=1e-6)


def test_robust_rule(task):
    found, _ = moved(
        task,
        aggregator=HalvedMean().build(aggregators.AggregatorContext(2, 1, False)),
        client_weighting=processes.ClientWeighting("uniform"),
    )
    np.testing.assert_allclose(found, expected_of(task), rtol=1e-6)
