"""Tasks of arrays in memory, and the examples of tables of them."""

from __future__ import annotations

import doctest
import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import data, models, processes, tasks
from tfl_research.data.arrays import structures
from tfl_research.data.tables import schema

_X = np.arange(20, dtype=np.float64).reshape(10, 2)


def _model():
    return tf.keras.Sequential([tf.keras.layers.Input([2]), tf.keras.layers.Dense(1)])


def _clients(count=4, y=None):
    y = np.arange(10) % 2 if y is None else y
    return {f"c{i}": {"x": _X + 100 * i, "y": y} for i in range(count)}


def _made(clients=None, **options):
    return tasks.from_arrays(clients or _clients(), model=_model, **options)


def test_examples_in_docstrings():
    done = doctest.testmod(schema)
    assert done.attempted > 0
    assert done.failed == 0


def test_arrays_are_split_and_take_the_dtypes_of_models():
    task = _made(test=0.3, batching=data.Batching(5))
    assert task.train.client_ids == ("c0", "c1", "c2", "c3")
    assert task.held_out is None
    assert task.recipe is None
    assert task.train.batching == data.Batching(5)
    both = [task.train.load("c1"), task.test.load("c1")]
    assert sum(len(part["y"]) for part in both) == 10
    assert len(both[1]["y"]) > 0
    rows = np.concatenate([part["x"] for part in both])
    assert sorted(map(tuple, rows)) == sorted(map(tuple, _X + 100))
    assert {part["x"].dtype for part in both} == {np.dtype(np.float32)}
    assert {part["y"].dtype for part in both} == {np.dtype(np.int32)}
    other = _made(test=0.3, seed=1)
    assert not np.array_equal(other.test.load("c1")["x"], both[1]["x"])


def test_a_share_of_the_clients_is_held_out():
    task = _made(held_out=0.5)
    assert 0 < len(task.held_out) < 4
    assert set(task.train.client_ids) | set(task.held_out.client_ids) == set(_clients())
    assert task.held_out.num_examples(task.held_out.client_ids[0]) == 10


def test_test_and_held_out_arrays_of_ones_own():
    further = {"new": {"x": _X, "y": np.zeros(10, int)}}
    task = _made(test={"c2": {"x": _X[:3], "y": [0, 1, 0]}}, held_out=further)
    assert [task.train.num_examples(i) for i in task.train.client_ids] == [10] * 4
    assert [task.test.num_examples(i) for i in task.test.client_ids] == [0, 0, 3, 0]
    assert task.test.load("c2")["y"].tolist() == [0, 1, 0]
    assert task.held_out.client_ids == ("new",)


