"""Tasks that load through TFF: its samples, local databases, failed downloads."""

from __future__ import annotations

import io
import sqlite3
import urllib.error
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import tasks
from tfl_research.data import (
    ArraySpec,
    derived_generator,
    tff_adapter,
)
from tfl_research.data.partitions import client_skews
from tfl_research.models.architectures import image_models, word_models
from tfl_research.tasks.built_in import downloads, stackoverflow


def _example(**features):
    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        value = np.reshape(value, -1)
        if value.dtype.kind == "f":
            return tf.train.Feature(float_list=tf.train.FloatList(value=value))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=value))

    return tf.train.Example(
        features=tf.train.Features(
            feature={name: feature(value) for name, value in features.items()}
        )
    ).SerializeToString()


def _write_database(path, splits):
    """A database as TFF downloads it: `{split: {client: [serialized example]}}`."""
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE examples (split_name TEXT, client_id TEXT, "
        "serialized_example_proto BLOB)"
    )
    connection.execute(
        "CREATE TABLE client_metadata (client_id TEXT, split_name TEXT, "
        "num_examples INTEGER)"
    )
    for split, clients in splits.items():
        for client_id, examples in clients.items():
            connection.execute(
                "INSERT INTO client_metadata VALUES (?, ?, ?)",
                (client_id, split, len(examples)),
            )
            connection.executemany(
                "INSERT INTO examples VALUES (?, ?, ?)",
                [(split, client_id, example) for example in examples],
            )
    connection.commit()
    connection.close()


def test_synthetic_emnist():
    task = tasks.get("emnist", synthetic=True)
    assert len(task.train) == len(task.test) == len(task.held_out) == 1
    sample = tff.simulation.datasets.emnist.get_synthetic()
    (held_out,) = task.held_out.client_ids
    original = next(
        iter(
            sample.create_tf_dataset_for_client(held_out).batch(10).as_numpy_iterator()
        )
    )
    # Held-out clients hold both splits, so the order of examples is another.
    held = task.held_out.load(held_out)
    order = np.argsort(held["y"])
    np.testing.assert_array_equal(held["x"][order, :, :, 0], original["pixels"])
    assert held["y"][order].tolist() == original["label"].tolist() == list(range(10))
    assert task.train.specs == {
        "x": ArraySpec((28, 28, 1), np.dtype(np.float32)),
        "y": ArraySpec((), np.dtype(np.int32)),
    }
    (trained,) = task.train.client_ids
    assert task.train.num_examples(trained) == 8
    assert task.test.num_examples(trained) == 2


def test_emnist_from_a_database_that_is_there(tmp_path):
    def images(*labels):
        return [
            _example(pixels=np.full((28, 28), label / 100), label=label)
            for label in labels
        ]

    writers = {f"w{i}": images(i, i + 10, i + 20) for i in range(10)}
    later = {f"w{i}": images(i + 30) for i in range(10)}
    _write_database(
        tmp_path / "emnist_all.sqlite",
        {
            "all_train": writers,
            "all_test": later,
            "digits_only_train": {"d0": images(1, 2), "d1": images(4)},
            "digits_only_test": {"d0": images(3), "d1": images(5)},
        },
    )
    task = tasks.get("emnist", cache_dir=str(tmp_path), held_out_fraction=0.2, seed=1)
    assert len(task.train) == len(task.test) == 8
    assert len(task.held_out) == 2
    assert not set(task.train.client_ids) & set(task.held_out.client_ids)
    for split, extra in (
        (task.train, [0, 10, 20]),
        (task.test, [30]),
        (task.held_out, [0, 10, 20, 30]),
    ):
        for client_id, held in split.items():
            number = int(client_id[1:])
            assert held["y"].tolist() == [number + e for e in extra]
            np.testing.assert_allclose(
                held["x"][:, 3, 4, 0], held["y"] / 100, rtol=1e-6
            )
    assert len(task.card.label_names) == 62

    # A writer's training and test images are relabelled alike.
    shifted = tasks.get(
        "emnist",
        cache_dir=str(tmp_path),
        held_out_fraction=0.2,
        seed=1,
        partition="concept_shift",
        num_concepts=2,
    )
    concepts = client_skews.concept_labels(2, 62, derived_generator("concept_shift", 1))
    for split in ("train", "test", "held_out"):
        for client_id, held in getattr(shifted, split).items():
            before = getattr(task, split).load(client_id)
            mine = concepts[int(client_id[1:]) % 2]
            np.testing.assert_array_equal(held["y"], mine[before["y"]])
            np.testing.assert_array_equal(held["x"], before["x"])

    anew = tasks.get(
        "emnist", cache_dir=str(tmp_path), partition="iid", num_clients=4, seed=1
    )
    assert (len(anew.train), len(anew.held_out)) == (3, 1)
    parts = (anew.train, anew.test, anew.held_out)
    labels = [held["y"] for part in parts for _, held in part.items()]
    assert sorted(np.concatenate(labels)) == list(range(40))

    digits = tasks.get(
        "emnist", cache_dir=str(tmp_path), only_digits=True, held_out_fraction=0.0
    )
    assert digits.held_out is None
    assert digits.train.load("d0")["y"].tolist() == [1, 2]
    assert digits.build_model().output_shape == (None, 10)


