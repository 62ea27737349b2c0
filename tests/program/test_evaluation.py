"""Evaluation, export and TensorBoard scalars of real Keras models."""

from __future__ import annotations

import dataclasses
import math
import resource

import fake_experiment as fake
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from tensorboard.backend.event_processing import event_accumulator

from tfl_research.data import ArraySpec, ClientData
from tfl_research.errors import UserError
from tfl_research.models import Forward, FunctionalModel
from tfl_research.program import (
    Evaluator,
    RunConfig,
    TensorBoard,
    export_model,
    run,
)
from tfl_research.runtime import cores
from tfl_research.storage import RunFolder
from tfl_research.tasks import Card, Task, objectives

CLASSES = 3
CARD = Card("t", "client", "class", "made here", "none")


def client_data(sizes, labels=CLASSES, seed=0):
    generator = np.random.default_rng(seed)
    return ClientData.from_arrays(
        {
            f"c{i}": {
                "x": generator.normal(size=(size, 4)).astype(np.float32),
                "y": generator.integers(0, labels, size).astype(np.int32),
            }
            for i, size in enumerate(sizes)
        }
    )


def task(test, held_out=None, outputs=CLASSES, objective=objectives.multiclass):
    def build_model():
        return tf.keras.Sequential(
            [
                tf.keras.layers.Input((4,)),
                tf.keras.layers.Dense(5, activation="tanh"),
                tf.keras.layers.Dropout(0.5),
                tf.keras.layers.Dense(outputs),
            ]
        )

    return Task("t", CARD, test, test, held_out, build_model, objective)


def weights(outputs=CLASSES, seed=1):
    generator = np.random.default_rng(seed)
    shapes = [(4, 5), (5,), (5, outputs), (outputs,)]
    return tff.learning.models.ModelWeights(
        [generator.normal(size=s).astype(np.float32) for s in shapes], []
    )


def logits_of(x, model_weights):
    a, b, c, d = (w.astype(np.float64) for w in model_weights.trainable)
    return np.tanh(x @ a + b) @ c + d


def reference(data, model_weights):
    """Loss and accuracy of each client by NumPy, and of all examples together."""
    losses, hits = [], []
    for _, examples in data.items():
        logits = logits_of(examples["x"], model_weights)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        losses.append(-log_p[np.arange(len(logits)), examples["y"]])
        hits.append(logits.argmax(axis=1) == examples["y"])
    return losses, hits


@pytest.mark.parametrize("batch_size", [1, 7, 16, 512])
def test_agrees_with_numpy(batch_size):
    data = client_data([5, 0, 20, 1, 14, 0])
    evaluator = Evaluator(task(data), batch_size=batch_size)
    found = evaluator.evaluate(weights())
    losses, hits = reference(data, weights())
    assert found.client_ids == tuple(data.client_ids)
    assert list(found.examples) == [5, 0, 20, 1, 14, 0]
    assert list(found.overall) == ["loss", "accuracy"]
    every = np.concatenate(losses)
    assert found.overall["loss"] == pytest.approx(every.mean(), rel=1e-5)
    assert found.overall["accuracy"] == np.concatenate(hits).mean()
    for i, (loss, hit) in enumerate(zip(losses, hits)):
        if len(loss):
            assert found.per_client["loss"][i] == pytest.approx(loss.mean(), rel=1e-5)
            assert found.per_client["accuracy"][i] == hit.mean()
        else:
            assert math.isnan(found.per_client["loss"][i])
            assert math.isnan(found.per_client["accuracy"][i])
    assert found.spread("accuracy").worst == min(h.mean() for h in hits if len(h))


def test_other_weights_and_splits():
    test, held_out = client_data([9]), client_data([4, 3], seed=5)
    evaluator = Evaluator(task(test, held_out))
    assert evaluator.splits == ["eval", "held_out"]
    for seed in (1, 2):
        for split, data in (("eval", test), ("held_out", held_out)):
            found = evaluator.evaluate(weights(seed=seed), split)
            losses, _ = reference(data, weights(seed=seed))
            assert found.overall["loss"] == pytest.approx(
                np.concatenate(losses).mean(), rel=1e-5
            )
    without = Evaluator(task(test))
    assert without.splits == ["eval"]
    with pytest.raises(ValueError, match=r"'held_out' is not one of \['eval'\]"):
        without.evaluate(weights(), "held_out")


