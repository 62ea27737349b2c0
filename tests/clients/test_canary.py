"""Canaries' directions and client work, and what an observer keeps of releases."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import clients, processes, runtime
from tfl_research.clients import canary_directions as directions
from tfl_research.clients.client_work import ClientResult
from tfl_research.privacy import audit, gaussian_aggregator
from tfl_research.runtime.compiler.mode import Mode

SHAPES = [(7, 5), (30,), (), (0, 3)]


def flat(tensors):
    return np.concatenate([np.ravel(t) for t in tensors]).astype(np.float64)


def matrix(shapes, seed, count):
    key = audit.direction_seed(seed)
    draw = tf.function(lambda j: directions.direction(shapes, key, j))
    return np.stack([flat(draw(tf.constant(j))) for j in range(1, count + 1)])


class TestDirections:
    def test_unit_norm_and_independence(self):
        shapes = [(20, 20), (100,)]
        drawn = matrix(shapes, 3, 80)
        np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, rtol=1e-5)
        products = (drawn @ drawn.T)[np.triu_indices(80, 1)]
        # 3160 cosines of variance 1/500: the mean square within 4 standard errors.
        error = np.sqrt(2 / len(products)) / 500
        assert abs((products**2).mean() - 1 / 500) < 4 * error
        assert abs(products.mean()) < 4 / np.sqrt(500 * len(products))
        # No weight is preferred: 80 squares in each tensor's share.
        share = (drawn[:, :400] ** 2).sum(axis=1).mean()
        assert share == pytest.approx(0.8, abs=0.02)

    def test_a_function_of_seed_and_index(self):
        one, again = matrix(SHAPES, 1, 3), matrix(SHAPES, 1, 3)
        np.testing.assert_array_equal(one, again)
        assert np.abs(one[0] @ one[1]) < 0.6
        assert np.abs(matrix(SHAPES, 2, 1)[0] @ one[0]) < 0.6

    @pytest.mark.parametrize("in_graph", [False, True])
    def test_cosines(self, in_graph):
        key = audit.direction_seed(1)
        rng = np.random.default_rng(0)
        vector = [rng.normal(size=s).astype(np.float32) for s in SHAPES]
        if in_graph:
            # As in TFF's graphs, where == compares objects.
            with tf.Graph().as_default(), tf.compat.v1.Session() as session:
                found = session.run(directions.cosines(vector, key, 4))
        else:
            found = directions.cosines(vector, key, 4).numpy()
        expected = matrix(SHAPES, 1, 4) @ flat(vector) / np.linalg.norm(flat(vector))
        np.testing.assert_allclose(found, expected, atol=1e-6)

    @pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e30, 1e-30])
    def test_cosines_of_extremes(self, value):
        found = directions.cosines(
            [np.full((4, 4), value, np.float32)], audit.direction_seed(0), 3
        ).numpy()
        assert np.isfinite(found).all()
        assert (found == 0).all() == (value in (0.0, np.inf) or np.isnan(value))


class NanWork(clients.ClientWork):
    """Client work that has nothing but NaN to report."""

    def build(self, model, objective):
        def client_function(weights, batches, round_number):
            return ClientResult(
                [w * np.nan for w in weights],
                tf.constant(3.0),
                collections.OrderedDict(loss=tf.constant(np.nan)),
            )

        return client_function


@pytest.fixture(scope="module")
def task(make_linear_task, two_clients):
    return make_linear_task(two_clients)


class TestCanaryWork:
    @pytest.mark.parametrize("in_graph", [False, True])
    def test_roles(self, task, in_graph):
        model = task.functional_model()
        work = clients.CanaryWork(NanWork(), seed=4, norm=50.0)
        build = work.build(model, task.build_objective())

        def result(role):
            weights = [tf.constant(w) for w in model.initial_weights]
            found = build(weights, {"role": tf.constant(role)}, tf.constant(0))
            # Canaries keep no state, and None cannot be fetched.
            assert found.client_state is None
            missing = [name for name, part in found._asdict().items() if part is None]
            return found._replace(**dict.fromkeys(missing, ()))

        def compute(role):
            if not in_graph:
                return tf.nest.map_structure(lambda t: t.numpy(), result(role))
            with tf.Graph().as_default(), tf.compat.v1.Session() as session:
                return session.run(result(role))

        canary, silent, honest = compute(2), compute(-2), compute(0)
        shapes = [w.shape for w in model.initial_weights]
        expected = 50 * matrix(shapes, 4, 2)[1]
        np.testing.assert_allclose(flat(canary.update), expected, rtol=1e-5)
        assert (canary.num_examples, canary.sums["loss"]) == (0, 0)
        assert not flat(silent.update).any()
        assert (silent.num_examples, silent.sums["loss"]) == (0, 0)
        assert np.isnan(flat(honest.update)).all()
        assert honest.num_examples == 3

    @pytest.mark.parametrize("norm", [0.0, np.inf])
    def test_refuses(self, norm):
        with pytest.raises(ValueError, match="above 0"):
            clients.CanaryWork(NanWork(), seed=0, norm=norm)

    def test_clients_that_keep_a_state_have_no_canaries(self, task):
        stateful = clients.CompressedWork(NanWork(), clients.TopK(0.5), True)
        work = clients.CanaryWork(stateful, seed=0, norm=1.0)
        with pytest.raises(
            ValueError, match="canaries cannot be added to CompressedWork"
        ):
            processes.build_fed_avg(task, client_work=work, max_cohort_size=4)


def test_an_observer_keeps_the_released_updates(task):
    """Two rounds in process: statistics against the models, nothing else changed."""
    crew = audit.Canaries(4, 2)
    joined = dataclasses.replace(task, train=crew.join(task.train))
    mechanism = gaussian_aggregator(
        l2_norm_clip=1.0, noise_multiplier=0.5, expected_cohort_size=4, noise_seed=9
    )

    def build(aggregator):
        return processes.build_fed_avg(
            joined,
            client_work=clients.CanaryWork(
                clients.local_training(
                    optimizer=tff.learning.optimizers.build_sgdm(0.1)
                ),
                seed=2,
                norm=10.0,
            ),
            aggregator=aggregator,
            client_weighting=weighting,
        )

    weighting = processes.ClientWeighting("uniform")
    claimed = audit.ClaimedWeights(mechanism, weighting.weight, 1.0)
    watched = build(audit.CanaryObserver(claimed, 4, 2, keep_max=True))
    models = []
    metrics = []
    with runtime.in_process(watched, mode=Mode("folded", "graph")) as engine:
        state = engine.initialize()
        models.append(flat(state.global_model_weights.trainable))
        for r in (1, 2):
            cohort = joined.train.cohort(
                joined.train.client_ids, seed=0, round_number=r
            )
            state, found = engine.next(state, cohort)
            models.append(flat(state.global_model_weights.trainable))
            metrics.append(found)
    initial = joined.functional_model().initial_weights
    found = audit.observed(state, initial, 2, 4)
    shapes = [w.shape for w in initial]
    units = [m / np.linalg.norm(m) for m in np.diff(models, axis=0)]
    by_round = matrix(shapes, 2, 4) @ np.transpose(units)
    np.testing.assert_allclose(found["max"], by_round.max(axis=1), atol=1e-5)
    mean = np.sum(units, axis=0)
    expected = matrix(shapes, 2, 4) @ mean / np.linalg.norm(mean)
    np.testing.assert_allclose(found["mean"], expected, atol=1e-5)
    moved = models[2] - models[0]
    expected = matrix(shapes, 2, 4) @ moved / np.linalg.norm(moved)
    np.testing.assert_allclose(found["final"], expected, atol=1e-5)
    # Of the clients that train: canaries claim theirs to the aggregator alone.
    assert float(metrics[0]["cohort"]["examples"]) == 4
    assert np.isfinite(float(metrics[0]["train"]["loss"]))


def test_only_weighted_aggregators_are_watched():
    with pytest.raises(ValueError, match="SumFactory"):
        audit.CanaryObserver(tff.aggregators.SumFactory(), 2, 0)