def test_synthetic_cifar100():
    task = tasks.get("cifar100", synthetic=True, test_fraction=0.2)
    (trained,), (held_out,) = task.train.client_ids, task.held_out.client_ids
    sizes = task.train.num_examples(trained), task.test.num_examples(trained)
    assert sum(sizes) == 5
    more = tasks.get("cifar100", synthetic=True, test_fraction=0.9)
    assert more.test.num_examples(trained) > sizes[1]
    original = next(
        iter(
            tff.simulation.datasets.cifar100.get_synthetic()
            .create_tf_dataset_for_client(held_out)
            .batch(5)
            .as_numpy_iterator()
        )
    )
    held = task.held_out.load(held_out)
    np.testing.assert_allclose(
        (held["x"] + 1) * 127.5, original["image"].astype(float), atol=1e-4
    )
    assert held["y"].tolist() == original["label"].tolist()
    assert -1 <= held["x"].min() < held["x"].max() <= 1
    assert held["y"].dtype == np.int32


def test_cifar100_from_a_database_that_is_there(tmp_path):
    def images(*labels):
        return [
            _example(
                image=np.full((32, 32, 3), label, np.int64),
                label=label,
                coarse_label=0,
            )
            for label in labels
        ]

    _write_database(
        tmp_path / "cifar100.sqlite",
        {
            "train": {"0": images(*range(10)), "1": images(*range(10, 20))},
            "test": {"0": images(90, 91)},
        },
    )
    task = tasks.get("cifar100", cache_dir=str(tmp_path), test_fraction=0.0)
    assert task.train.client_ids == ("0", "1")
    assert task.held_out.client_ids == ("test_0",)
    assert task.train.load("0")["y"].tolist() == list(range(10))
    assert task.test.num_examples("1") == 0
    held = task.held_out.load("test_0")
    assert held["y"].tolist() == [90, 91]
    np.testing.assert_allclose(held["x"][1], 91 / 127.5 - 1, rtol=1e-6)


def test_sentences_by_hand():
    convert = stackoverflow.sequence_encoder(["the", "cat", "sat"], 4)
    held = convert(
        {"tokens": np.array([b"the cat", b"cat the dog sat the", b""], object)}
    )
    # Ids: padding 0, begin 1, end 2, unknown 3, the 4, cat 5, sat 6.
    assert held["x"].tolist() == [[1, 4, 5, 2], [1, 5, 4, 3], [1, 2, 0, 0]]
    assert held["y"].tolist() == [[4, 5, 2, 0], [5, 4, 3, 6], [2, 0, 0, 0]]
    assert held["x"].dtype == held["y"].dtype == np.int32
    assert convert({"tokens": np.zeros([0], object)})["x"].shape == (0, 4)


def test_a_sentence_of_full_length_has_no_end():
    convert = stackoverflow.sequence_encoder(["a"], 3)
    held = convert({"tokens": np.array([b"a a a"], object)})
    assert held["y"].tolist() == [[4, 4, 4]]


