"""Operations along sizes that depend on data, which XLA computes wrongly."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import data, processes, runtime
from tfl_research.data.cohort import ArraySpec
from tfl_research.runtime import Mode, kept_execution
from tfl_research.runtime.compiler import choice_cache, measurement
from tfl_research.runtime.graphs.limits_of_xla import data_sizes
from tfl_research.tasks import objectives
from tfl_research.tasks.task import Card, Task

WIDTH, BATCH, RATE = 3, 4, 0.1


def rows(x):
    return tf.shape(x)[0]


def gram(x):
    return tf.matmul(x, x, transpose_b=True)


def image(x):
    """The batch as the height of an image."""
    return tf.reshape(x, [1, rows(x), 1, WIDTH])


REFUSED = {
    "last": lambda x: x[-1],
    "last_rows": lambda x: x[-2:],
    "last_but_one": lambda x: x[..., -1:, :],
    "reversed_range": lambda x: tf.range(rows(x) - 1, -1, -1),
    "cumsum": lambda x: tf.cumsum(x, 0),
    "cumprod": lambda x: tf.math.cumprod(x, -2),
    "cholesky": lambda x: tf.linalg.cholesky(gram(x)),
    "eye": lambda x: tf.eye(rows(x)),
    "triangle": lambda x: tf.linalg.band_part(gram(x), -1, 0),
    "diagonal": lambda x: tf.linalg.diag_part(gram(x)),
    "joined": lambda x: tf.concat([x, x], 0),
    "halves": lambda x: tf.split(x, 2, 0),
    "second_half": lambda x: tf.slice(x, [rows(x) // 2, 0], [-1, WIDTH]),
    "mirrored": lambda x: tf.pad(x, [[1, 0], [0, 0]], mode="SYMMETRIC"),
    "tiled": lambda x: tf.tile(x, [rows(x), 1]),
    "reversed": lambda x: tf.reverse_sequence(x, tf.fill([WIDTH], 1), 0, 1),
    "pooled": lambda x: tf.nn.avg_pool2d(image(x), 2, 1, "SAME"),
    "convolved": lambda x: tf.nn.conv2d(image(x), tf.ones([2, 1, WIDTH, 2]), 1, "SAME"),
}
ALLOWED = {
    "first": lambda x: x[0],
    "without_last": lambda x: x[1:-1],
    "last_feature": lambda x: x[:, -1] + x[..., -1],
    "new_axis": lambda x: x[tf.newaxis, :, -2:],
    "range": lambda x: tf.range(rows(x)),
    "features_cumsum": lambda x: tf.cumsum(x, 1),
    "features_joined": lambda x: tf.concat([x, x], -1),
    "one_row_more": lambda x: tf.concat([x, tf.ones([1, WIDTH])], 0),
    "features_split": lambda x: tf.split(x, WIDTH, 1),
    "features_mirrored": lambda x: tf.pad(x, [[0, 0], [1, 1]], mode="REFLECT"),
    "tiled": lambda x: tf.tile(x, [2, 1]),
    "features_diagonal": lambda x: tf.linalg.diag(tf.reduce_mean(x, 0)),
    "statistics": lambda x: tf.nn.moments(x, [0]),
    "softmax": lambda x: tf.nn.softmax(gram(x)),
    "images": lambda x: tf.nn.avg_pool2d(
        tf.reshape(x, [-1, WIDTH, 1, 1]), 2, 1, "SAME"
    ),
    "gradient": lambda x: tf.gradients(tf.square(tf.concat([x, 2 * x], 1)), x),
}


def checked(function, shape, at_once=False):
    """Looks at all operations of a function of `[batch, WIDTH]`."""
    with tf.Graph().as_default() as graph:
        function(tf.compat.v1.placeholder(tf.float32, shape))
        for op in graph.get_operations():
            if data_sizes.is_concerned(op.node_def):
                data_sizes.check(op, at_once=at_once)


@pytest.mark.parametrize("name", REFUSED)
def test_what_xla_computes_wrongly_is_refused(name):
    with pytest.raises(NotImplementedError, match="a size that depends on data"):
        checked(REFUSED[name], [None, WIDTH])
    checked(REFUSED[name], [BATCH, WIDTH])


@pytest.mark.parametrize("name", ALLOWED)
def test_what_xla_computes_as_tensorflow_is_allowed(name):
    checked(ALLOWED[name], [None, WIDTH])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[: tf.argmax(x[:, 0], output_type=tf.int32)],
        lambda x: tf.range(tf.argmax(x[:, 0], output_type=tf.int32)),
        lambda x: tf.fill([tf.argmax(x[:, 0], output_type=tf.int32)], 1.0),
    ],
)
def test_clients_that_are_executed_at_once_have_no_sizes_of_their_own(function):
    checked(function, [BATCH, WIDTH])
    with pytest.raises(NotImplementedError, match="must have the same size"):
        checked(function, [BATCH, WIDTH], at_once=True)


class LastExample(tf.keras.layers.Layer):
    """Adds the batch's last example."""

    def call(self, inputs):
        return inputs + 0.5 * inputs[-1:]


