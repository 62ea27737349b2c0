"""Processes of TFF and of a user's own in the loop: same folder, same numbers."""

from __future__ import annotations

import collections
import contextlib
import io
import json
import signal

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tfl_research as tfl
from tfl_research import interrupts, runtime
from tfl_research.errors import SettingError, UserError
from tfl_research.experiment.own_process.client_values import CohortValues
from tfl_research.experiment.own_process.explained import ExplainedEngine

FEATURES = 4
ROUNDS = tfl.Training(rounds=3, evaluate_every=3, tensorboard=False)


def dataset(count, seed):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(count, FEATURES)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(4)


CLIENTS = {f"client {number}": dataset(5 + number, number) for number in range(3)}


def build_model():
    return tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer(input_shape=(FEATURES,)),
            tf.keras.layers.Dense(5, activation="relu"),
            tf.keras.layers.Dense(3, activation="softmax"),
        ]
    )


def model_fn():
    return tff.learning.models.from_keras_model(
        build_model(),
        input_spec=CLIENTS["client 0"].element_spec,
        loss=tf.keras.losses.SparseCategoricalCrossentropy(),
        metrics=[tf.keras.metrics.SparseCategoricalAccuracy()],
    )


@pytest.fixture(scope="module")
def averaging():
    sgd = tff.learning.optimizers.build_sgdm
    return tff.learning.algorithms.build_weighted_fed_avg(
        model_fn, client_optimizer_fn=sgd(0.1), server_optimizer_fn=sgd(1.0)
    )


def run(process, folder, clients=None, stream=None, **options):
    options.setdefault("training", ROUNDS)
    experiment = tfl.ProcessExperiment(process, clients, **options)
    return experiment.run(folder, stream=stream or io.StringIO())


class Kill(tfl.Callback):
    """Ends the run after a round, without a checkpoint, as a kill does."""

    def __init__(self, after=2):
        self.after = after

    def on_round(self, report):
        if report.round_number == self.after:
            raise KeyboardInterrupt


def kill(process, folder, clients, after=2, **options):
    with pytest.raises(SystemExit):
        run(process, folder, clients, callbacks=[Kill(after)], **options)


def leaves(state):
    return [np.asarray(leaf) for leaf in tf.nest.flatten(state)]


EVALUATED = {
    "cohorts": tfl.Cohorts("full"),
    "model": model_fn,
    "test": CLIENTS,
}


@pytest.fixture(scope="module")
def whole(averaging, tmp_path_factory):
    """An uninterrupted run, and the text that the run printed."""
    folder, stream = tmp_path_factory.mktemp("averaging"), io.StringIO()
    return run(averaging, folder / "whole", CLIENTS, stream, **EVALUATED), stream


def test_the_tutorials_averaging_agrees_with_plain_tff(averaging, whole):
    ours, stream = whole
    with runtime.tff_local(averaging) as engine:
        state = engine.initialize()
        for _ in range(3):
            state, metrics = engine.next(state, list(CLIENTS.values()))
    for one, other in zip(ours.weights.trainable, state.global_model_weights.trainable):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    train = metrics["client_work"]["train"]
    row = ours.metrics.iloc[-1]
    assert row["train_loss"] == pytest.approx(float(train["loss"]), rel=1e-5)
    accuracy = float(train["sparse_categorical_accuracy"])
    assert row["train_accuracy"] == pytest.approx(accuracy, rel=1e-5)
    assert row["examples"] == row["train_num_examples"] == 18
    assert row["finalizer.update_non_finite"] == 0
    # Keras evaluates the same model to the same numbers.
    model = build_model()
    ours.weights.assign_weights_to(model)
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    every = list(CLIENTS.values())
    together = every[0].concatenate(every[1]).concatenate(every[2])
    loss, right = model.evaluate(together, verbose=0)
    assert row["eval_loss"] == pytest.approx(loss, rel=1e-5)
    assert row["eval_sparse_categorical_accuracy"] == pytest.approx(right, rel=1e-5)
    assert row["eval_client_worst_loss"] >= row["eval_client_mean_loss"]
    assert (ours.ended.best_round, ours.epsilon) == (3, np.inf)
    assert "no ε is known" in stream.getvalue()
    files = {path.name for path in ours.path.iterdir()}
    assert files >= {"metrics.csv", "checkpoints", "export", "report.html"}
    names = np.load(ours.path / "export" / "final" / "weights.npz").files
    assert names == [f"trainable.{number}" for number in range(4)]


