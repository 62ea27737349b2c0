"""The geometric median of sums alone."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow_federated as tff

from tfl_research import processes, runtime
from tfl_research.aggregators import RepeatedMeanFactory, rules

VALUE = tff.TensorType(np.float32, [3])
WEIGHT = tff.TensorType(np.float32)


pytestmark = pytest.mark.usefixtures("on_a_worker")


@pytest.fixture(scope="module")
def one_step():
    return RepeatedMeanFactory().create(VALUE, WEIGHT)


ROWS = [np.array(r, np.float32) for r in ([3, 0, 0], [0, 4, 0], [1, 1, 1], [9, 9, 9])]
WEIGHTS = [1.0, 2.0, 1.0, 1.0]
GRAPH = runtime.Mode("folded", "graph")


def test_one_step_by_hand(one_step):
    # From zero, distances are norms: 3, 4; weights 1/3 and 2/4.
    output = one_step.next(one_step.initialize(), ROWS[:2], WEIGHTS[:2])
    expected = (np.array([3, 0, 0]) / 3 + 2 * np.array([0, 4, 0]) / 4) / (1 / 3 + 2 / 4)
    np.testing.assert_allclose(output.result, expected, rtol=1e-6)
    measured = output.measurements
    assert measured["step_norm"] == pytest.approx(np.linalg.norm(expected), rel=1e-6)
    assert measured["excluded"] == 0


def test_follows_the_geometric_median_over_rounds(one_step):
    rows = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    weights = [1.0, 2.0, 1.0] * 3
    state = one_step.initialize()
    for _ in range(40):
        output = one_step.next(state, list(rows), weights)
        state = output.state
    expected = rules.geometric_median(rows, weights)
    np.testing.assert_allclose(output.result, expected, atol=1e-5)


def test_steps_within_a_round_are_the_same_steps(one_step):
    state = one_step.initialize()
    for _ in range(3):
        output = one_step.next(state, ROWS, WEIGHTS)
        state = output.state
    thrice = RepeatedMeanFactory(steps=3).create(VALUE, WEIGHT)
    at_once = thrice.next(thrice.initialize(), ROWS, WEIGHTS)
    np.testing.assert_allclose(at_once.result, output.result, rtol=1e-6)


def test_hostile_clients_are_left_out_and_counted(one_step):
    bad = [np.array([np.nan, 0, 0], np.float32), np.array([np.inf, 1, 1], np.float32)]
    rows = [*ROWS, *bad, ROWS[0]]
    output = one_step.next(one_step.initialize(), rows, [*WEIGHTS, 1.0, 1.0, -5.0])
    alone = one_step.next(one_step.initialize(), ROWS, WEIGHTS)
    np.testing.assert_allclose(output.result, alone.result, rtol=1e-6)
    assert output.measurements["excluded"] == 3


def test_a_far_client_pulls_no_more_than_a_near_one(one_step):
    state = one_step.next(one_step.initialize(), ROWS[:3], WEIGHTS[:3]).state
    near = one_step.next(state, [*ROWS[:3], ROWS[3]], WEIGHTS).result
    far = one_step.next(state, [*ROWS[:3], ROWS[3] * 1e6], WEIGHTS).result
    huge = one_step.next(state, [*ROWS[:3], ROWS[3] * 3e37], WEIGHTS).result
    np.testing.assert_allclose(far, near, atol=1.0)
    np.testing.assert_allclose(huge, far, rtol=1e-4)


def test_nobody(one_step):
    output = one_step.next(one_step.initialize(), [], [])
    np.testing.assert_array_equal(output.result, np.zeros(3))


def _process(task, factory):
    return processes.build_fed_avg(
        task,
        client_optimizer=tff.learning.optimizers.build_sgdm(0.1),
        aggregator=factory,
        client_weighting=processes.uniform(),
    )


def _final(engine, task):
    with engine:
        state = engine.initialize()
        for round_number in (1, 2):
            cohort = task.train.cohort(
                task.train.client_ids, seed=0, round_number=round_number
            )
            state, _ = engine.next(state, cohort)
    weights = state.global_model_weights.trainable
    return np.concatenate([np.ravel(np.asarray(w)) for w in weights])


def test_one_step_runs_everywhere_and_under_secure_sums(make_linear_task, two_clients):
    task = make_linear_task(two_clients)
    process = _process(task, RepeatedMeanFactory(smoothing=1e-3))
    plain = _final(runtime.in_process(process, mode=GRAPH), task)
    reference = _final(runtime.tff_local(process), task)
    np.testing.assert_allclose(plain, reference, rtol=1e-6)
    sums = tff.aggregators.SecureSumFactory(1.0, -1.0)
    secured = _process(task, RepeatedMeanFactory(smoothing=1e-3, sum_factory=sums))
    # Quantised to 32 bits between bounds that all that is sent fits in.
    secure = _final(runtime.in_process(secured, mode=GRAPH), task)
    np.testing.assert_allclose(secure, plain, atol=1e-5)


def test_more_steps_are_handed_to_tffs_runtime(make_linear_task, two_clients):
    task = make_linear_task(two_clients)
    process = _process(task, RepeatedMeanFactory(steps=2))
    with pytest.raises(runtime.UnsupportedProcess, match="no map-reduce form"):
        runtime.in_process(process, mode=GRAPH)
    engine = runtime.in_process(process)
    assert engine.explanation.runtime == "tff_local"
    assert np.isfinite(_final(engine, task)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"steps": 0}, "steps must be at least 1"), ({"smoothing": 0.0}, "smoothing")],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        RepeatedMeanFactory(**arguments)