def mann_whitney(y, scores):
    """The share of pairs in order, over all pairs; equal scores count half."""
    one, zero = scores[y == 1], np.sort(scores[y == 0])
    if not (len(one) and len(zero)):
        return math.nan
    below = np.searchsorted(zero, one, "left")
    up_to = np.searchsorted(zero, one, "right")
    return float((below + up_to).sum()) / (2 * len(one) * len(zero))


def one_logit(sizes, labels, scores):
    """A task whose model's logit is the example's only feature, and its weights."""
    ends = np.cumsum(sizes)[:-1]
    parts = zip(np.split(scores[:, None], ends), np.split(labels, ends))
    data = ClientData.from_arrays(
        {
            f"c{i}": {"x": x.astype(np.float32), "y": y.astype(np.int32)}
            for i, (x, y) in enumerate(parts)
        }
    )

    def build_model():
        layers = tf.keras.layers
        return tf.keras.Sequential([layers.Input((1,)), layers.Dense(1)])

    found = Task("t", CARD, data, data, None, build_model, objectives.binary)
    model = [np.ones((1, 1), np.float32), np.zeros(1, np.float32)]
    return found, tff.learning.models.ModelWeights(model, [])


@pytest.mark.parametrize(
    ("share", "scale", "shift"),
    [(0.3, 1.0, 0.0), (0.002, 1.0, -6.0), (0.0001, 1.0, -9.0), (0.3, 100.0, 300.0)],
)
def test_the_auc_is_exact_for_few_positives_and_saturated_scores(share, scale, shift):
    """Where 200 bins of probability were wrong by up to 0.4."""
    generator = np.random.default_rng(7)
    size = 40_000
    y = (np.arange(size) < max(share * size, 4)).astype(np.int32)
    generator.shuffle(y)
    scores = scale * (generator.normal(size=size) + 1.5 * y) + shift
    scores = np.round(scores, 2).astype(np.float32)
    task, model = one_logit([size // 2, size // 4, size // 4], y, scores)
    found = Evaluator(task, batch_size=999).evaluate(model)
    exact = mann_whitney(y, scores)
    assert 0.7 < exact < 0.95
    assert found.overall["auc"] == pytest.approx(exact, abs=1e-9)
    for index, rows in enumerate(np.split(np.arange(size), [20_000, 30_000])):
        expected = mann_whitney(y[rows], scores[rows])
        assert found.per_client["auc"][index] == pytest.approx(
            expected, abs=1e-9, nan_ok=True
        )
    # What a round selects the best model by.
    assert found.columns("eval")["eval_auc"] == found.overall["auc"]
    assert list(found.overall) == ["loss", "accuracy", "auc", "pr_auc"]


@pytest.mark.parametrize("at_once", [2, 3, 100])
@pytest.mark.parametrize("separately", [False, True])
def test_batches_at_a_time_change_nothing(monkeypatch, at_once, separately):
    generator = np.random.default_rng(3)
    sizes = [4, 0, 13, 1, 9]
    y, scores = generator.integers(0, 2, 27), generator.normal(size=27)
    tested, model = one_logit(sizes, y, scores)
    evaluator = Evaluator(tested, batch_size=4, separately=separately)
    expected = evaluator.evaluate(model)
    monkeypatch.setattr(cores, "jobs_at_once", lambda: at_once)
    found = evaluator.evaluate(model)
    assert found.overall == expected.overall
    for name, values in expected.per_client.items():
        np.testing.assert_array_equal(found.per_client[name], values)
    rows = np.split(np.arange(27), np.cumsum(sizes)[:-1])
    accuracies = [np.mean((scores[r] > 0) == y[r]) if len(r) else np.nan for r in rows]
    np.testing.assert_allclose(found.per_client["accuracy"], accuracies)


def test_an_error_of_a_batch_at_a_time_is_raised(monkeypatch):
    def losses(y, predictions):
        check = tf.debugging.assert_less(predictions, 9.0, "too large")
        with tf.control_dependencies([check]):
            return tf.identity(predictions[:, 0])

    def sums(y, predictions):
        found = losses(y, predictions)
        return {"loss": found, "examples": tf.ones_like(found)}

    def finalize(totals):
        return {"loss": totals["loss"] / totals["examples"]}

    monkeypatch.setattr(cores, "jobs_at_once", lambda: 2)
    tested, model = one_logit([4, 4, 4], np.zeros(12), np.arange(12.0))
    objective = objectives.Objective(losses, sums, finalize)
    tested = dataclasses.replace(tested, build_objective=lambda: objective)
    with pytest.raises(tf.errors.InvalidArgumentError, match="too large"):
        Evaluator(tested, batch_size=4).evaluate(model)


def test_the_auc_of_no_examples_and_of_a_subset():
    scores = np.array([3.0, 1.0, 2.0, 0.0, 5.0, 4.0])
    y = np.array([1, 0, 0, 1, 1, 0])
    task, model = one_logit([0, 4, 0, 2], y, scores)
    found = Evaluator(task, batch_size=4).evaluate(model)
    assert found.overall["auc"] == pytest.approx(5 / 9)
    np.testing.assert_array_equal(found.per_client["auc"], [np.nan, 0.5, np.nan, 1.0])
    some = Evaluator(task, batch_size=2, max_examples=5, seed=1)
    flat = some.evaluate(model)
    kept = some._flat["eval"]
    assert int(flat.examples.sum()) == 5
    expected = mann_whitney(kept.arrays["y"], kept.arrays["x"][:, 0])
    assert flat.overall["auc"] == pytest.approx(expected)
    empty, model = one_logit([0, 0], y[:0], scores[:0])
    assert math.isnan(Evaluator(empty).evaluate(model).overall["auc"])


def test_auc_of_each_client():
    data = client_data([40, 30, 1, 0], labels=2)
    found = Evaluator(task(data, outputs=1, objective=objectives.binary)).evaluate(
        weights(1)
    )

    def auc(examples):
        scores = logits_of(examples["x"], weights(1))[:, 0]
        return mann_whitney(examples["y"], scores)

    for i, client_id in enumerate(["c0", "c1"]):
        assert found.per_client["auc"][i] == pytest.approx(auc(data.load(client_id)))
    # One example has one class, and so no AUC; it has a loss all the same.
    assert math.isnan(found.per_client["auc"][2])
    assert found.per_client["loss"][2] > 0
    assert "eval_client_worst_auc" in found.columns("eval")


def with_model(model, data, objective):
    """A task whose functional model is given."""

    class Given(Task):
        def functional_model(self, seed=0):
            return model

    return Given("t", CARD, data, data, None, lambda: None, objective)


def test_dicts_of_inputs_and_labels_and_sample_weights():
    """The numbers are Keras' own, for the outputs of a model by hand."""
    generator = np.random.default_rng(0)
    x = {name: generator.normal(size=(9, 3)).astype(np.float32) for name in "ab"}
    y = {"kind": np.arange(9) % 3, "size": x["a"][:, :1]}
    weight = np.linspace(0, 2, 9, dtype=np.float32)
    arrays = {f"x/{n}": v for n, v in x.items()} | {f"y/{n}": v for n, v in y.items()}
    arrays["sample_weight"] = weight
    specs = {n: ArraySpec(v.shape[1:], v.dtype) for n, v in arrays.items()}
    data = ClientData(("c",), {"c": arrays}.__getitem__, specs)

    def forward(weights, state, x, training, seed):
        outputs = {"kind": tf.nn.softmax(x["a"]), "size": x["b"][:, :1] * weights[0]}
        return Forward(outputs, 0.0, tuple(state))

    losses = {"kind": "sparse_categorical_crossentropy", "size": "mse"}
    both = with_model(
        FunctionalModel((np.float32(2.0),), forward),
        data,
        lambda: objectives.from_keras(losses, {"kind": ["accuracy"]}),
    )
    found = Evaluator(both, batch_size=4).evaluate(
        tff.learning.models.ModelWeights([np.float32(2.0)], [])
    )
    kind = tf.keras.losses.SparseCategoricalCrossentropy()
    size = tf.keras.losses.MeanSquaredError()
    outputs = tf.nn.softmax(x["a"]), 2 * x["b"][:, :1]
    # Losses are weighted, and metrics are not.
    expected = [
        float(kind(y["kind"], outputs[0], weight)),
        float(size(y["size"], outputs[1], weight)),
    ]
    assert found.overall["kind_loss"] == pytest.approx(expected[0], rel=1e-5)
    assert found.overall["size_loss"] == pytest.approx(expected[1], rel=1e-5)
    hits = x["a"].argmax(axis=1) == y["kind"]
    assert found.overall["kind_accuracy"] == pytest.approx(hits.mean())
    assert found.overall["loss"] == pytest.approx(sum(expected), rel=1e-5)


def test_non_trainable_weights_are_those_of_the_server():
    data = client_data([6])

    def forward(weights, state, x, training, seed):
        return Forward(x[:, :1] * weights[0] + state[0], 0.0, tuple(state))

    model = FunctionalModel(
        (np.float32(2.0),), forward, False, (np.zeros(1, np.float32),)
    )
    evaluator = Evaluator(with_model(model, data, objectives.regression))
    found = evaluator.evaluate(
        tff.learning.models.ModelWeights([np.float32(2.0)], [np.full(1, 5.0)])
    )
    examples = data.load("c0")
    expected = np.mean((2 * examples["x"][:, 0] + 5 - examples["y"]) ** 2)
    assert found.overall["loss"] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="non_trainable weights have shapes"):
        evaluator.evaluate(tff.learning.models.ModelWeights([np.float32(2.0)], []))


def test_no_examples_at_all():
    found = Evaluator(task(client_data([0, 0]))).evaluate(weights())
    assert math.isnan(found.overall["loss"])
    assert math.isnan(found.spread("accuracy").mean)


def test_a_cap_is_a_fixed_subset():
    data = client_data([50, 0, 200, 30])
    capped = Evaluator(task(data), max_examples=60, seed=3)
    first = capped.evaluate(weights())
    assert first.examples.sum() == 60
    assert first.examples[1] == 0
    assert (first.examples <= [50, 0, 200, 30]).all()
    again = Evaluator(task(data), max_examples=60, seed=3, batch_size=16)
    second = again.evaluate(weights())
    assert list(second.examples) == list(first.examples)
    assert second.overall["loss"] == pytest.approx(first.overall["loss"], rel=1e-6)
    other = Evaluator(task(data), max_examples=60, seed=4).evaluate(weights())
    assert other.overall["loss"] != first.overall["loss"]
    # A cap that is not reached leaves everything.
    assert Evaluator(task(data), max_examples=280).evaluate(
        weights()
    ).examples.sum() == (280)
    with pytest.raises(ValueError, match="max_examples must be at least 1, got 0"):
        Evaluator(task(data), max_examples=0)


def test_the_subset_is_of_the_clients_own_examples():
    clients = {
        f"c{i}": {
            "x": np.full((10, 4), i, np.float32),
            "y": np.full(10, i, np.int32),
        }
        for i in range(3)
    }
    data = ClientData.from_arrays(clients)
    found = Evaluator(task(data), max_examples=12).evaluate(weights())
    losses, _ = reference(data, weights())
    for i in range(3):
        if found.examples[i]:
            assert found.per_client["loss"][i] == pytest.approx(losses[i][0], rel=1e-5)


def test_wrong_weights_are_refused():
    evaluator = Evaluator(task(client_data([3])))
    with pytest.raises(ValueError, match="trainable weights have shapes"):
        evaluator.evaluate(weights(outputs=4))


def test_a_sequence_model():
    generator = np.random.default_rng(0)
    data = ClientData.from_arrays(
        {
            f"c{i}": {
                "x": generator.integers(0, 6, (size, 8)).astype(np.int32),
                "y": generator.integers(0, 6, (size, 8)).astype(np.int32),
            }
            for i, size in enumerate([3, 0, 7])
        }
    )

    def build_model():
        return tf.keras.Sequential(
            [
                tf.keras.layers.Input((8,), dtype=tf.int32),
                tf.keras.layers.Embedding(6, 4),
                tf.keras.layers.LSTM(5, return_sequences=True),
                tf.keras.layers.Dense(6),
            ]
        )

    words = Task("t", CARD, data, data, None, build_model, objectives.next_token)
    model = build_model()
    found = Evaluator(words, batch_size=4).evaluate(
        tff.learning.models.ModelWeights.from_model(model)
    )
    x = np.concatenate([data.load(c)["x"] for c in data.client_ids])
    y = np.concatenate([data.load(c)["y"] for c in data.client_ids])
    hits = (model(x).numpy().argmax(-1) == y)[y != 0]
    assert found.overall["accuracy"] == pytest.approx(hits.mean())


def test_export_loads_with_keras_and_gives_the_same_logits(tmp_path):
    data = client_data([6])
    path = tmp_path / "export" / "final"
    for seed in (1, 2):
        export_model(task(data), weights(seed=seed), path)
    loaded = tf.keras.models.load_model(path)
    x = data.load("c0")["x"]
    np.testing.assert_allclose(
        loaded(x, training=False), logits_of(x, weights(seed=2)), rtol=1e-4, atol=1e-5
    )
    assert [p.name for p in path.parent.iterdir()] == ["final"]
    with pytest.raises(ValueError, match="trainable weights have shapes"):
        export_model(task(data), weights(outputs=4), path)


def test_a_disk_that_fills_up_in_an_export_is_one_line(tmp_path):
    data = client_data([6])
    path = tmp_path / "export" / "final"
    export_model(task(data), weights(seed=1), path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores the signal, and a write beyond the limit is an error.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(UserError) as raised:
            export_model(task(data), weights(seed=2), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    message = raised.value.for_command_line
    assert message.startswith(f"{path} could not be written (")
    assert message.endswith("then give the same command again")
    # The export before is still whole, and the next one replaces it.
    x = data.load("c0")["x"]
    for seed in (1, 2):
        loaded = tf.keras.models.load_model(path)(x, training=False)
        expected = logits_of(x, weights(seed=seed))
        np.testing.assert_allclose(loaded, expected, rtol=1e-4, atol=1e-5)
        export_model(task(data), weights(seed=2), path)


def scalars(logdir):
    events = event_accumulator.EventAccumulator(str(logdir))
    events.Reload()
    # The data of tf.summary are tensors where they are not simple values.
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_tensorboard_has_each_round_once(tmp_path):
    """A run of four rounds, whose second start repeats none of the first's events."""
    for rounds in (2, 4):
        fake.run(
            tmp_path,
            config=fake.config(rounds=rounds, checkpoint_every=3),
            callbacks=[TensorBoard()],
        )
    written = scalars(tmp_path / "logdir")
    table = pd.read_csv(tmp_path / "metrics.csv", index_col="round")
    assert [step for step, _ in written["train/accuracy"]] == [1, 2, 3, 4]
    assert [step for step, _ in written["eval/loss"]] == [2, 4]
    for tag, column in [("round/epsilon", "epsilon"), ("eval/loss", "eval_loss")]:
        for step, value in written[tag]:
            assert value == pytest.approx(table[column][step], rel=1e-6)
    assert "round/delta" not in written


def test_tensorboard_takes_another_folder(tmp_path):
    logdir = tmp_path / "logs"
    fake.run(
        tmp_path / "run",
        config=fake.config(rounds=1),
        callbacks=[TensorBoard(logdir)],
    )
    assert [step for step, _ in scalars(logdir)["round/epsilon"]] == [1]
    assert not (tmp_path / "run" / "logdir").exists()


class KerasEngine:
    """A whole model's weights drift by a seeded step each round."""

    def __init__(self):
        self.rounds = []

    def initialize(self):
        return fake.State(weights(), np.int32(0), ())

    def next(self, state, cohort):
        number = int(state.client_work) + 1
        self.rounds.append(number)
        generator = np.random.default_rng(number)
        moved = [
            w + generator.normal(scale=0.1, size=w.shape).astype(np.float32)
            for w in state.global_model_weights.trainable
        ]
        new = tff.learning.models.ModelWeights([tf.constant(w) for w in moved], [])
        return fake.State(new, np.int32(number), ()), {"train": {}, "aggregator": ()}


def test_run_with_tensorflow_resumes_bit_identically(tmp_path):
    data = client_data([5, 9, 4])
    drift = task(data, client_data([6], seed=9))

    class Everyone:
        def sample(self, round_number):
            return tuple(data.client_ids)

    def go(path, rounds):
        config = RunConfig(rounds, evaluate_every=1, checkpoint_every=2)
        with RunFolder.open(path, {"a": 1}) as folder:
            return run(
                task=drift,
                engine=KerasEngine(),
                sampler=Everyone(),
                folder=folder,
                config=config,
                callbacks=[TensorBoard()],
            )

    whole = go(tmp_path / "whole", 5)
    go(tmp_path / "parts", 3)
    resumed = go(tmp_path / "parts", 5)
    for one, other in zip(
        whole.state.global_model_weights.trainable,
        resumed.state.global_model_weights.trainable,
    ):
        np.testing.assert_array_equal(one, other)
    assert fake.without_seconds(tmp_path / "parts") == fake.without_seconds(
        tmp_path / "whole"
    )
    logged = scalars(tmp_path / "parts" / "logdir")
    assert [step for step, _ in logged["held_out/accuracy"]] == [1, 2, 3, 4, 5]
    best = tf.keras.models.load_model(tmp_path / "parts" / "export" / "best")
    x = data.load("c1")["x"]
    assert best(x).shape == (9, CLASSES)
    assert (tmp_path / "parts" / "report.html").exists()
    assert resumed.best_round == whole.best_round