def test_a_killed_run_ends_as_one_that_was_not(averaging, whole, tmp_path):
    """Its initial weights have no seed, so that only a checkpoint has them."""
    kill(averaging, tmp_path, CLIENTS, **EVALUATED)
    resumed = run(averaging, tmp_path, CLIENTS, **EVALUATED)
    for one, other in zip(leaves(resumed.state), leaves(whole[0].state)):
        np.testing.assert_array_equal(one, other)
    tables = [
        result.metrics.drop(columns="round_seconds") for result in (resumed, whole[0])
    ]
    assert tables[0].equals(tables[1])


def test_another_process_is_refused(averaging, whole):
    other = tff.learning.algorithms.build_weighted_fed_avg(
        model_fn, client_optimizer_fn=tff.learning.optimizers.build_sgdm(0.2)
    )
    folder = whole[0].path
    with pytest.raises(UserError, match="was begun with another process"):
        run(other, folder, CLIENTS, **EVALUATED)
    others = {**CLIENTS, "another": CLIENTS["client 2"]}
    del others["client 2"]
    with pytest.raises(UserError, match="digest of all clients' examples"):
        run(averaging, folder, others, **EVALUATED)


def test_a_keras_model_is_evaluated_and_exported(averaging, tmp_path):
    def compiled():
        model = build_model()
        model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    result = run(averaging, tmp_path, CLIENTS, model=compiled, test=CLIENTS)
    row = result.metrics.iloc[-1]
    named = {
        name: clients.map(lambda x, y: collections.OrderedDict(x=x, y=y))
        for name, clients in CLIENTS.items()
    }
    by_name = run(averaging, tmp_path / "named", CLIENTS, model=compiled, test=named)
    assert by_name.metrics.iloc[-1]["eval_loss"] == row["eval_loss"]
    loaded = tf.keras.models.load_model(str(tmp_path / "export" / "best"))
    examples = next(iter(dataset(100, 3).unbatch().batch(100)))
    reference = build_model()
    result.weights.assign_weights_to(reference)
    np.testing.assert_allclose(
        loaded.predict(examples[0], verbose=0),
        reference.predict(examples[0], verbose=0),
        rtol=1e-5,
    )
    assert 0 < row["eval_loss"] < 3
    assert row["eval_client_mean_accuracy"] <= 1
    clients = (tmp_path / "clients.csv").read_text().splitlines()
    assert len(clients) == 1 + 2 * len(CLIENTS)
    with pytest.raises(SettingError, match="model: the Keras model is not compiled"):
        run(averaging, tmp_path / "no", CLIENTS, model=build_model, test=CLIENTS)


def test_a_model_function_with_other_constants_at_each_call_is_refused(
    averaging, tmp_path
):
    def scaled():
        scale = np.random.default_rng().uniform(1, 9)
        model = tf.keras.Sequential(
            [
                tf.keras.layers.InputLayer(input_shape=(FEATURES,)),
                tf.keras.layers.Rescaling(scale),
                *build_model().layers,
            ]
        )
        model.compile(loss="sparse_categorical_crossentropy")
        return model

    def by_tff():
        model = scaled()
        return tff.learning.models.from_keras_model(
            tf.keras.Sequential(model.layers),
            input_spec=CLIENTS["client 0"].element_spec,
            loss=tf.keras.losses.SparseCategoricalCrossentropy(),
        )

    for model in (scaled, by_tff):
        with pytest.raises(SettingError, match="makes another model each") as refused:
            run(averaging, tmp_path, CLIENTS, model=model, test=CLIENTS)
        assert "\n" not in str(refused.value)
    one = scaled()
    result = run(averaging, tmp_path, CLIENTS, model=lambda: one, test=CLIENTS)
    assert result.metrics["eval_loss"].notna().any()


