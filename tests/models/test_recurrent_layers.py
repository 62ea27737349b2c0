"""The own loops of recurrent layers against Keras' own code.

With TFL_CAMPAIGN=all every row of the table runs, also under XLA.
"""

import contextlib
import os

import numpy as np
import pytest
import tensorflow as tf

from tfl_research import models
from tfl_research.models.execution.random_draws import drawn_from
from tfl_research.models.layers.recurrent import layers as recurrent
from tfl_research.models.modules import modules_of

L, R = tf.keras.layers, tf.keras.regularizers
ALL = os.environ.get("TFL_CAMPAIGN") == "all"
SEED = tf.constant([3, 4])
X = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
# Padding at the end, at the start, in the middle, and everywhere.
X[0, -2:], X[1, :1], X[2, 1:3], X[3] = 0, 0, 0, 0


def chain(*make):
    """Layers one after another, as a function of the model's input."""

    def applied(x):
        for one in make:
            x = one()(x)
        return x

    return applied


def with_initial_states(x):
    kept = L.Masking()(x)
    states = [L.Dense(2)(kept[:, 0]), L.Dense(2)(kept[:, 1])]
    layer = L.LSTM(2, return_sequences=True, return_state=True)
    return layer(kept, initial_state=states)


QUICK = {
    "lstm": chain(
        L.Masking, lambda: L.LSTM(2, return_sequences=True, return_state=True)
    ),
    "gru": chain(L.Masking, lambda: L.GRU(2, dropout=0.3, recurrent_dropout=0.4)),
    "gru_reset_before": chain(
        lambda: L.GRU(2, reset_after=False, recurrent_dropout=0.4)
    ),
    "simple_rnn": chain(
        L.Masking, lambda: L.SimpleRNN(2, dropout=0.3, recurrent_dropout=0.4)
    ),
}
REST = {
    "lstm_last": chain(lambda: L.LSTM(2)),
    "lstm_dropout": chain(lambda: L.LSTM(2, dropout=0.4)),
    "lstm_both_dropouts": chain(lambda: L.LSTM(2, dropout=0.3, recurrent_dropout=0.4)),
    "lstm_gates_dropout": chain(
        lambda: L.LSTM(2, dropout=0.3, use_bias=False, implementation=1)
    ),
    "lstm_without_bias": chain(lambda: L.LSTM(2, use_bias=False, dropout=0.3)),
    "lstm_forgets": chain(lambda: L.LSTM(2, unit_forget_bias=False)),
    "lstm_backwards": chain(
        L.Masking, lambda: L.LSTM(2, go_backwards=True, return_sequences=True)
    ),
    "lstm_relu": chain(
        lambda: L.LSTM(2, activation="relu", recurrent_activation="linear")
    ),
    "lstm_regularized": chain(
        lambda: L.LSTM(
            2,
            kernel_regularizer=R.L2(0.1),
            recurrent_regularizer=R.L1(0.1),
            bias_regularizer=R.L2(0.2),
            activity_regularizer=R.L2(0.3),
            recurrent_constraint=tf.keras.constraints.MaxNorm(0.5),
        )
    ),
    "lstm_initial_states": with_initial_states,
    "lstm_zeros": chain(
        L.Masking,
        lambda: L.LSTM(2, return_sequences=True, zero_output_for_mask=True),
    ),
    "lstm_double": chain(lambda: L.LSTM(2, dtype="float64")),
    "gru_plain": chain(lambda: L.GRU(2, return_state=True)),
    "gru_dropout": chain(lambda: L.GRU(2, dropout=0.3)),
    "gru_without_bias": chain(L.Masking, lambda: L.GRU(2, use_bias=False)),
    "gru_gates_dropout": chain(
        lambda: L.GRU(2, dropout=0.3, reset_after=False, implementation=1)
    ),
    "simple_rnn_relu": chain(lambda: L.SimpleRNN(2, "relu", use_bias=False)),
    "stacked": chain(
        lambda: L.LSTM(2, return_sequences=True),
        lambda: L.GRU(3, return_sequences=True),
        lambda: L.SimpleRNN(2),
    ),
    "bidirectional": chain(
        L.Masking,
        lambda: L.Bidirectional(L.LSTM(2, return_sequences=True, dropout=0.3)),
    ),
    "time_distributed": chain(
        lambda: L.Reshape((2, 2, 3)), lambda: L.TimeDistributed(L.GRU(2))
    ),
}


def together(rows):
    """A Keras model with all of the rows, each with outputs of its own."""
    start = tf.keras.Input(X.shape[1:])
    outputs = [tf.nest.flatten(row(start)) for row in rows.values()]
    model = tf.keras.Model(start, tf.nest.flatten(outputs))
    for index, variable in enumerate(model.trainable_variables):
        # Weights at which every gate differs, biases included.
        drawn = np.random.default_rng(index).normal(size=variable.shape)
        variable.assign_add(tf.constant(0.3 * drawn, variable.dtype))
    return model


def loss_of(outputs, penalties):
    loss = tf.add_n([tf.cast(p, tf.float64) for p in (0.0, *penalties)])
    for output in outputs:
        place = tf.reshape(tf.range(tf.size(output)), tf.shape(output))
        rises = tf.cos(tf.cast(place, tf.float64))
        loss += tf.reduce_sum(rises * tf.cast(output, tf.float64))
    return loss


