"""Processes of which everything that clients report goes through secure sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import (
    aggregators as rules,
    algorithms,
    clients,
    data,
    privacy,
    processes,
    runtime,
)
from tfl_research.aggregators import SumFormats
from tfl_research.privacy import MechanismContext, UserLevelPlan
from tfl_research.privacy.mechanisms.noise import client_seeds
from tfl_research.runtime.compiler.map_reduce import MapReduce
from tfl_research.sampling import Full, Poisson

GRAPH = runtime.Mode("folded", "graph")
FORMATS = SumFormats(3)
SGD = tff.learning.optimizers.build_sgdm(0.1)
STEPS = clients.LocalSteps(SGD)
FLOAT = 2.0**-22


@pytest.fixture(scope="module")
def task(make_linear_task):
    generator = np.random.default_rng(0)
    return make_linear_task(
        {
            name: (generator.normal(size=(n, 2)), generator.normal(size=n))
            for name, n in (("a", 3), ("b", 1), ("c", 6))
        }
    )


def values(task, secret=5, ids=None):
    ids = ids or task.train.client_ids
    cohort = task.train.cohort(ids, seed=0, round_number=1)
    if secret is None:
        return cohort
    return cohort.with_members(client_secret=data.client_secrets(secret, ids, 1))


def one_round(process, cohort):
    engine = runtime.in_process(process, mode=GRAPH)
    state, metrics = engine.next(engine.initialize(), cohort)
    weights = [np.asarray(w).ravel() for w in state.global_model_weights.trainable]
    return np.concatenate(weights), metrics


def assert_sums_alone(process):
    form = MapReduce(process)
    assert form.num_update_leaves == 0
    # All of one intrinsic, and each modulus a power of two.
    assert form.num_modular_leaves == len(form.secure_types)
    moduli = [int(m) for m in tf.function(lambda: form.trace(form.moduli))()]
    assert len(moduli) == form.num_modular_leaves
    assert all(m > 1 and m & (m - 1) == 0 for m in moduli)


def context(formats):
    return rules.AggregatorContext(3, 1, weighted=True, secure_sums=formats)


def algorithm_of(name):
    found = algorithms.ALGORITHMS.get(name)()
    return found.build(
        algorithms.AlgorithmContext(STEPS, processes.OptimizerStep(), 3, None)
    )


def with_rule(rule, weighting=None):
    def build(task, formats):
        return processes.build_fed_avg(
            task,
            client_optimizer=SGD,
            aggregator=rule.build(context(formats)),
            client_weighting=weighting,
            secure_sums=formats,
        )

    return build


def with_algorithm(name):
    def build(task, formats):
        return algorithm_of(name).build(task, max_cohort_size=3, secure_sums=formats)

    return build


NOISELESS = {
    "mean": with_rule(rules.Mean()),
    "capped": with_rule(rules.Mean(), processes.capped(5)),
    "robust": with_rule(rules.Robust()),
    "norm_clipping": with_rule(rules.NormClipping(clip_radius=0.1)),
    "repeated_geometric_median": with_rule(rules.RepeatedGeometricMedian()),
    "fed_nova": with_algorithm("fed_nova"),
    "mime_lite": with_algorithm("mime_lite"),
}


@pytest.fixture(scope="module")
def built(task):
    return {name: build(task, FORMATS) for name, build in NOISELESS.items()}


@pytest.mark.parametrize("name", NOISELESS)
def test_nothing_else_leaves_and_the_model_is_the_plain_ones(task, built, name):
    process = built[name]
    assert_sums_alone(process)
    cohort = values(task, secret=None)
    secure, measured = one_round(process, cohort)
    plain, expected = one_round(NOISELESS[name](task, None), cohort)
    # Half a step for each client over the least sum of weights, and float32. The
    # repeated median divides by sums of ν β, which are smaller, and has another ν.
    slack = 3 * FORMATS.tensors.step / 2 / (2 / 5) + 3 * FLOAT
    if name == "repeated_geometric_median":
        slack = 1e-6
    np.testing.assert_allclose(secure, plain, rtol=0, atol=slack)
    assert measured["cohort"] == expected["cohort"]
    for metric, value in expected["train"].items():
        assert float(measured["train"][metric]) == pytest.approx(float(value), rel=1e-6)
    assert int(measured["secure_sums"]["clipped_clients"]) == 0
    assert "secure_sums" not in expected


def test_of_states_that_clients_keep_the_table_alone_is_no_sum(task):
    process = with_algorithm("scaffold")(task, FORMATS)
    assert runtime.plain_leaves(process) == len(process.client_states.members) == 2


def test_a_mean_by_hand(task, built):
    process = built["mean"]
    found, _ = one_round(process, values(task, secret=None))
    deltas, weights = [], []
    for name in task.train.client_ids:
        alone, metrics = one_round(process, values(task, secret=None, ids=[name]))
        deltas.append(alone - np.array([0.5, -0.25, 0.1]))
        weights.append(float(metrics["cohort"]["examples"]))
    step = FORMATS.tensors.step
    sent = [np.round(np.float32(d) * w / step) for d, w in zip(deltas, weights)]
    mean = sum(sent) * step / sum(weights)
    np.testing.assert_allclose(found - [0.5, -0.25, 0.1], mean, atol=3 * FLOAT)


def test_results_do_not_depend_on_the_order_of_clients(task, built):
    one, other = (
        one_round(built["mean"], values(task, secret=None, ids=ids))
        for ids in (("a", "b", "c"), ("c", "a", "b"))
    )
    np.testing.assert_array_equal(one[0], other[0])


def test_plain_sums_of_the_same_integers_give_the_same_bits(task, built):
    insecure = SumFormats(3, secure=False)
    process = NOISELESS["robust"](task, insecure)
    assert runtime.plain_leaves(process) > 0
    cohort = values(task, secret=None)
    found, expected = one_round(process, cohort), one_round(built["robust"], cohort)
    np.testing.assert_array_equal(found[0], expected[0])


class Diverges(clients.ClientWork):
    """Client "b", which has one example, sends NaN; the others send 1000."""

    def build(self, model, objective):
        def client_function(server_weights, batches, round_number):
            alone = tf.equal(batches["num_examples"], 1)
            value = tf.where(alone, math.nan, 1000.0)
            examples = tf.cast(batches["num_examples"], tf.float32)
            return clients.ClientResult(
                [tf.ones_like(w) * value for w in server_weights],
                examples,
                {"loss": examples * math.inf, "examples": examples},
            )

        return client_function


def test_what_is_clipped_is_counted_and_what_is_not_finite_is_excluded(task):
    formats = SumFormats(3, bits=32, bound=4096.0)
    process = processes.build_fed_avg(task, client_work=Diverges(), secure_sums=formats)
    weights, metrics = one_round(process, values(task, secret=None))
    # a sends 3 x 1000; c sends 6 x 1000, of which 4096 is left; b sends zeros.
    mean = (3000 + 4096) / 9
    np.testing.assert_allclose(weights, np.array([0.5, -0.25, 0.1]) + mean, rtol=1e-6)
    assert int(metrics["cohort"]["excluded"]) == 1
    assert int(metrics["aggregator"]["mean_value"]["clipped_clients"]) == 1
    assert int(metrics["aggregator"]["mean_weight"]["clipped_clients"]) == 0
    # The infinite losses of a and c.
    assert int(metrics["secure_sums"]["clipped_clients"]) == 2
    assert math.isfinite(float(metrics["train"]["loss"]))
    # Four bytes for each of three coordinates.
    assert process.upload_bytes == 12


def test_nobody_leaves_the_model_as_it_is(task, built):
    weights, metrics = one_round(
        built["mean"], task.train.cohort([], seed=0, round_number=1)
    )
    np.testing.assert_array_equal(weights, np.array([0.5, -0.25, 0.1], np.float32))
    assert int(metrics["cohort"]["clients"]) == 0


def private_plan(mechanism):
    noised_at_clients = mechanism.NOISED_AT != "server"
    sampler = (
        Full(list("abc")) if noised_at_clients else Poisson(list("abc"), 2, seed=0)
    )
    return UserLevelPlan.create(
        mechanism,
        l2_norm_clip=0.5,
        amplification=sampler.amplification,
        rounds=3,
        noise_multiplier=0.09,
        delta=1e-3,
        model_dimension=lambda: 3,
    )


def private(task, mechanism, formats, *, secrets=True, rule=None):
    plan = private_plan(mechanism)
    built = plan.build(
        MechanismContext(
            noise_seed=9,
            rule=rule,
            secure_sums=formats,
            client_secrets=secrets,
        )
    )
    return processes.build_fed_avg(
        task, client_optimizer=SGD, aggregator=built.aggregator, secure_sums=formats
    )


class TestMechanisms:
    @pytest.mark.parametrize(
        "mechanism",
        [
            privacy.mechanisms.Gaussian(),
            privacy.mechanisms.AdaptiveGaussian(),
            privacy.mechanisms.DiscreteGaussian(),
            privacy.mechanisms.LocalGaussian(),
        ],
        ids=lambda mechanism: mechanism.NAME,
    )
    def test_nothing_else_leaves_and_the_noise_is_the_same(self, task, mechanism):
        process = private(task, mechanism, FORMATS)
        assert_sums_alone(process)
        at_clients = mechanism.NOISED_AT != "server"
        assert process.client_secrets == at_clients
        cohort = values(task, secret=5 if at_clients else None)
        secure, measured = one_round(process, cohort)
        plain, expected = one_round(private(task, mechanism, None), cohort)
        np.testing.assert_allclose(secure, plain, rtol=0, atol=1e-6)
        for name, value in expected["aggregator"].items():
            np.testing.assert_allclose(measured["aggregator"][name], value, rtol=1e-6)
        private_plan(mechanism).check_measured(measured)

    def test_a_rule_after_the_clients_noise(self, task):
        rule = rules.Clipping().build(context(FORMATS))
        process = private(task, privacy.mechanisms.LocalGaussian(), FORMATS, rule=rule)
        assert_sums_alone(process)
        _, measured = one_round(process, values(task))
        private_plan(privacy.mechanisms.LocalGaussian()).check_measured(measured)

    def test_noise_is_of_the_clients_secret_and_of_the_servers_key(self, task):
        mechanism = privacy.mechanisms.Skellam()
        process = private(task, mechanism, FORMATS)
        first, _ = one_round(process, values(task, secret=5))
        again, _ = one_round(process, values(task, secret=5))
        other, _ = one_round(process, values(task, secret=6))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
        # The public seeds of a cohort are not what the noise is drawn from.
        ids = task.train.client_ids
        seeds = task.train.cohort(ids, seed=99, round_number=1).seeds
        assert not np.array_equal(seeds, values(task).seeds)
        names = dict(
            tff.structure.iter_elements(process.next.type_signature.parameter[1].member)
        )
        assert str(names["client_secret"]) == "int64[2]"

    def test_a_run_does_not_go_on_with_other_noise(self, task):
        mechanism = privacy.mechanisms.LocalGaussian()
        digests = [
            runtime.computation_digests(private(task, mechanism, None, secrets=secrets))
            for secrets in (False, True)
        ]
        assert digests[0] != digests[1]


def test_the_seed_of_noise_is_keyed_by_the_secret():
    private_seed = tf.constant([3, 4], tf.int64)
    weight = {"weight": tf.constant(1.0)}

    def seed(secret, server=private_seed):
        secret = tf.constant(secret, tf.int64)
        return client_seeds.noise_seed(server, {**weight, "client_secret": secret})

    seeds = [
        seed([1, 2]),
        seed([1, 3]),
        seed([2, 2]),
        seed([1, 2], tf.constant([3, 5], tf.int64)),
        seed([1, 2], tf.constant([4, 4], tf.int64)),
        client_seeds.noise_seed(
            private_seed, {**weight, "seed": tf.constant([1, 2], tf.int32)}
        ),
    ]
    found = {tuple(each.numpy().tolist()) for each in seeds}
    assert len(found) == len(seeds)


def test_secrets_of_clients():
    secrets = data.client_secrets(7, ["a", "b"], 1)
    assert secrets.shape == (2, 2)
    assert secrets.dtype == np.int64
    np.testing.assert_array_equal(data.client_secrets(7, ["b"], 1)[0], secrets[1])
    others = [
        data.client_secrets(7, ["a"], 2)[0],
        data.client_secrets(8, ["a"], 1)[0],
        secrets[1],
        secrets[0],
    ]
    assert len({tuple(each) for each in others}) == 4
    assert data.client_secrets(7, [], 1).shape == (0, 2)
    # All 64 bits are used.
    many = data.client_secrets(7, [str(i) for i in range(200)], 1)
    assert many.min() < -(2**62)
    assert many.max() > 2**62
