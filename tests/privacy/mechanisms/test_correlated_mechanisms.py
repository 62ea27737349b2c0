"""DP-FTRL's mechanisms on both runtimes: noise, sensitivity, resuming, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import privacy, runtime, sampling
from tfl_research.privacy.mechanisms import noised_sum
from tfl_research.privacy.mechanisms.noise import factorization
from tfl_research.privacy.mechanisms.noise.matrix_noise import MatrixNoise
from tfl_research.privacy.mechanisms.noise.tree_noise import TreeNoise
from tfl_research.runtime.compiler.map_reduce import Mode

FLOAT = tff.TensorType(np.float32)
VALUE = tff.StructWithPythonType(
    [("b", tff.TensorType(np.float32, [2])), ("a", tff.TensorType(np.float32, [1, 3]))],
    dict,
)
IDS = tuple(f"client_{index}" for index in range(12))
SAMPLER = sampling.MinSeparation(IDS, 3, seed=5)
ROUNDS, RESTART, ROWS = 11, 4, 6
CLIP, EXPECTED = 0.5, 3.0


def mechanism(name, noise_multiplier=0.0, **changes):
    common = {
        "l2_norm_clip": CLIP,
        "noise_multiplier": noise_multiplier,
        "expected_cohort_size": EXPECTED,
        "noise_seed": 2**77 + 5,
    }
    if name == "matrix":
        return privacy.banded_matrix_aggregator(
            **{**common, "rounds": ROWS, "bands": 4, "cache": False, **changes}
        )
    arguments = {"restart_every": RESTART, "efficient": name == "honaker"}
    return privacy.tree_aggregator(**{**common, **arguments, **changes})


def event_of(name):
    """What rounds of noise multiplier 1 are charged as."""
    amplification = SAMPLER.amplification
    if name == "matrix":
        return privacy.MatrixEvent.of(1.0, amplification, rounds=ROWS, bands=4)
    return privacy.TreeEvent.of(1.0, amplification, restart_every=RESTART)


def process_of(built):
    """A process whose round is the aggregation of the clients' (value, weight)."""
    aggregation = built.create(VALUE, FLOAT)

    @tff.federated_computation(
        aggregation.initialize.type_signature.result,
        tff.FederatedType(
            tff.StructWithPythonType([("value", VALUE), ("weight", FLOAT)], dict),
            tff.CLIENTS,
        ),
    )
    def next_round(state, clients):
        output = aggregation.next(state, clients["value"], clients["weight"])
        return output.state, output.result

    return tff.templates.IterativeProcess(aggregation.initialize, next_round)


def client(vector, weight=1.0):
    vector = np.asarray(vector, np.float32)
    value = {"b": vector[3:], "a": vector[:3].reshape(1, 3)}
    return {"value": value, "weight": np.float32(weight)}


def flat(result):
    """In the order of `tf.nest`: that of the names."""
    return np.concatenate([np.ravel(result["a"]), np.ravel(result["b"])])


def run(engine, cohorts, state=None):
    """States after each round, and results float64 `[rounds, 5]`."""
    states, results = [], []
    state = engine.initialize() if state is None else state
    for cohort in cohorts:
        state, result = engine.next(state, cohort)
        states.append(state)
        results.append(flat(result))
    return states, np.array(results, np.float64)


def cohorts_of(rounds, seed=0):
    """Of 0 to 3 clients, whose updates are within the clip."""
    generator = np.random.default_rng(seed)
    return [
        [client(generator.uniform(-0.2, 0.2, 5)) for _ in range(number % 4)]
        for number in range(rounds)
    ]


def sums_of(cohorts):
    return np.array(
        [sum((flat(one["value"]) for one in cohort), np.zeros(5)) for cohort in cohorts]
    )


def declared_noise(name):
    """Straight from the noise process: float64 `[rounds, 5]`."""
    if name == "matrix":
        factor = factorization.banded_factor(ROWS, 4, cache=False)
        noise = MatrixNoise(factor.rows)
    else:
        noise = TreeNoise(RESTART, name == "honaker")
    seed, like = noised_sum.seed_tensor(2**77 + 5), [tf.zeros([1, 3]), tf.zeros([2])]

    @tf.function(autograph=False)
    def step(state, number):
        return noise.next(state, seed, number, like)

    state, drawn = noise.initial_state([[1, 3], [2]]), []
    for number in range(ROUNDS):
        parts, state = step(state, tf.constant(number))
        drawn.append(np.concatenate([np.ravel(part) for part in parts]))
    return np.array(drawn, np.float64)