def test_synthetic_stackoverflow():
    task = tasks.get("stackoverflow", synthetic=True, lstm_units=8, embedding_size=4)
    clients = [*task.train.client_ids, *task.held_out.client_ids]
    assert sorted(clients) == ["synthetic_1", "synthetic_2", "synthetic_3"]
    counts = [
        len(held["y"])
        for part in (task.train, task.test, task.held_out)
        for _, held in part.items()
    ]
    assert sum(counts) == 8
    words = tff.simulation.datasets.stackoverflow.get_synthetic_word_counts()
    highest = max(
        held["y"].max()
        for part in (task.train, task.held_out)
        for _, held in part.items()
    )
    assert highest < len(words) + stackoverflow.NUM_SPECIAL_IDS
    assert task.build_model().output_shape == (None, 20, len(words) + 4)
    small = tasks.get("stackoverflow", synthetic=True, vocabulary_size=5)
    assert small.build_model().output_shape == (None, 20, 9)


def test_stackoverflow_from_a_database_that_is_there(tmp_path, monkeypatch):
    def sentences(*texts):
        blank = dict.fromkeys(("creation_date", "tags", "title", "type"), b"")
        return [_example(tokens=text, score=0, **blank) for text in texts]

    _write_database(
        tmp_path / "stackoverflow.sqlite",
        {
            "train": {"u1": sentences(b"a b", b"b", b"a"), "u2": sentences(b"b a")},
            "heldout": {f"h{i}": sentences(b"a") for i in range(5)},
            "test": {"u1": sentences(b"b b")},
        },
    )
    # The archive of word counts is checked by its hash, so it cannot be made up.
    monkeypatch.setattr(
        tff.simulation.datasets.stackoverflow,
        "load_word_counts",
        lambda cache_dir, vocab_size: {"a": 2, "b": 1},
    )
    task = tasks.get(
        "stackoverflow",
        cache_dir=str(tmp_path),
        sequence_length=3,
        maximum_examples=2,
        held_out_users=2,
    )
    assert task.train.load("u1")["y"].tolist() == [[4, 5, 2], [5, 2, 0]]
    assert task.test.load("u1")["y"].tolist() == [[5, 5, 2]]
    # Nothing by this user after the date of the cut.
    assert task.test.load("u2")["y"].shape == (0, 3)
    assert len(task.held_out) == 2
    assert set(task.held_out.client_ids) < {f"h{i}" for i in range(5)}


class _Broken(io.BytesIO):
    """A response that ends in an error after some data."""

    headers: dict = {}  # noqa: RUF012

    def __init__(self, error):
        super().__init__()
        self._error = error
        self._reads = 0

    def read(self, *_):
        self._reads += 1
        if self._reads > 1:
            raise self._error
        # The first bytes of an xz file.
        return b"\xfd7zXZ\x00"


_FILES = {"emnist": "emnist_all.sqlite", "cifar100": "cifar100.sqlite"}


@pytest.mark.parametrize("name", ["emnist", "cifar100", "stackoverflow"])
def test_a_download_that_is_impossible_is_one_clear_line(name, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    # Keras holds its own reference.
    monkeypatch.setattr("keras.src.utils.data_utils.urlretrieve", refuse)
    with pytest.raises(ValueError, match=f"task '{name}': could not download") as error:
        tasks.get(name, cache_dir=str(tmp_path))
    message = str(error.value)
    assert "\n" not in message
    assert _FILES.get(name, "stackoverflow.word_count.tar.bz2") in message
    assert "no route to host" in message
    assert str(tmp_path) in message
    assert "synthetic=True" in message
    assert "mnist" in message
    assert error.value.__suppress_context__


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), KeyboardInterrupt()])
def test_half_a_download_is_removed(error, tmp_path, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", lambda _: _Broken(error))
    expected = ValueError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        tasks.get("emnist", cache_dir=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_named_and_kept(tmp_path):
    path = tmp_path / "cifar100.sqlite"
    path.write_bytes(b"no database, though long enough to be read as one" * 20)
    with pytest.raises(ValueError, match=r"cannot read .*cifar100\.sqlite .*remove it"):
        tasks.get("cifar100", cache_dir=str(tmp_path))
    assert path.exists()


def test_the_socket_timeout_is_put_back(tmp_path):
    import socket

    before = socket.getdefaulttimeout()
    seen = downloads.loaded("x", tmp_path / "x", socket.getdefaulttimeout)
    assert seen == 60.0
    assert socket.getdefaulttimeout() == before


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("emnist", {"held_out_fraction": 1.0}, "held_out_fraction must be at least 0"),
        ("cifar100", {"test_fraction": -0.1}, "test_fraction must be at least 0"),
        ("cifar100", {"blocks_per_stage": 0}, "blocks_per_stage must be at least 1"),
        ("stackoverflow", {"vocabulary_size": 0}, "vocabulary_size must be at least 1"),
        ("stackoverflow", {"lstm_units": -1}, "lstm_units must be at least 1, got -1"),
    ],
)
def test_options_out_of_range(name, options, message):
    with pytest.raises(ValueError, match=message):
        tasks.get(name, synthetic=True, **options)


