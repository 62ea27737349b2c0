"""Attacks in the place of a round: malicious clients' updates, and the stack's rows."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import aggregators, attacks, clients, processes, runtime
from tfl_research.aggregators import (
    AttackedFactory,
    MeanRule,
    StackingFactory,
    TrimmedMean,
)
from tfl_research.aggregators.attacked import role_weight_type

pytestmark = pytest.mark.usefixtures("on_a_worker")
MODE = runtime.Mode("folded", "graph")
VALUE = tff.StructWithPythonType(
    [("a", tff.TensorType(np.float32, [2])), ("b", tff.TensorType(np.float32, [1]))],
    collections.OrderedDict,
)


def mean_under(attack, rule=None, capacity=4):
    weighted = rule is None
    rule = rule or MeanRule(on_breakdown="skip")
    inner = StackingFactory(rule, capacity=capacity, weighted=weighted)
    return AttackedFactory(inner, attack, seed=7)


def run(process, state, sent):
    """One aggregation of [(x, weight, role)]; x is in every entry."""
    values = [
        collections.OrderedDict(
            a=np.full(2, x, np.float32), b=np.full(1, x, np.float32)
        )
        for x, _, _ in sent
    ]
    weights = [
        collections.OrderedDict(weight=np.float32(w), role=np.int32(role))
        for _, w, role in sent
    ]
    output = process.next(state, values, weights)
    np.testing.assert_allclose(output.result["b"], output.result["a"][:1], rtol=1e-6)
    return output.state, float(output.result["a"][0]), output.measurements


class TestAttackedFactory:
    @pytest.fixture(scope="class")
    def turned(self):
        """A weighted mean under inner-product manipulation."""
        factory = mean_under(attacks.UpdateAttack("inner_product", 1.0))
        return factory.create(VALUE, role_weight_type())

    def test_malicious_rows_are_rewritten_and_keep_their_weights(self, turned):
        sent = [(1, 1, 0), (3, 3, 0), (100, 4, 1)]
        _, x, measured = run(turned, turned.initialize(), sent)
        # The attacker sees the plain mean of 1 and 3, and sends -2 with weight 4.
        assert x == pytest.approx((1 * 1 + 3 * 3 - 2 * 4) / 8)
        assert measured["stacked"] == 3
        assert measured["excluded"] == 0

    def test_other_roles_and_absent_clients_do_not_attack(self, turned):
        sent = [(1, 1, 0), (3, 1, 2), (100, 0, 1)]
        _, x, measured = run(turned, turned.initialize(), sent)
        assert x == pytest.approx(2)
        assert measured["stacked"] == 2

    def test_a_cohort_of_attackers_sends_what_it_has(self, turned):
        assert run(turned, turned.initialize(), [(5, 1, 1), (7, 1, 1)])[1] == 6

    def test_an_empty_cohort_is_skipped(self, turned):
        _, x, measured = run(turned, turned.initialize(), [(1, 0, 0)])
        assert (x, measured["skipped"]) == (0, 1)

    def test_rows_that_are_not_finite_are_excluded(self):
        def explode(updates, malicious, present, seed):
            del present, seed
            huge = updates * np.float32(np.inf)
            return tf.where(malicious[:, None], huge, updates)

        rule = TrimmedMean(byzantine=1, on_breakdown="skip")
        process = mean_under(explode, rule).create(VALUE, role_weight_type())
        sent = [(1, 1, 0), (3, 1, 0), (50, 1, 0), (2, 1, 1)]
        state, x, measured = run(process, process.initialize(), sent)
        # One hostile row is excluded, so that none is left to trim.
        assert x == pytest.approx(18)
        assert measured["excluded"] == 1
        assert measured["breakdowns"] == 0
        two = [(1, 1, 0), (3, 1, 0), (9, 1, 1), (2, 1, 1)]
        _, _, measured = run(process, state, two)
        assert (measured["skipped"], measured["breakdowns"]) == (1, 1)

    def test_the_randomness_differs_by_round_and_repeats(self):
        process = mean_under(attacks.UpdateAttack("gaussian")).create(
            VALUE, role_weight_type()
        )

        def two_rounds():
            state, first = process.initialize(), []
            for _ in range(2):
                values = [
                    collections.OrderedDict(
                        a=np.zeros(2, np.float32), b=np.zeros(1, np.float32)
                    )
                ]
                weights = [
                    collections.OrderedDict(weight=np.float32(1), role=np.int32(1))
                ]
                output = process.next(state, values, weights)
                state = output.state
                first.append(output.result["a"].tolist())
            return first

        found = two_rounds()
        assert found[0] != found[1]
        assert two_rounds() == found

    def test_what_is_refused(self):
        with pytest.raises(ValueError, match="needs the clients' roles"):
            mean_under(attacks.UpdateAttack("alie")).create(
                VALUE, tff.TensorType(np.float32)
            )
        with pytest.raises(ValueError, match="malicious_role must be at least 1"):
            AttackedFactory(
                StackingFactory(MeanRule(), capacity=2),
                attacks.UpdateAttack("alie"),
                malicious_role=0,
            )


@pytest.fixture(scope="module")
def task(make_linear_task):
    generator = np.random.default_rng(0)
    task = make_linear_task(
        {
            name: (generator.normal(size=(3, 2)), generator.normal(size=3) + offset)
            for name, offset in (("a", 0), ("b", 2), ("c", 5))
        }
    )
    return attacks_on(task, "c")


def attacks_on(task, *malicious):
    roles = dict.fromkeys(malicious, attacks.MALICIOUS)
    return dataclasses.replace(task, train=task.train.with_roles(roles))


def work():
    return clients.local_training(
        optimizer=tff.learning.optimizers.build_sgdm(learning_rate=0.1)
    )


@pytest.fixture(scope="module")
def honest(task):
    """(initial weights, `{client: delta}` of the first round), flat float64."""
    model = task.functional_model()
    function = work().build(model, task.build_objective())
    start = [tf.constant(w) for w in model.initial_weights]
    ids = task.train.client_ids
    cohort = task.train.cohort(ids, seed=0, round_number=1)
    deltas = {}
    for index, name in enumerate(ids):
        batches = {k: tf.constant(v) for k, v in cohort.batches(index).items()}
        deltas[name] = flat(function(start, batches, tf.constant(0)).update)
    return flat(start), deltas


def flat(tensors):
    return np.concatenate([np.ravel(t) for t in tensors]).astype(np.float64)


def one_round(task, **parts):
    process = processes.build_fed_avg(
        task, client_weighting=processes.uniform(), **parts
    )
    with runtime.in_process(process, mode=MODE) as engine:
        cohort = task.train.cohort(task.train.client_ids, seed=0, round_number=1)
        state, metrics = engine.next(engine.initialize(), cohort)
    return flat(state.global_model_weights.trainable), metrics


def test_a_local_attack_under_any_aggregator(task, honest):
    start, deltas = honest
    attacked = attacks.AttackedClientWork(
        work(), attacks.UpdateAttack("sign_flip", 2.0)
    )
    found, _ = one_round(task, client_work=attacked, aggregator=aggregators.mean())
    expected = start + (deltas["a"] + deltas["b"] - 2 * deltas["c"]) / 3
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_omniscient_attack_in_a_round(task, honest):
    start, deltas = honest
    inner = StackingFactory(MeanRule(), capacity=3)
    factory = AttackedFactory(inner, attacks.UpdateAttack("alie", 1.5))
    found, metrics = one_round(task, client_work=work(), aggregator=factory)
    rows = np.stack([deltas["a"], deltas["b"]])
    sent = rows.mean(axis=0) - 1.5 * rows.std(axis=0)
    expected = start + (rows.sum(axis=0) + sent) / 3
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert metrics["aggregator"]["stacked"] == 3


def test_noise_differs_between_clients_and_rounds(task):
    model = task.functional_model()
    attacked = attacks.AttackedClientWork(work(), attacks.UpdateAttack("gaussian", 3.0))
    function = attacked.build(model, task.build_objective())
    start = [tf.constant(w) for w in model.initial_weights]
    both = attacks_on(task, "b", "c").train
    sent = []
    for number in (1, 2):
        cohort = both.cohort(("b", "c"), seed=0, round_number=number)
        for index in range(2):
            batches = {k: tf.constant(v) for k, v in cohort.batches(index).items()}
            sent.append(tuple(flat(function(start, batches, tf.constant(0)).update)))
    assert len(set(sent)) == 4


def test_clients_without_roles(task):
    plain = dataclasses.replace(task, train=dataclasses.replace(task.train, roles=None))
    attacked = attacks.AttackedClientWork(work(), attacks.UpdateAttack("scaled"))
    with pytest.raises(ValueError, match="needs clients with roles"):
        processes.build_fed_avg(plain, client_work=attacked)
    factory = mean_under(attacks.UpdateAttack("alie"))
    with pytest.raises(ValueError, match="AttackedFactory needs clients with roles"):
        processes.build_fed_avg(plain, client_work=work(), aggregator=factory)


def test_no_client_can_be_omniscient():
    with pytest.raises(ValueError, match="mimic needs the honest updates"):
        attacks.AttackedClientWork(work(), attacks.UpdateAttack("mimic"))