@pytest.mark.parametrize("split", ["test", "held_out"])
def test_labels_of_arrays_of_ones_own_are_those_of_the_objective(split):
    x, other = np.zeros((2, 3)), "a" if split == "test" else "b"
    train = {"a": {"x": x, "y": [0.0, 1.0]}}

    def task(objective="classification", **arrays):
        options = {"test": 0, split: {other: {"x": x, "y": [1.0, 0.0], **arrays}}}
        return tasks.from_arrays(train, model=_model, objective=objective, **options)

    found = getattr(task(), split).load(other)["y"]
    assert (found.dtype, found.tolist()) == (np.int32, [1, 0])
    for message, arrays in {
        f"{split}: client '{other}': y, row 1: 2.0, but": {"y": [0.0, 2.0]},
        f"{split}: client '{other}' has x of int64": {"x": x.astype(int)},
        f"{split}: client '{other}' has 2 rows of x but 1 of y": {"y": [0]},
    }.items():
        with pytest.raises(ValueError, match=re.escape(message)) as error:
            task("binary", **arrays)
        assert "\n" not in str(error.value)
    assert not getattr(task(x=x[:0], y=[]), split).num_examples(other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": {"z": {"x": _X, "y": _X[:, 0]}}}, "'z' is not one of the 4 clients"),
        ({"test": 1.0}, "test_fraction must be at least 0 and below 1, got 1.0"),
        ({"held_out": -0.5}, "held_out_fraction must be at least 0"),
        ({"held_out": _clients(1)}, "held_out: client 'c0' is also trained on"),
        (
            {"held_out": {"new": {"x": _X[:, :1], "y": np.zeros(10, int)}}},
            r"held_out: client 'new' has x of float32 \[1\], expected float32 \[2\]",
        ),
        ({"objective": 3}, "objective is 3; expected one of classification, binary"),
        ({"clients": {"a": {"x": _X}}}, "client 'a' has no 'y'; .* got 'x'"),
        ({"clients": {"a": {"x": _X, "y": ["b"] * 10}}}, "'a': y must be .* numbers"),
        ({"clients": {"a": {"x": _X, "y": [1]}}}, "'a' has 10 rows of x but 1 of y"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        _made(**options)


@pytest.mark.parametrize(
    ("y", "objective", "message"),
    [
        (np.full(10, 0.5), "classification", "y, row 0: 0.5, .* whole numbers"),
        (np.full(10, -1), "classification", "-1, but .* expects classes 0, 1, 2"),
        (np.full(10, 2), "binary", ": 2, but .* expects labels 0 and 1"),
        (np.full(10, 0.5), "binary", ": 0.5, but .* expects labels 0 and 1"),
        (np.full(10, np.nan), "regression", "'a': y, row 0: nan is not finite"),
    ],
)
def test_labels_that_the_objective_does_not_take(y, objective, message):
    with pytest.raises(ValueError, match=message):
        _made({"a": {"x": _X, "y": y}}, objective=objective)


def test_labels_that_the_objective_takes():
    for y, objective in (
        (np.ones(10, bool), "classification"),
        (np.ones(10), "classification"),
        (np.ones(10), "binary"),
        (np.full(10, -0.5), "regression"),
    ):
        task = _made({"a": {"x": _X, "y": y}}, objective=objective)
        dtype = np.float32 if objective == "regression" else np.int32
        assert task.train.specs["y"].dtype == dtype


def test_features_that_are_not_finite_are_refused():
    x = np.where(np.arange(10)[:, None] == 3, np.inf, _X)
    with pytest.raises(ValueError, match="'a': x, row 3: inf is not finite"):
        _made({"a": {"x": x, "y": np.zeros(10, int)}})


def _compiled():
    model = _two_units()
    model.compile("sgd", "mse")
    return model


def _two_units():
    return tf.keras.Sequential([tf.keras.layers.Input([2]), tf.keras.layers.Dense(2)])


@pytest.mark.parametrize(
    ("model", "largest", "message"),
    [
        (
            lambda: None,
            0,
            "model builder returned a NoneType; expected a tf.keras.Model",
        ),
        (_compiled, 0, r"the model is compiled, .* leave out compile\(\)"),
        (
            _model,
            7,
            "the model has 1 output, but a loss of classes expects one output for each",
        ),
        (
            _two_units,
            7,
            "client 'a', y row 0: label 7, expected a class of 0 to 1.* 8",
        ),
    ],
)
def test_models_that_cannot_be_trained_are_refused(model, largest, message):
    y = np.full(10, largest)
    task = tasks.from_arrays({"a": {"x": _X, "y": y}}, model=model)
    with pytest.raises(ValueError, match=message):
        task.functional_model()


@pytest.mark.parametrize("compiled", [True, False])
def test_a_saved_model_is_taken_without_its_optimizer(tmp_path, compiled):
    saved = _compiled() if compiled else _two_units()
    saved.save(tmp_path / "model", save_format="tf")

    def loaded(**options):
        return tf.keras.models.load_model(tmp_path / "model", **options)

    def model(**options):
        task = tasks.from_arrays(_clients(), model=lambda: loaded(**options))
        return task.functional_model()

    weights = model(compile=False).initial_weights
    for weight, expected in zip(weights, saved.get_weights()):
        np.testing.assert_array_equal(weight, expected)
    if compiled:
        with pytest.raises(ValueError, match="the model is compiled"):
            model()


class _Doubled(tf.keras.layers.Layer):
    def call(self, x):
        return 2 * x


class _Subclassed(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = tf.keras.layers.Dense(2)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize("name", ["_Doubled", "_Subclassed"])
def test_a_saved_model_without_its_code_is_refused(tmp_path, name):
    model = _Subclassed()
    if name == "_Doubled":
        model = tf.keras.Sequential([tf.keras.layers.Input([2]), _Doubled()])
        model.add(tf.keras.layers.Dense(2))
    model(_X)
    model.save(tmp_path / "model", save_format="tf")
    path = tmp_path / "model"
    task = tasks.from_arrays(
        _clients(), model=lambda: tf.keras.models.load_model(path, compile=False)
    )
    with pytest.raises(ValueError, match=f"{name} .* without the code of its class"):
        task.functional_model()


def test_a_builder_that_returns_the_same_model_is_refused():
    model = _two_units()
    task = tasks.from_arrays(_clients(), model=lambda: model)
    with pytest.raises(ValueError, match="returns the same model each time"):
        [task.functional_model() for _ in range(2)]


def test_arrays_that_have_no_names_are_refused():
    x, y = np.zeros((5, 2)), np.zeros(5, int)
    with pytest.raises(ValueError, match=r"clients must be arrays by client, .* list"):
        _made([{"x": x, "y": y}])
    with pytest.raises(ValueError, match="client 'a' must have its arrays by name, "):
        _made({"a": (x, y)})


def test_no_clients_and_models_that_are_no_functions_are_refused():
    with pytest.raises(ValueError, match="at least one client, got none"):
        tasks.from_arrays({}, model=_model)
    for model, got in ((_model(), "Sequential"), (None, "NoneType")):
        with pytest.raises(ValueError, match=f"function that returns .* got {got}"):
            tasks.from_arrays(_clients(), model=model)


@pytest.mark.parametrize(
    ("objective", "metric", "names"),
    [
        ("classification", "accuracy", {"loss", "accuracy"}),
        ("binary", "auc", {"loss", "accuracy", "auc", "pr_auc"}),
        ("regression", "loss", {"loss", "mean_absolute_error", "rmse", "r2"}),
        (
            tasks.objectives.regression,
            "loss",
            {"loss", "mean_absolute_error", "rmse", "r2"},
        ),
        (tasks.objectives.multiclass(), "loss", {"loss", "accuracy"}),
    ],
)
def test_objectives_by_name_and_of_ones_own(objective, metric, names):
    task = _made(objective=objective)
    assert task.selection_metric == metric
    built = task.build_objective()
    labels = np.array([0, 1], np.int32)
    logits = np.array([[0.0, 2.0], [1.0, 1.0]], np.float32)
    if "mean_absolute_error" in names or "auc" in names:
        logits = logits[:, :1]
    sums = built.example_sums(labels, logits)
    of_sums = set(built.finalize({n: np.sum(s, axis=0) for n, s in sums.items()}))
    assert of_sums | set(built.of_examples) == names
    assert set(built.metrics) == names
    chosen = _made(objective=objective, selection_metric="loss:1")
    assert chosen.selection_metric == "loss:1"


def test_sequences_of_another_length_are_refused_by_name():
    """Nothing is padded to the longest of all clients."""
    clients = _clients(3)
    clients["c2"] = {"x": np.zeros((4, 3)), "y": np.zeros(4, int)}
    with pytest.raises(ValueError, match="client 'c2' has x of"):
        _made(clients)


def test_what_is_named_as_pooled_and_public_is_kept():
    word = tasks.Pooled("the vocabulary", "all words")
    task = _made(pooled=[word], public_data=True)
    assert task.pooled == (word,)
    assert task.card.public_data
    assert task.with_batching(data.Batching(3)).pooled == (word,)
    assert _made().pooled == ()
    assert not _made().card.public_data


def _functional():
    a, b = tf.keras.Input([2], name="a"), tf.keras.Input([], name="b", dtype=tf.string)
    known = tf.keras.layers.StringLookup(vocabulary=["u", "v"], output_mode="one_hot")
    return tf.keras.Model(
        {"a": a, "b": b},
        tf.keras.layers.Dense(2)(tf.keras.layers.Concatenate()([a, known(b[:, None])])),
    )


def test_several_inputs_text_and_weights():
    texts = np.array(["u", "v"] * 5)
    clients = {
        i: {
            "x": {"b": texts, "a": _X},
            "y": np.arange(10) % 2,
            "sample_weight": np.arange(10) / 2,
        }
        for i in ("c0", "c1")
    }
    task = tasks.from_arrays(clients, model=_functional, test=0.4)
    assert list(task.train.specs) == ["x/a", "x/b", "y", "sample_weight"]
    both = [task.train.load("c0"), task.test.load("c0")]
    rows = {float(x[0]): i for i, x in enumerate(_X)}
    for part in both:
        assert len(part["y"]) > 0
        for a, b, y, weight in zip(*part.values()):
            row = rows[float(a[0])]
            assert (b, y, weight) == (texts[row].encode(), row % 2, row / 2)
    x = structures.packed(both[0], "x")
    found = task.build_model()({n: tf.constant(array) for n, array in x.items()})
    assert found.shape == (len(both[0]["y"]), 2)


def test_data_without_labels_need_an_objective_of_ones_own():
    clients = {"a": {"x": _X}}
    with pytest.raises(ValueError, match=r"client 'a' has no 'y'; .* got 'x'"):
        _made(clients)
    task = _made(clients, objective=tasks.objectives.regression())
    assert list(task.train.specs) == ["x"]
    assert task.card.target == "none"


def test_clients_without_examples():
    clients = {"a": {"x": [], "y": []}, **_clients(1)}
    task = _made(clients)
    assert task.train.num_examples("a") == 0
    assert task.train.load("a")["x"].shape == (0, 2)


def test_sequences_of_different_lengths():
    rows = {"x": [[1, 2, 3], [4]], "y": [[2, 3, 4], [5]]}
    clients = {"a": rows, "b": {"x": [[6, 7]], "y": [[7, 8]]}}
    options = {"objective": "next_token", "test": 0}
    with pytest.raises(
        ValueError, match="'a': x has rows of different lengths, 1 to 3"
    ):
        _made(clients, **options)
    task = _made(clients, sequences=tasks.Sequences(4, pad=9), **options)
    assert task.train.load("a")["x"].tolist() == [[1, 2, 3, 9], [4, 9, 9, 9]]
    assert task.train.load("b")["y"].tolist() == [[7, 8, 9, 9]]
    assert task.pooled == ()
    # The padding counts for nothing: one uniform guess among 10 for each real token.
    losses = task.build_objective().losses(
        {"y": task.train.load("a")["y"]}, tf.zeros([2, 4, 10])
    )
    np.testing.assert_allclose(losses, [np.log(10)] * 2, rtol=1e-6)
    predictions = tf.one_hot([[2, 3, 4, 9], [0, 0, 0, 9]], 10)
    sums = task.build_objective().sums({"y": task.train.load("a")["y"]}, predictions)
    assert sums["predictions"].numpy().tolist() == [3, 1]
    assert sums["correct"].numpy().tolist() == [3, 0]


@pytest.mark.parametrize(
    ("rows", "dtype", "padding"),
    [
        ([[1, 2], [3]], np.int64, 0),
        ([[0.5], [1.5, 2]], np.float32, 0),
        ([["a"], ["b", "c"]], object, b""),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_client_whose_sequences_are_all_empty(rows, dtype, padding, split):
    nothing, filled = {"x": [[], []], "y": [0, 1]}, {"x": rows, "y": [0, 1]}
    clients = {"a": nothing if split == "train" else filled, "b": filled}
    test = {"a": nothing} if split == "test" else 0
    task = tasks.from_arrays(
        clients, model=_model, test=test, sequences=tasks.Sequences(3)
    )
    x = getattr(task, split).load("a")["x"]
    assert (x.dtype, x.tolist()) == (dtype, [[padding] * 3] * 2)


def test_the_longest_sequence_is_declared_as_pooled():
    clients = {"a": {"x": [[1, 2], [3]], "y": [0, 1]}, "b": {"x": [[4]], "y": [0]}}
    test = {"b": {"x": [[5, 6, 7]], "y": [1]}}
    longest = tasks.Sequences("longest")
    task = _made(clients, test=test, sequences=longest)
    assert task.train.specs["x"].shape == (3,)
    (fact,) = task.pooled
    assert (fact.what, fact.source) == (
        "the length of x",
        "the longest x of all clients",
    )
    assert fact.concerns("client")
    with pytest.raises(ValueError, match="x has no row with an element"):
        _made({"a": {"x": [[]], "y": [0]}}, sequences=longest)


def test_one_sequence_is_for_one_array():
    clients = {"a": {"x": {"words": [[1], [2, 3]], "age": [1, 2]}, "y": [0, 1]}}
    with pytest.raises(ValueError, match="client 'a' has no array 'x'; it has x/age"):
        _made(clients, sequences=tasks.Sequences(3))
    task = _made(clients, test=0, sequences={"x/words": tasks.Sequences(3)})
    assert task.train.load("a")["x/words"].tolist() == [[1, 0, 0], [2, 3, 0]]
    assert task.train.load("a")["x/age"].tolist() == [1, 2]


def test_ragged_tensors_are_rows():
    x = tf.ragged.constant([[1, 2, 3], [4]])
    task = _made(
        {"a": {"x": x, "y": [0, 1]}}, test=0, sequences=tasks.Sequences(3, pad=-1)
    )
    assert task.train.load("a")["x"].tolist() == [[1, 2, 3], [4, -1, -1]]


def test_functional_models_are_taken_as_they_are():
    model = models.from_keras(_two_units, tf.TensorSpec([None, 2]))
    task = tasks.from_arrays(_clients(), model=model)
    assert task.build_model is model
    assert task.functional_model() is model


def test_names_that_no_objective_has_are_refused_by_its_builder():
    with pytest.raises(ValueError, match=r"objective 'guessing': .*classification"):
        _made(objective="guessing").build_objective()


def test_losses_of_keras_need_labels():
    for objective in ("mse", tf.keras.losses.MeanSquaredError(), {"a": "mse"}):
        with pytest.raises(ValueError, match=r"client 'a' has no 'y'; .* got 'x'"):
            _made({"a": {"x": _X}}, objective=objective)


def test_local_steps_of_text_and_several_inputs_have_a_type_of_tff():
    clients = {"a": {"x": {"b": ["u", "v"], "a": _X[:2]}, "y": [0, 1]}}
    task = tasks.from_arrays(clients, model=_functional, test=0)
    found = processes.cohort_type(task)
    steps = task.train.cohort(["a"], seed=0, round_number=1).batches(0)
    assert [name for name, _ in tff.structure.iter_elements(found)] == list(steps)
    assert found["x/b"] == tff.TensorType(np.str_, [None, 20])
    assert found["x/a"] == tff.TensorType(np.float32, [None, 20, 2])
