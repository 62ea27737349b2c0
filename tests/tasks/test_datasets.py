"""Tasks of tf.data datasets and of TFF's client data."""

from __future__ import annotations

import collections
import doctest

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import tasks
from tfl_research.tasks import datasets, own_data

X = np.arange(10, dtype=np.float32).reshape(5, 2)
Y = np.array([0, 1, 1, 0, 1])
W = np.array([1, 0.5, 0, 2, 1])


def _model():
    return tf.keras.Sequential([tf.keras.layers.Input([2]), tf.keras.layers.Dense(2)])


def _of(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0])


def _made(clients, **options):
    return tasks.from_datasets(clients, model=_model, test=0, **options)


def test_examples_in_docstrings():
    done = doctest.testmod(datasets.clients)
    assert done.attempted > 0
    assert done.failed == 0


@pytest.mark.parametrize(
    "dataset",
    [
        _of(X, Y, W),
        _of(X, Y, W).batch(2),
        _of({"x": X, "y": Y, "sample_weight": W}),
        lambda: _of(X, Y, W).batch(3),
    ],
)
def test_elements_become_arrays(dataset):
    task = _made({"a": dataset})
    examples = task.train.load("a")
    assert list(examples) == ["x", "y", "sample_weight"]
    assert examples["x"].tolist() == X.tolist()
    assert examples["y"].tolist() == Y.tolist()
    assert examples["y"].dtype == np.int32
    assert examples["sample_weight"].tolist() == W.tolist()
    assert task.pooled == ()


def test_inputs_by_name_and_text():
    city = np.array([b"Oslo", b"Rome", b"", b"Bern", b"Oslo"])
    named = _of({"pixels": X, "city": city, "kind": Y, "trust": W})
    task = _made(
        {"a": named},
        x={"image": "pixels", "city": "city"},
        y="kind",
        weight="trust",
    )
    a = task.train.load("a")
    assert list(a) == ["x/city", "x/image", "y", "sample_weight"]
    assert a["x/city"].tolist() == city.tolist()
    listed = _made({"a": named}, x=["pixels", "city"], y="kind").train.load("a")
    assert list(listed) == ["x/city", "x/pixels", "y"]
    pairs = _of(({"image": X, "city": city}), Y)
    assert _made({"a": pairs}).train.load("a")["x/image"].tolist() == X.tolist()


def test_no_labels():
    objective = tasks.objectives.regression()
    for dataset, batched in ((_of(X), False), (_of(X).batch(2), True)):
        task = _made({"a": dataset}, objective=objective, batched=batched)
        assert set(task.train.specs) == {"x"}
        assert task.train.num_examples("a") == 5


def test_a_list_has_ids_by_place_which_is_declared():
    task = _made([_of(X, Y), _of(X[:2], Y[:2])])
    assert task.train.client_ids == ("client_0000", "client_0001")
    assert [task.train.num_examples(i) for i in task.train.client_ids] == [5, 2]
    (fact,) = task.pooled
    assert (fact.what, fact.unit) == ("the clients' ids", "client")


def test_a_function_of_the_id_reads_when_it_is_needed():
    opened = []

    def dataset(client_id):
        opened.append(client_id)
        return _of(X, Y)

    task = _made(dataset, client_ids=["a", "b", "c", "d", "e"])
    assert "e" not in opened
    assert task.train.num_examples("e") == 5
    assert task.train.num_examples("e") == 5
    assert opened.count("e") == 1


def test_client_data_of_tff():
    tensors = {
        name: collections.OrderedDict(pixels=X + place, label=Y)
        for place, name in enumerate(("ann", "bob"))
    }
    clients = tff.simulation.datasets.TestClientData(tensors)
    task = _made(clients, x="pixels", y="label")
    assert task.train.client_ids == ("ann", "bob")
    assert task.train.load("bob")["x"].tolist() == (X + 1).tolist()
    pairs = clients.preprocess(lambda d: d.map(lambda e: (e["pixels"], e["label"])))
    assert _made(pairs).train.load("bob")["x"].tolist() == (X + 1).tolist()


def _ragged():
    def rows():
        yield from (([1, 2, 3], [2, 3, 4]), ([5], [6]), ([7, 8], [8, 9]))

    spec = tf.TensorSpec([None], tf.int32)
    return tf.data.Dataset.from_generator(rows, output_signature=(spec, spec))


@pytest.mark.parametrize(
    ("dataset", "batched"),
    [
        (_ragged(), False),
        (_ragged().ragged_batch(2), True),
        (_of(tf.ragged.constant([[1, 2, 3], [5], [7, 8]]), [1, 0, 1]), None),
    ],
)
def test_sequences_of_different_lengths(dataset, batched):
    is_tokens = batched is not None
    task = _made(
        {"a": dataset},
        batched=batched,
        sequences=tasks.Sequences(4, pad=0),
        objective="next_token" if is_tokens else "classification",
    )
    a = task.train.load("a")
    assert a["x"].tolist() == [[1, 2, 3, 0], [5, 0, 0, 0], [7, 8, 0, 0]]
    if is_tokens:
        assert a["y"].tolist() == [[2, 3, 4, 0], [6, 0, 0, 0], [8, 9, 0, 0]]