def test_k_means(tmp_path):
    generator = np.random.default_rng(0)
    clients = {
        f"side {number}": [
            generator.normal(size=2).astype(np.float32) + 5 * number for _ in range(6)
        ]
        for number in range(2)
    }
    process = tff.learning.algorithms.build_fed_kmeans(2, (2,), random_seed=(1, 2))

    def spread(centers):
        return {"spread": np.ptp(np.asarray(centers), axis=0).mean()}

    result = run(
        process, tmp_path, clients, evaluate=spread, cohorts=tfl.Cohorts("full")
    )
    with runtime.in_process(process) as engine:
        state = engine.initialize()
        datasets = [tf.data.Dataset.from_tensor_slices(c) for c in clients.values()]
        for _ in range(3):
            state, _ = engine.next(state, datasets)
    np.testing.assert_array_equal(result.weights, state.global_model_weights)
    assert result.metrics["client_work.num_examples"].tolist() == [12, 12, 12]
    expected = np.ptp(np.asarray(result.weights), axis=0).mean()
    assert result.metrics["eval_spread"].iloc[-1] == pytest.approx(expected)
    assert np.load(tmp_path / "export" / "final" / "weights.npz")["weights"].shape == (
        2,
        2,
    )


@tff.tensorflow.computation(np.int64, np.int64)
def added(one, other):
    return one + other


STATE = tff.StructWithPythonType(
    [
        ("total", np.int64),
        ("words", tff.TensorType(np.str_, [None])),
        ("half", tf.bfloat16.as_numpy_dtype),
        ("flag", np.bool_),
        ("nothing", tff.StructWithPythonType([], list)),
    ],
    collections.OrderedDict,
)


@tff.tensorflow.computation
def first_state():
    return collections.OrderedDict(
        total=np.int64(2**40),
        words=tf.constant(["begin"]),
        half=tf.constant(0.1, tf.bfloat16),
        flag=True,
        nothing=[],
    )


@tff.tensorflow.computation(STATE, np.int64)
def next_state(state, value):
    return collections.OrderedDict(
        total=state["total"] + value,
        words=tf.concat([state["words"], [tf.strings.as_string(value)]], 0),
        half=state["half"] + tf.cast(value, tf.bfloat16),
        flag=tf.logical_not(state["flag"]),
        nothing=[],
    )


@tff.tensorflow.computation(STATE)
def described(state):
    return collections.OrderedDict(
        words=state["words"], last=state["words"][-1], total=state["total"]
    )


@tff.federated_computation
def initialize():
    return tff.federated_eval(first_state, tff.SERVER)


@tff.federated_computation(
    tff.FederatedType(STATE, tff.SERVER), tff.FederatedType(np.int64, tff.CLIENTS)
)
def count(state, values):
    new = tff.federated_map(next_state, (state, tff.federated_sum(values)))
    return new, tff.federated_map(described, new)


class Process:
    """Of no class of TFF."""

    initialize = initialize
    next = count


def test_every_leaf_of_a_state_survives_a_kill(tmp_path):
    values = {"a": 1, "b": np.int64(2)}
    options = {"cohorts": tfl.Cohorts("full"), "runtime": tfl.Runtime("tff")}
    training = tfl.Training(
        rounds=4, checkpoint_every=2, tensorboard=False, evaluate_every=4
    )
    kill(Process(), tmp_path, values, after=3, training=training, **options)
    result = run(Process(), tmp_path, values, training=training, **options)
    state = result.state
    assert int(state["total"]) == 2**40 + 12
    assert np.asarray(state["words"]).tolist() == [b"begin", *[b"3"] * 4]
    assert float(np.asarray(state["half"], np.float32)) == pytest.approx(12, abs=0.2)
    assert bool(state["flag"]) is True
    assert result.measurements[4]["words"].tolist() == [b"begin", *[b"3"] * 4]
    assert result.measurements[2]["last"][()] == b"3"
    assert result.metrics["total"].tolist() == [2**40 + 3 * n for n in (1, 2, 3, 4)]


@tff.federated_computation(
    tff.FederatedType(np.float32, tff.CLIENTS),
    tff.FederatedType(np.float32, tff.CLIENTS),
)
def weighted(temperature, weight):
    return tff.federated_mean(temperature, weight)


def test_a_computation_is_run_once_or_in_each_round(tmp_path):
    clients = {
        "north": {"weight": 3.0, "temperature": 10.0},
        "south": {"temperature": 20.0, "weight": 1.0},
    }
    once = tfl.ProcessExperiment(weighted, clients)
    assert once.run(tmp_path / "once", stream=io.StringIO()).metrics[
        "result"
    ].tolist() == [12.5]
    result = run(
        weighted, tmp_path / "rounds", lambda name: clients[name], client_ids=["north"]
    )
    assert result.metrics["result"].tolist() == [10.0] * 3
    assert (result.weights, result.ended.best_round) == (None, None)
    assert not (tmp_path / "once" / "export").exists()