def computed(model, own, *, training=True, compiled=False):
    """Outputs and gradients, with Keras' loops or with our own; and the draws."""
    modules, draws = modules_of(model), []

    @tf.function(autograph=False, jit_compile=compiled)
    def compute(x):
        with contextlib.ExitStack() as stack:
            draws.append(stack.enter_context(drawn_from(SEED, modules)))
            if own:
                stack.enter_context(recurrent.own_loops(modules))
            outputs = tf.nest.flatten(model(x, training=training))
            return outputs, loss_of(outputs, model.losses)

    # A tape inside of the function would not see the gradient of our own.
    with tf.GradientTape() as tape:
        outputs, loss = compute(X)
    gradients = tape.gradient(loss, model.trainable_variables)
    return outputs, gradients, draws[0].count


def assert_equal(one, other, tolerance=1e-5):
    one, other = tf.nest.flatten(one), tf.nest.flatten(other)
    assert len(one) == len(other)
    for index, (a, b) in enumerate(zip(one, other)):
        np.testing.assert_allclose(
            a, b, rtol=tolerance, atol=tolerance, err_msg=f"number {index}"
        )


@pytest.mark.parametrize("rows", [QUICK, REST] if ALL else [QUICK], ids=len)
def test_values_and_gradients_are_those_of_keras(rows):
    model = together(rows)
    expected = computed(model, own=False)
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in expected[1])
    assert_equal(computed(model, own=True), expected)
    # Keras' own loop has no fixed number of passes, which XLA refuses.
    assert_equal(computed(model, own=True, compiled=True), expected)
    if ALL:
        outside = computed(model, own=False, training=False)
        assert_equal(computed(model, own=True, training=False), outside)


@pytest.mark.skipif(not ALL, reason="three more layers")
def test_half_precision_is_near_keras():
    kinds = (L.LSTM, L.GRU, L.SimpleRNN)
    model = together(
        {k.__name__: chain(lambda k=k: k(2, dtype="mixed_bfloat16")) for k in kinds}
    )
    assert_equal(computed(model, own=True), computed(model, own=False), 0.05)


def ours(build):
    return models.from_keras(build, tf.TensorSpec([None, *X.shape[1:]]))


def gradient(model, weights, x):
    with tf.GradientTape() as tape:
        tape.watch(weights)
        predictions = model.forward(weights, (), x, True, SEED).predictions
        loss = loss_of(tf.nest.flatten(predictions), ())
    return tape.gradient(loss, weights)


def replaced(layer, inputs=X):
    """Whether the layer gets the loop of our own."""
    layer(inputs)
    with recurrent.own_loops([layer]):
        found = "call" in vars(layer)
    return found and "call" not in vars(layer)


class OwnCall(L.LSTM):
    def call(self, inputs, **arguments):
        return 2.0 * super().call(inputs, **arguments)


class OwnCell(L.GRUCell):
    def call(self, inputs, states, training=None):
        return super().call(2.0 * inputs, states, training)


def with_own_cell():
    layer = L.GRU(2)
    layer.cell = OwnCell(2)
    return layer


@pytest.mark.parametrize(
    "layer",
    [
        OwnCall(2),
        with_own_cell(),
        L.RNN(L.LSTMCell(2)),
        L.LSTM(2, activation="softplus"),
        L.LSTM(2, activation=lambda x: tf.tanh(x) * 0.5),
        L.GRU(2, recurrent_activation="hard_sigmoid"),
        L.LSTM(2, unroll=True),
        L.LSTM(2, time_major=True),
        L.LSTM(2, return_runtime=True),
    ],
    ids=lambda layer: layer.name,
)
def test_other_layers_are_left_to_keras(layer):
    assert not replaced(layer)


def test_a_layer_has_its_own_call_again_afterwards():
    for kind in (L.LSTM, L.GRU, L.SimpleRNN):
        assert replaced(kind(2))


def test_gradients_of_single_examples():
    model = ours(lambda: together({"gru": chain(lambda: L.GRU(2))}))
    weights = [tf.constant(w) for w in model.initial_weights]

    def of_one(x):
        return gradient(model, weights, x[tf.newaxis])

    of_all = tf.function(lambda x: tf.vectorized_map(of_one, x))(X[:3])
    single = tf.function(of_one)
    for index, x in enumerate(X[:3]):
        assert_equal([g[index] for g in of_all], single(x))


def test_an_imported_graph_keeps_the_gradient():
    # A constant of many numbers is a captured tensor, so that the graph is imported.
    table = tf.constant(np.arange(900.0, dtype=np.float32).reshape(300, 3) / 900)

    def moved(x):
        return L.LSTM(2)(L.Lambda(lambda x: x + tf.reduce_mean(table, 0))(x))

    keras, model = together({"moved": moved}), ours(lambda: together({"moved": moved}))
    weights = [tf.constant(w) for w in model.initial_weights]
    for variable, weight in zip(keras.trainable_variables, weights):
        variable.assign(weight)
    expected = computed(keras, own=False)[1]
    found = tf.function(lambda *weights: gradient(model, weights, X))(*weights)
    assert_equal(found, expected)