def test_clients_without_examples():
    nothing = _of(X, Y).take(0)
    task = _made({"a": nothing, "b": _of(X, Y)})
    assert task.train.num_examples("a") == 0
    assert task.train.load("a")["x"].shape == (0, 2)
    with pytest.raises(ValueError, match="no client has an example"):
        _made({"a": nothing})
    with pytest.raises(ValueError, match="at least one client, got none"):
        _made({})


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        (X, {}, "client 'a' must have a tf.data.Dataset, got ndarray"),
        (
            _of(X, Y).repeat(),
            {},
            r"client 'a': the dataset has no end; leave repeat\(\)",
        ),
        (
            _of(np.arange(100.0)[:, None], np.zeros(100)).shuffle(100),
            {},
            "client 'a': reading the dataset twice gave other .*; leave shuffle",
        ),
        (_of((X, X), Y), {}, "client 'a': x is a tuple of tensors; give a dict"),
        (_of({"a b": X}, Y), {}, "client 'a': x: the name 'a b' must be letters"),
        (_of(X, Y, W, W), {}, r"elements are tuples of 4, expected \(x, y\) or"),
        (
            _of({"pixels": X, "label": Y}),
            {},
            "elements have the name 'pixels', .* x= an",
        ),
        (_of({"a": X}), {"x": "b", "y": "a"}, "elements have no 'b'; they have a"),
        (_of(X, Y), {"x": "b", "y": "a"}, "x='b' names a component of dict .* tuple"),
        (_of(X, Y), {"y": "a"}, "give x too"),
        (_of(X, Y), {"batched": True}, "y has no axis of examples, but batched=True"),
        (
            _of(X, X).batch(2, True),
            {},
            r"shapes of elements \(x \(2, 2\).* give batched=",
        ),
        (_of(X, Y).batch(5, True), {}, "do not tell whether the elements are batches"),
        (_of(X, Y), {"client_ids": ["a"]}, "client_ids goes with a function"),
        (_of(X, Y.astype(str)), {}, "client 'a': y must be .* got text"),
        (_of(X, Y - 1), {}, "client 'a': y, row 0: -1, but .* expects classes"),
        (
            _of(tf.sparse.from_dense(X), Y),
            {},
            "client 'a': x is sparse; make it dense by tf.sparse.to_dense",
        ),
        (_ragged(), {}, r"shapes of elements \(x \(None,\).* do not tell"),
        (
            _ragged().padded_batch(2),
            {"sequences": tasks.Sequences(5, pad=-1), "batched": True},
            r"rows of shape \(3,\) and \(2,\), as padded_batch\(\) makes them",
        ),
        (_ragged(), {"batched": False}, "'a': x has rows of different lengths, 1 to 3"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(dataset, options, message):
    with pytest.raises(ValueError, match=message) as error:
        _made({"a": dataset}, **options)
    assert "\n" not in str(error.value)


def _changing():
    made = []

    def numbers():
        made.append(None)
        for number in range(10):
            yield np.full(2, number * len(made), np.float32), 0

    return tf.data.Dataset.from_generator(
        numbers, output_signature=(tf.TensorSpec([2]), tf.TensorSpec([], tf.int32))
    )


def test_a_later_client_that_changes_is_refused(monkeypatch):
    monkeypatch.setattr(own_data, "_CACHED_CLIENTS", 1)
    clients = {**dict.fromkeys("abc", _of(X, Y)), "d": _changing()}
    task = tasks.from_datasets(clients, model=_model, test=0.5)
    task.train.load("d")
    task.train.load("a")
    with pytest.raises(ValueError, match="client 'd': reading the examples again"):
        task.test.load("d")


def test_datasets_without_an_end_that_do_not_say_so(monkeypatch):
    monkeypatch.setattr(datasets.reading, "_MOST_OF_UNKNOWN", 600)
    endless = _of(X, Y).repeat().filter(lambda x, y: True)
    with pytest.raises(ValueError, match=r"'a': the dataset has given .* elements"):
        _made({"a": endless})
    with pytest.raises(ValueError, match=r"'a': the dataset failed after .* zero"):
        _made({"a": _of(Y, Y).map(lambda x, y: (1 // x, y))})


def test_later_clients_are_checked_when_they_are_read():
    task = _made({"a": _of(X, Y), "b": _of(X[:, :1], Y), "c": _of(X)}, batched=False)
    with pytest.raises(
        ValueError, match=r"client 'b' has x of float32 \[1\], expected"
    ):
        task.train.load("b")


@pytest.mark.parametrize(
    ("clients", "message"),
    [
        (3, "clients must be datasets by client, .* got int"),
        ({1: _of(X, Y)}, "client ids must be text, got 1; give '1'"),
    ],
)
def test_what_are_no_clients(clients, message):
    with pytest.raises(ValueError, match=message):
        _made(clients)


@pytest.mark.parametrize(
    ("ids", "message"),
    [({"a", "b"}, "since the order counts, got a set"), ("ab", "'ab'")],
)
def test_clients_by_a_function_have_an_order(ids, message):
    """Cohorts are drawn by the clients' places."""
    with pytest.raises(ValueError, match=f"client_ids must be a list, .*{message}"):
        _made(lambda name: _of(X, Y), client_ids=ids)


def test_the_split_of_a_client_is_that_of_its_arrays():
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    y = np.arange(50) % 2
    lazy = tasks.from_datasets({"a": _of(x, y).batch(7)}, model=_model, test=0.4)
    eager = tasks.from_arrays({"a": {"x": x, "y": y}}, model=_model, test=0.4)
    for split in ("train", "test"):
        one, other = getattr(lazy, split).load("a"), getattr(eager, split).load("a")
        for name in ("x", "y"):
            assert np.array_equal(one[name], other[name])