def test_an_aggregation_process(tmp_path):
    """Three results, and two values of each client."""
    process = tff.aggregators.MeanFactory().create(
        tff.TensorType(np.float32, (2,)), tff.TensorType(np.float32)
    )
    clients = [
        {"value": np.array([1, 2], np.float32), "weight": 1.0},
        {"value": np.array([3, 6], np.float32), "weight": 3.0},
    ]
    result = run(process, tmp_path, clients, cohorts=tfl.Cohorts("full"))
    np.testing.assert_allclose(result.measurements[1]["result"], [2.5, 5.0])


def test_our_own_client_data_as_datasets(averaging, whole, tmp_path):
    arrays = {}
    for name, examples in CLIENTS.items():
        x, y = (np.concatenate(part) for part in zip(*examples.as_numpy_iterator()))
        arrays[name] = {"x": x, "y": y}
    ours = tfl.data.ClientData.from_arrays(
        arrays, tfl.data.Batching(batch_size=4, shuffle=False)
    )
    once = tfl.Training(rounds=1, tensorboard=False)
    one = run(averaging, tmp_path, ours, training=once, cohorts=tfl.Cohorts("full"))
    expected = whole[0].metrics["train_loss"][0]
    assert one.metrics["train_loss"][0] == pytest.approx(expected, rel=1e-6)


def test_a_function_that_evaluates_a_state_without_a_model(tmp_path):
    def last(state):
        return {"total": float(state["total"] - 2**40)}

    result = run(
        Process(),
        tmp_path,
        {"a": 1},
        evaluate=last,
        runtime=tfl.Runtime("tff"),
        training=tfl.Training(rounds=2, evaluate_every=1, tensorboard=False),
    )
    assert result.metrics["eval_total"].tolist() == [1.0, 2.0]
    assert not (tmp_path / "export").exists()
    assert json.loads((tmp_path / "summary.json").read_text())["best"] is None


def test_a_fault_in_a_round_is_one_line(tmp_path):
    @tff.tensorflow.computation(np.float32)
    def checked(value):
        with tf.control_dependencies(
            [tf.debugging.assert_positive(value, "temperatures are in kelvin")]
        ):
            return tf.identity(value)

    @tff.federated_computation(tff.FederatedType(np.float32, tff.CLIENTS))
    def mean(values):
        return tff.federated_mean(tff.federated_map(checked, values))

    match = r"a round of 2 clients \('a', 'b'\), and of 'b' alone, failed"
    with pytest.raises(UserError, match=match) as error:
        run(mean, tmp_path, {"a": 1.0, "b": -1.0}, runtime=tfl.Runtime("tff"))
    assert "\n" not in str(error.value)
    assert "kelvin" in str(error.value)


def test_a_signal_is_not_looked_for_among_the_clients():
    rounds = []

    class Engine:
        def next(self, state, cohort):
            rounds.append(len(cohort))
            with contextlib.suppress(interrupts.Interrupt):
                # A second one would end this process.
                if len(rounds) == 1:
                    signal.raise_signal(signal.SIGTERM)
            raise AssertionError("nesting violated")

    engine = ExplainedEngine(Engine(), finds_client=True)
    cohort = CohortValues([1.0, 2.0], ["a", "b"])
    with pytest.raises(interrupts.Interrupt), interrupts.raised_on_signals():
        engine.next(None, cohort)
    assert rounds == [2]


def test_a_run_goes_on_with_the_same_data_alone(tmp_path):
    @tff.federated_computation(tff.FederatedType(np.float32, tff.CLIENTS))
    def mean(values):
        return tff.federated_mean(values)

    once = tfl.Training(rounds=1, tensorboard=False)
    run(mean, tmp_path, {"a": 1.0, "b": 2.0}, training=once)
    run(mean, tmp_path, {"a": 1.0, "b": 2.0}, training=once)
    with pytest.raises(UserError, match="digest of all clients' examples") as error:
        run(mean, tmp_path, {"a": 1.0, "b": 3.0}, training=once)
    assert "\n" not in str(error.value)
