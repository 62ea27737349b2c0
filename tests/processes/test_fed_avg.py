"""FedAvg and FedProx against NumPy by hand, and its behaviour at the edges."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import clients, data, processes, runtime
from tfl_research.aggregators.contract import UpdateAggregator
from tfl_research.algorithms.fed_nova import FedNovaClient

RATE = 0.1
MODE = runtime.Mode("folded", "graph")


def local_by_hand(x, y, weights, batch_size, epochs, mu=0.0, clip=None, rate=RATE):
    """ClientUpdate of a linear model with loss (p - y)^2 / 2, in float64."""
    w, b = np.array(weights[0], np.float64)[:, 0], float(weights[1][0])
    w_t, b_t = w.copy(), b
    for _ in range(epochs):
        for start in range(0, len(y), batch_size):
            xb, yb = x[start : start + batch_size], y[start : start + batch_size]
            error = xb @ w + b - yb
            grad_w = (error[:, None] * xb).mean(0) + mu * (w - w_t)
            grad_b = error.mean() + mu * (b - b_t)
            if clip is not None:
                norm = np.sqrt((grad_w**2).sum() + grad_b**2)
                scale = min(1.0, clip / norm)
                grad_w, grad_b = grad_w * scale, grad_b * scale
            w, b = w - rate * grad_w, b - rate * grad_b
    return [(w - w_t)[:, None], np.array([b - b_t])]


def rounds_by_hand(two_clients, weight_of, rounds=2, server_rate=1.0, **local):
    weights = [np.array([[0.5], [-0.25]]), np.array([0.1])]
    for _ in range(rounds):
        deltas, total = [], 0.0
        for x, y in two_clients.values():
            scale = weight_of(len(y))
            delta = local_by_hand(x, y, weights, batch_size=2, epochs=2, **local)
            deltas.append([scale * d for d in delta])
            total += scale
        mean = [sum(parts) / total for parts in zip(*deltas)]
        weights = [w + server_rate * m for w, m in zip(weights, mean)]
    return weights


def run(task, process, rounds=2, engine=None):
    """Final weights and the metrics of every round, all clients in each."""
    with engine or runtime.in_process(process, mode=MODE) as running:
        state = running.initialize()
        history = []
        for round_number in range(1, rounds + 1):
            cohort = task.train.cohort(
                task.train.client_ids, seed=0, round_number=round_number
            )
            state, metrics = running.next(state, cohort)
            history.append(metrics)
    weights = [np.asarray(w) for w in state.global_model_weights.trainable]
    return weights, history


@dataclasses.dataclass(frozen=True)
class Claims(clients.ClientWork):
    """Local training in which a client of nine examples claims another number."""

    steps: clients.LocalSteps
    claimed: float

    def build(self, model, objective):
        base = clients.LocalTraining(self.steps).build(model, objective)

        def train(weights, batches, round_number):
            result = base(weights, batches, round_number)
            has_nine = tf.equal(result.num_examples, 9.0)
            claimed = tf.where(has_nine, self.claimed, result.num_examples)
            return result._replace(num_examples=claimed)

        return train


@pytest.fixture(scope="module")
def task(make_linear_task, two_clients):
    return make_linear_task(
        two_clients, data.Batching(batch_size=2, epochs=2, shuffle=False)
    )


def sgd():
    return tff.learning.optimizers.build_sgdm(RATE)


@pytest.mark.parametrize(
    ("weighting", "weight_of"),
    [
        (processes.by_examples(), float),
        (processes.uniform(), lambda n: 1.0),
        (processes.capped(2.0), lambda n: min(n / 2.0, 1.0)),
    ],
    ids=["examples", "uniform", "capped"],
)
def test_two_rounds_of_fed_avg_by_hand(task, two_clients, weighting, weight_of):
    process = processes.build_fed_avg(
        task, client_optimizer=sgd(), client_weighting=weighting
    )
    weights, _ = run(task, process)
    expected = rounds_by_hand(two_clients, weight_of)
    np.testing.assert_allclose(weights[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(weights[1], expected[1], rtol=1e-5)


@pytest.mark.parametrize("mu", [0.0, 0.7, 5.0])
def test_two_rounds_of_fed_prox_by_hand(task, two_clients, mu):
    work = clients.local_training(optimizer=sgd(), proximal_strength=mu)
    weights, _ = run(task, processes.build_fed_avg(task, client_work=work))
    expected = rounds_by_hand(two_clients, float, mu=mu)
    np.testing.assert_allclose(weights[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(weights[1], expected[1], rtol=1e-5)


def test_gradient_clipping_by_hand(task, two_clients):
    work = clients.local_training(optimizer=sgd(), gradient_clip_norm=0.3)
    weights, _ = run(task, processes.build_fed_avg(task, client_work=work))
    expected = rounds_by_hand(two_clients, float, clip=0.3)
    np.testing.assert_allclose(weights[0], expected[0], rtol=1e-5)


def test_tffs_own_runtime_gives_the_same(task, two_clients):
    process = processes.build_fed_avg(task, client_optimizer=sgd())
    weights, history = run(task, process, engine=runtime.tff_local(process))
    expected = rounds_by_hand(two_clients, float)
    np.testing.assert_allclose(weights[0], expected[0], rtol=1e-5)
    assert history[0]["cohort"] == {"clients": 2, "examples": 4.0, "excluded": 0}


def test_server_momentum_by_hand(task, two_clients):
    process = processes.build_fed_avg(
        task,
        client_optimizer=sgd(),
        server_optimizer=tff.learning.optimizers.build_sgdm(0.5, momentum=0.9),
    )
    first = rounds_by_hand(two_clients, float, rounds=1)
    start = [np.array([[0.5], [-0.25]]), np.array([0.1])]
    velocity = [f - s for f, s in zip(first, start)]
    expected = [s + 0.5 * v for s, v in zip(start, velocity)]
    weights, _ = run(task, process, rounds=1)
    np.testing.assert_allclose(weights[0], expected[0], rtol=1e-5)
    deltas = [
        local_by_hand(x, y, expected, batch_size=2, epochs=2)
        for x, y in two_clients.values()
    ]
    mean = [(3 * a + b) / 4 for a, b in zip(*deltas)]
    velocity = [0.9 * v + m for v, m in zip(velocity, mean)]
    expected = [w + 0.5 * v for w, v in zip(expected, velocity)]
    weights, _ = run(task, process, rounds=2)
    np.testing.assert_allclose(weights[0], expected[0], rtol=1e-5)


@pytest.mark.parametrize(
    "optimizer",
    [
        tff.learning.optimizers.build_adam(0.05),
        tff.learning.optimizers.build_yogi(0.05),
        tff.learning.optimizers.build_adagrad(0.05),
    ],
    ids=["adam", "yogi", "adagrad"],
)
def test_adaptive_server_optimizers_lower_the_loss(task, optimizer):
    process = processes.build_fed_avg(
        task, client_optimizer=sgd(), server_optimizer=optimizer
    )
    _, history = run(task, process, rounds=12)
    assert float(history[-1]["train"]["loss"]) < float(history[0]["train"]["loss"])


def test_training_metrics_are_means_over_examples_before_each_step(
    make_linear_task, two_clients
):
    task = make_linear_task(
        two_clients, data.Batching(batch_size=4, epochs=1, shuffle=False)
    )
    process = processes.build_fed_avg(task, client_optimizer=sgd())
    _, history = run(task, process, rounds=1)
    losses = [
        0.5 * (x @ np.array([0.5, -0.25]) + 0.1 - y) ** 2
        for x, y in two_clients.values()
    ]
    expected = np.concatenate(losses).mean()
    np.testing.assert_allclose(history[0]["train"]["loss"], expected, rtol=1e-6)


def test_learning_rate_schedules_on_both_sides(task, two_clients):
    rates = [0.1, 0.05]

    def schedule(round_number):
        return tf.gather(tf.constant(rates), round_number)

    work = clients.local_training(optimizer=sgd(), learning_rate_schedule=schedule)
    server = tff.learning.optimizers.schedule_learning_rate(
        tff.learning.optimizers.build_sgdm(1.0),
        lambda r: 1.0 / (1.0 + tf.cast(r, tf.float32)),
    )
    process = processes.build_fed_avg(task, client_work=work, server_optimizer=server)
    weights, _ = run(task, process)
    expected = rounds_by_hand(two_clients, float, rounds=1)
    deltas = [
        local_by_hand(x, y, expected, batch_size=2, epochs=2, rate=0.05)
        for x, y in two_clients.values()
    ]
    mean = [(3 * a + b) / 4 for a, b in zip(*deltas)]
    expected = [w + 0.5 * m for w, m in zip(expected, mean)]
    np.testing.assert_allclose(weights[0], expected[0], rtol=1e-5)


class TestEdges:
    def test_an_empty_cohort_changes_nothing_and_reports_nan(self, task):
        process = processes.build_fed_avg(task, client_optimizer=sgd())
        empty = task.train.cohort((), seed=0, round_number=1)
        for engine in (
            runtime.in_process(process, mode=MODE),
            runtime.tff_local(process),
        ):
            with engine:
                state = engine.initialize()
                new_state, metrics = engine.next(state, empty)
            np.testing.assert_array_equal(
                new_state.global_model_weights.trainable[0],
                state.global_model_weights.trainable[0],
            )
            assert np.isnan(metrics["train"]["loss"])
            assert int(metrics["cohort"]["clients"]) == 0
            assert int(new_state.client_work) == 1

    def test_one_client_is_its_own_local_training(self, task, two_clients):
        process = processes.build_fed_avg(task, client_optimizer=sgd())
        with runtime.in_process(process, mode=MODE) as engine:
            cohort = task.train.cohort(("a",), seed=0, round_number=1)
            state, _ = engine.next(engine.initialize(), cohort)
        start = [np.array([[0.5], [-0.25]]), np.array([0.1])]
        delta = local_by_hand(*two_clients["a"], start, batch_size=2, epochs=2)
        np.testing.assert_allclose(
            state.global_model_weights.trainable[0], start[0] + delta[0], rtol=1e-5
        )

    @pytest.mark.parametrize(
        "weighting", [processes.by_examples(), processes.uniform()], ids=str
    )
    def test_a_client_without_examples_counts_nothing(
        self, make_linear_task, two_clients, weighting
    ):
        batching = data.Batching(batch_size=2, epochs=2, shuffle=False)
        nobody = dict(two_clients, empty=(np.zeros((0, 2)), np.zeros(0)))
        histories = []
        for members in (two_clients, nobody):
            task = make_linear_task(members, batching)
            process = processes.build_fed_avg(
                task, client_optimizer=sgd(), client_weighting=weighting
            )
            histories.append(run(task, process))
        np.testing.assert_array_equal(histories[0][0][0], histories[1][0][0])
        counts = histories[1][1][0]["cohort"]
        assert int(counts["clients"]) == 3
        assert float(counts["examples"]) == 4.0

    @pytest.mark.parametrize("poison", [np.nan, np.inf])
    def test_a_client_that_diverges_is_excluded_and_counted(
        self, make_linear_task, two_clients, poison
    ):
        batching = data.Batching(batch_size=2, epochs=2, shuffle=False)
        bad = dict(two_clients, bad=(np.array([[poison, 1.0]]), np.array([1.0])))
        clean = make_linear_task(two_clients, batching)
        task = make_linear_task(bad, batching)
        process = processes.build_fed_avg(task, client_optimizer=sgd())
        weights, history = run(task, process)
        expected, _ = run(clean, processes.build_fed_avg(clean, client_optimizer=sgd()))
        np.testing.assert_array_equal(weights[0], expected[0])
        assert int(history[0]["cohort"]["excluded"]) == 1
        assert np.isfinite(history[0]["train"]["loss"])

    @pytest.mark.parametrize("weight", [-1e6, np.nan, np.inf])
    @pytest.mark.parametrize(
        "weighting", [processes.by_examples(), processes.capped(2.0)]
    )
    def test_a_weight_without_a_bound_is_excluded(
        self, make_linear_task, two_clients, weighting, weight
    ):
        """A capped weight of -1e6 would break the sensitivity of a mean."""
        batching = data.Batching(batch_size=2, epochs=2, shuffle=False)
        bad = dict(two_clients, bad=(np.ones([9, 2]), np.ones([9])))
        claims = Claims(clients.LocalSteps(sgd()), weight)
        plain = clients.local_training(optimizer=sgd())
        results = []
        for examples, work in ((bad, claims), (two_clients, plain)):
            task = make_linear_task(examples, batching)
            process = processes.build_fed_avg(
                task, client_work=work, client_weighting=weighting
            )
            results.append(run(task, process))
        np.testing.assert_array_equal(results[0][0][0], results[1][0][0])
        cohorts = [history[0]["cohort"] for _, history in results]
        assert [int(c["excluded"]) for c in cohorts] == [1, 0]
        assert float(cohorts[0]["examples"]) == float(cohorts[1]["examples"])


class TestRefusals:
    def test_weights_for_an_aggregator_that_takes_none(self, task):
        with pytest.raises(ValueError, match="must be 'uniform', got 'examples'"):
            processes.build_fed_avg(
                task,
                client_optimizer=sgd(),
                aggregator=tff.aggregators.UnweightedMeanFactory(),
                client_weighting=processes.by_examples(),
            )

    def test_something_that_is_no_aggregator(self, task):
        with pytest.raises(ValueError, match="aggregation factory, got str"):
            processes.build_fed_avg(task, client_optimizer=sgd(), aggregator="mean")

    def test_both_and_neither_of_optimizer_and_work(self, task):
        work = clients.local_training(optimizer=sgd())
        for arguments in ({}, {"client_optimizer": sgd(), "client_work": work}):
            with pytest.raises(ValueError, match="exactly one"):
                processes.build_fed_avg(task, **arguments)

    def test_bad_weightings(self):
        for kind, cap in (("median", None), ("capped", None), ("uniform", 3.0)):
            with pytest.raises(ValueError, match="weight"):
                processes.ClientWeighting(kind, cap)
        with pytest.raises(ValueError, match="positive, got 0"):
            processes.capped(0)


AGGREGATORS = {
    "robust": lambda: tff.learning.robust_aggregator(),
    "zeroing": lambda: tff.aggregators.zeroing_factory(
        10.0, tff.aggregators.MeanFactory(no_nan_division=True)
    ),
    "clipping": lambda: tff.aggregators.clipping_factory(
        1.0, tff.aggregators.MeanFactory(no_nan_division=True)
    ),
    "compression": lambda: tff.learning.compression_aggregator(),
    "dp": lambda: tff.aggregators.DifferentiallyPrivateFactory.gaussian_adaptive(
        1.0, 100.0
    ),
    "unweighted": lambda: tff.aggregators.UnweightedMeanFactory(),
}


@pytest.mark.parametrize("name", AGGREGATORS)
def test_any_tff_aggregation_factory_plugs_in(task, name):
    process = processes.build_fed_avg(
        task, client_optimizer=sgd(), aggregator=AGGREGATORS[name]()
    )
    with runtime.tff_local(process) as engine:
        state = engine.initialize()
        before = np.array(state.global_model_weights.trainable[0])
        cohort = task.train.cohort(task.train.client_ids, seed=0, round_number=1)
        state, metrics = engine.next(state, cohort)
    after = np.array(state.global_model_weights.trainable[0])
    assert np.isfinite(after).all()
    assert np.abs(after - before).max() > 0
    assert int(metrics["cohort"]["clients"]) == 2


class PlannedMean(UpdateAggregator, tff.aggregators.MeanFactory):
    """A mean that declares a plan."""

    plan = "a plan"

    def __init__(self):
        super().__init__(no_nan_division=True)


def test_reports_are_outside_of_a_plan(task):
    """A plan's noise covers updates, and the server would see the reports as well."""
    steps = clients.LocalSteps(sgd())
    arguments = {"aggregator": PlannedMean(), "max_cohort_size": 2}
    with pytest.raises(ValueError, match="covers only updates"):
        processes.build_fed_avg(task, client_work=FedNovaClient(steps), **arguments)
    planned = processes.build_fed_avg(task, client_optimizer=sgd(), **arguments)
    assert planned.plan == "a plan"