class Diagonals(tf.keras.layers.Layer):
    """An Einstein sum whose gradient TensorFlow cannot vectorise."""

    def call(self, inputs):
        square = inputs[:, :, tf.newaxis] * inputs[:, tf.newaxis]
        return tf.einsum("bii->bi", square)


def model_of(kind):
    regularizer = tf.keras.regularizers.L2(0.1) if kind is None else None
    middle = [] if kind is None else [kind()]
    return tf.keras.Sequential(
        [
            tf.keras.layers.Input(WIDTH),
            tf.keras.layers.Dense(
                WIDTH, activity_regularizer=regularizer, bias_initializer="ones"
            ),
            *middle,
            tf.keras.layers.Dense(2),
        ]
    )


def loss():
    return tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def held(count, seed):
    generator = np.random.default_rng(seed)
    return {
        "x": generator.normal(size=(count, WIDTH)).astype(np.float32),
        "y": generator.integers(0, 2, count).astype(np.int32),
    }


CLIENTS = {f"c{count}": held(count, count) for count in (9, 1, 6)}


def task_of(kind):
    specs = {n: ArraySpec(a.shape[1:], a.dtype) for n, a in held(1, 0).items()}
    batching = data.Batching(batch_size=BATCH, shuffle=False)
    split = data.ClientData(tuple(CLIENTS), CLIENTS.__getitem__, specs, batching)
    return Task(
        "sizes",
        Card("", "", "", "", ""),
        split,
        split,
        None,
        lambda: model_of(kind),
        lambda: objectives.from_keras(loss=loss()),
    )


def by_hand(kind, initial):
    """The mean of the clients' weights after plain steps in Keras."""
    found = []
    for client in CLIENTS.values():
        model = model_of(kind)
        model.set_weights(initial)
        for first in range(0, len(client["y"]), BATCH):
            x, y = (client[name][first : first + BATCH] for name in ("x", "y"))
            with tf.GradientTape() as tape:
                total = loss()(y, model(x, training=True)) + sum(model.losses)
            gradient = tape.gradient(total, model.trainable_variables)
            for variable, g in zip(model.trainable_variables, gradient):
                variable.assign_sub(RATE * g)
        found.append(model.get_weights())
    counts = [float(len(client["y"])) for client in CLIENTS.values()]
    return [np.average(column, axis=0, weights=counts) for column in zip(*found)]


def after_a_round(kind, mode):
    """The weights before a round, and after it."""
    task = task_of(kind)
    process = processes.build_fed_avg(
        task, client_optimizer=tff.learning.optimizers.build_sgdm(RATE)
    )
    cohort = task.train.cohort(task.train.client_ids, seed=1, round_number=1)
    with runtime.in_process(process, mode=mode) as engine:
        state, _ = engine.next(engine.initialize(), cohort)
    weights = [np.asarray(w) for w in state.global_model_weights.trainable]
    return list(task.functional_model(0).initial_weights), weights


@pytest.mark.parametrize("kind", [None, LastExample, Diagonals])
@pytest.mark.parametrize("clients", ["folded", "separate"])
@pytest.mark.parametrize("compiler", ["graph", "xla"])
def test_rounds_are_those_by_hand(kind, clients, compiler):
    mode = Mode(clients, compiler)
    if kind is LastExample and mode == Mode("folded", "xla"):
        with pytest.raises(
            runtime.UnsupportedProcess, match=r"XLA computes StridedSlice .* wrongly"
        ):
            after_a_round(kind, mode)
        return
    initial, found = after_a_round(kind, mode)
    for one, expected in zip(found, by_hand(kind, initial)):
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6)


def test_vectorised_clients_with_batches_of_other_sizes_are_refused():
    with pytest.raises(
        runtime.UnsupportedProcess, match="must have the same size"
    ) as found:
        after_a_round(None, Mode("vectorised", "xla"))
    assert len(str(found.value).splitlines()) == 1


def test_the_mode_that_is_chosen_computes_the_round_by_hand(monkeypatch):
    """However short the clients' work is."""
    monkeypatch.setattr(measurement, "_SHORT_SECONDS", float("inf"))
    monkeypatch.setattr(measurement, "_WORTH_SECONDS", 0.0)
    monkeypatch.setattr(choice_cache, "recall", lambda key: None)
    monkeypatch.setattr(choice_cache, "remember", lambda key, choice: None)
    initial, found = after_a_round(None, None)
    for one, expected in zip(found, by_hand(None, initial)):
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6)


def test_a_kept_mode_that_is_refused_asks_for_another_folder(tmp_path):
    """An earlier version kept a mode in which XLA computes the model wrongly."""
    path = tmp_path / "runtime.json"
    kept = kept_execution.KeptExecution(path, b"")
    kept.write(kept_execution.Execution(Mode("folded", "xla"), 2, "measured"))
    task = task_of(LastExample)
    process = processes.build_fed_avg(
        task, client_optimizer=tff.learning.optimizers.build_sgdm(RATE)
    )
    cohort = task.train.cohort(task.train.client_ids, seed=1, round_number=1)
    with runtime.in_process(process, choice_file=path) as engine:
        state = engine.initialize()
        with pytest.raises(runtime.UnsupportedProcess, match="another folder") as found:
            engine.next(state, cohort)
    assert "leave the mode out" not in str(found.value)