@pytest.mark.parametrize("name", ["tree", "honaker", "matrix"])
class TestOnBothRuntimes:
    def test_releases_what_is_declared_and_resumes(self, name):
        """Mean and noise, past restarts; equal on both; bit-identical when resumed."""
        z, cohorts = 1.5, cohorts_of(ROUNDS)
        process = process_of(mechanism(name, z))
        mode = Mode("folded", "xla")
        with runtime.in_process(process, mode=mode) as engine:
            states, found = run(engine, cohorts)
        expected = sums_of(cohorts) + z * CLIP * declared_noise(name)
        np.testing.assert_allclose(found, expected / EXPECTED, rtol=1e-4, atol=1e-5)
        # Built anew, from the state after five rounds (within a tree, and a matrix).
        again = process_of(mechanism(name, z))
        with runtime.in_process(again, mode=mode) as engine:
            resumed = run(engine, cohorts[5:], states[4])[1]
        np.testing.assert_array_equal(resumed, found[5:])
        with runtime.tff_local(process) as engine:
            other = run(engine, cohorts)[1]
        np.testing.assert_allclose(other, found, rtol=1e-4, atol=1e-5)
        leaves = tf.nest.flatten(states[-1])
        assert {np.asarray(leaf).dtype.kind for leaf in leaves} <= set("if")


WILD = [0.0, 1.0, -0.3, np.nan, np.inf, -np.inf, 1e30, -6e37, 1e-40]
WEIGHTS = [1.0, 0.3, 0.0, -5.0, 1e9, np.nan, np.inf]


@pytest.mark.parametrize("name", ["honaker", "matrix"])
class TestSensitivity:
    """One client's part in all that is released, on the real aggregation path."""

    @pytest.fixture
    def engine(self, name):
        process = process_of(mechanism(name))
        with runtime.in_process(process, mode=Mode("folded", "graph")) as engine:
            yield engine

    def moved(self, engine, rounds, clients, target):
        """How the rounds' sums move when one client's contributions become zero."""

        def sums(without):
            cohorts = [
                [
                    clients[client_id, number]
                    for client_id in SAMPLER.sample(number)
                    if client_id != without
                ]
                for number in range(1, rounds + 1)
            ]
            return run(engine, cohorts)[1] * EXPECTED

        return sums(None) - sums(target)

    def test_within_what_is_declared(self, name, engine):
        generator = np.random.default_rng(3)
        event = event_of(name)
        encoder = self.encoder(name, 12)
        declared = event.squared_sensitivity(12)[-1] * CLIP**2
        for trial in range(4):
            drawn = {
                (client_id, number): client(
                    generator.choice(WILD, 5) * generator.choice([1, 1, 5]),
                    generator.choice(WEIGHTS),
                )
                for client_id in IDS
                for number in range(1, 13)
            }
            moved = self.moved(engine, 12, drawn, IDS[trial])
            # A round's sum by at most the clip, all rounds by the declared.
            assert np.linalg.norm(moved, axis=1).max() <= CLIP * (1 + 1e-5)
            assert ((encoder @ moved) ** 2).sum() <= declared * (1 + 1e-5)

    def test_is_reached(self, name, engine):
        """Huge updates of one direction, by the client of the first rounds."""
        target = SAMPLER.sample(1)[0]

        huge = client([1e20, 0, 0, -1e20, 0])
        same = {(name, number): huge for name in IDS for number in range(1, 13)}
        moved = self.moved(engine, 12, same, target)
        declared = event_of(name).squared_sensitivity(12)[-1] * CLIP**2
        found = ((self.encoder(name, 12) @ moved) ** 2).sum()
        assert found == pytest.approx(declared, rel=1e-4)

    @staticmethod
    def encoder(name, rounds):
        """What the noise of independent parts is added to, of the rounds' sums."""
        if name == "matrix":
            dense = factorization.banded_factor(ROWS, 4, cache=False).dense()
            return np.kron(np.eye(rounds // ROWS), dense)
        tree = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
        tree += [[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]]
        return np.kron(np.eye(rounds // RESTART), tree)


class TestConstruction:
    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            ("tree", {"restart_every": 0}, "restart_every must be at least 1"),
            ("tree", {"noise_multiplier": -1.0}, "noise_multiplier must be at least"),
            ("tree", {"expected_cohort_size": 0.0}, "expected_cohort_size must be"),
            ("matrix", {"l2_norm_clip": np.inf}, "l2 norm clip must be positive"),
            ("matrix", {"rounds": 3, "bands": 4}, "bands must be"),
            ("matrix", {"rounds": 0}, "rounds must be"),
            ("matrix", {"momentum": -0.1}, "momentum must be"),
        ],
    )
    def test_bad_settings(self, name, change, message):
        with pytest.raises(ValueError, match=message):
            mechanism(name, **change)

    def test_an_adaptive_clip_needs_independent_noise(self):
        with pytest.raises(ValueError, match="independent noise"):
            noised_sum.NoisedSumFactory(
                1.0,
                1.0,
                3.0,
                1,
                noised_sum.Adaptation(0.5, 0.2, 1.0),
                tff.aggregators.SumFactory(),
                TreeNoise(4, False),
            )