def test_a_client_without_examples_keeps_shapes_and_dtypes():
    source = tff.simulation.datasets.ClientData.from_clients_and_tf_fn(
        ["none", "some"],
        lambda client_id: (
            tf.data.Dataset.range(3)
            .filter(lambda _: tf.equal(client_id, "some"))
            .map(lambda i: {"a": tf.fill([2], i), "b": tf.as_string(i)})
        ),
    )
    data = tff_adapter.from_tff(
        source, lambda c: {"x": c["a"], "y": c["a"][:, 0].astype(np.int32)}
    )
    assert data.load("none")["x"].shape == (0, 2)
    assert data.load("some")["x"].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert data.specs["x"] == ArraySpec((2,), np.dtype(np.int64))
    limited = tff_adapter.from_tff(
        source, lambda c: {"x": c["a"], "y": c["a"][:, 0]}, maximum_examples=2
    )
    assert limited.num_examples("some") == 2
    with pytest.raises(ValueError, match="same specs"):
        tff_adapter.union([data, limited], ["some"])
    both = tff_adapter.union(
        [data, tff_adapter.renamed(data, "p_")], ["some", "p_some"]
    )
    assert both.num_examples("some") == both.num_examples("p_some") == 3


def test_numbers_of_weights_by_hand():
    # Two 3x3 convolutions without padding and pooling leave 12 x 12 x 64.
    emnist = 3 * 3 * 32 + 32, 3 * 3 * 32 * 64 + 64
    emnist += 12 * 12 * 64 * 128 + 128, 128 * 62 + 62
    assert image_models.emnist_cnn(62).count_params() == sum(emnist) == 1_206_590
    # An LSTM has four gates, each of input, state and bias.
    words = 10_004 * 96, 4 * 670 * (96 + 670 + 1), 670 * 96 + 96, 96 * 10_004 + 10_004
    built = word_models.lstm(10_004, length=20)
    assert built.count_params() == sum(words) == 4_050_748


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_residual_network_creates_weights_in_the_order_of_its_list(blocks):
    created = []

    def record(create, **options):
        created.append(create(**options))
        return created[-1]

    with tf.variable_creator_scope(record):
        model = image_models.group_norm_resnet(100, blocks)
    weights = model.trainable_weights
    # Keras' own counters follow.
    assert [v.ref() for v in created[: len(weights)]] == [v.ref() for v in weights]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("emnist", {}),
        pytest.param("cifar100", {}, marks=pytest.mark.slow),
        ("stackoverflow", {"lstm_units": 32, "embedding_size": 16}),
    ],
)
def test_models_learn_their_sample(name, options):
    task = tasks.get(name, synthetic=True, **options)
    tf.keras.utils.set_random_seed(0)
    model, objective = task.build_model(), task.build_objective()
    assert not model.non_trainable_weights
    held = next(iter(task.train.items()))[1]
    x, y = tf.constant(held["x"]), tf.constant(held["y"])
    optimizer = tf.keras.optimizers.Adam(0.01)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(objective.example_losses(y, model(x, training=True)))
        gradients = tape.gradient(loss, model.trainable_weights)
        optimizer.apply_gradients(zip(gradients, model.trainable_weights))
        return loss

    losses = [float(step()) for _ in range(50)]
    assert losses[-1] < 0.5 * losses[0]
