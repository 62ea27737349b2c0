"""Dense layers' gradients by example as factors: against the matrices themselves."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from hypothesis import given, settings, strategies as st

from tfl_research import clients, data, models
from tfl_research.clients.client_work import MODEL_STATE
from tfl_research.clients.record_privacy import outer_products, record_noise
from tfl_research.clients.record_privacy.example_gradients import example_gradients
from tfl_research.clients.record_privacy.outer_products import OuterProducts
from tfl_research.data.poisson_batching import ROW_ENDS_MICROBATCH, ROW_ENDS_STEP
from tfl_research.models.execution import inlining
from tfl_research.tasks import objectives

LAYERS = tf.keras.layers


def sequential(shape, *layers):
    return tf.keras.Sequential([LAYERS.InputLayer(shape), *layers])


def several_dense():
    return sequential(
        (5,),
        LAYERS.Dense(7, activation="relu"),
        LAYERS.Dropout(0.3),
        LAYERS.Dense(6, activation="tanh", use_bias=False),
        LAYERS.Dense(4),
    )


def convolution():
    return sequential(
        (6, 6, 1),
        LAYERS.Conv2D(3, 3, activation="relu"),
        LAYERS.MaxPooling2D(),
        LAYERS.Flatten(),
        LAYERS.Dense(4),
    )


def over_sequences():
    return sequential(
        (5, 3), LAYERS.Dense(6, activation="tanh"), LAYERS.Flatten(), LAYERS.Dense(4)
    )


def shared():
    x = tf.keras.Input((5,))
    twice = LAYERS.Dense(5, activation="tanh")
    return tf.keras.Model(x, LAYERS.Dense(4)(twice(twice(x))))


def penalised():
    return sequential((5,), LAYERS.Dense(6, kernel_regularizer="l2"), LAYERS.Dense(4))


def with_softmax():
    return sequential((5,), LAYERS.Dense(4, activation="softmax"))


def in_bfloat16():
    return sequential((5,), LAYERS.Dense(6, dtype="mixed_bfloat16"), LAYERS.Dense(4))


def recurrent():
    return sequential((5, 3), LAYERS.LSTM(4), LAYERS.Dense(4))


class Tied(tf.keras.layers.Layer):
    """x W Wᵀ, of one weight."""

    def build(self, shape):
        self.w = self.add_weight("w", (shape[-1], 3))

    def call(self, x):
        return tf.matmul(tf.matmul(x, self.w), self.w, transpose_b=True)


def tied():
    return sequential((4,), Tied())


@tf.custom_gradient
def _halved(x, w):
    return tf.matmul(x, w), lambda g: (
        tf.matmul(g, w, transpose_b=True),
        0.5 * tf.matmul(x, g, transpose_a=True),
    )


class Halved(tf.keras.layers.Layer):
    """A dense layer with a gradient of its own: half of what it should be."""

    def build(self, shape):
        self.w = self.add_weight("w", (shape[-1], 4))

    def call(self, x):
        return _halved(x, self.w)


def normalized():
    return sequential(
        (5,), LAYERS.Dense(6), LAYERS.LayerNormalization(), LAYERS.Dense(4)
    )


def custom_gradient():
    return sequential((5,), LAYERS.Dense(5), Halved())


def sums_of(build, clips, mask=None, records=6):
    """Clipped sums by factors and by matrices, and which weights have factors.

    Traced once: that takes longer than all sums.
    """
    keras = build()
    spec = tf.TensorSpec((None, *keras.input_shape[1:]), tf.float32)
    model = models.from_keras(build, spec, seed=1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(records, *keras.input_shape[1:])).astype(np.float32)
    mask = np.ones(records, bool) if mask is None else mask
    x[~mask] = np.nan
    batch = {
        "x": tf.constant(x),
        "y": tf.constant(rng.integers(0, 4, records).astype(np.int32)),
        "mask": tf.constant(mask),
    }
    weights = [tf.constant(w) for w in model.initial_weights]
    kinds = []

    @tf.function
    def both():
        found, reported = [], []
        for factored in (True, False):
            gradients, of_records = example_gradients(
                model,
                objectives.multiclass(),
                weights,
                batch,
                tf.constant([3, 4]),
                factored=factored,
            )
            kinds.append([isinstance(g, OuterProducts) for g in gradients])
            found.append(gradients)
            reported.append(of_records)
        sums = []
        for clip in clips:
            mask = batch["mask"]
            ours, plain = (record_noise.clipped_sum(g, mask, clip) for g in found)
            matrices = record_noise.clipped_records(found[1], mask, clip)
            sums.append((ours, plain, [tf.reduce_sum(m, axis=0) for m in matrices]))
        return sums, reported

    sums, reported = both()
    for _, plain, expected in sums:
        for one, other in zip(plain, expected):
            np.testing.assert_array_equal(one, other)
    for name, value in reported[1].items():
        np.testing.assert_allclose(reported[0][name], value, rtol=1e-6)
    assert not any(kinds[1])
    return [(ours, expected) for ours, _, expected in sums], kinds[0]


# Which of the weights have factors: kernels of layers that are applied once to a row.
MODELS = {
    several_dense: [True, False, True, True, False],
    convolution: [False, False, True, False],
    over_sequences: [False, False, True, False],
    shared: [False, False, True, False],
    penalised: [False, False, True, False],
    with_softmax: [True, False],
    in_bfloat16: [False, False, True, False],
    recurrent: None,
    tied: [False],
    # Our own gradients stay with the operations.
    normalized: [True, False, False, False, True, False],
    # Operations with a gradient of a user's own stay a call.
    custom_gradient: [False, False, False],
}


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_the_sum_is_that_of_the_matrices(build):
    mask = np.array([True, True, False, True, True, False])
    small, large = 0.05, 1e6
    found, kinds = sums_of(build, (small, large), mask)
    if MODELS[build] is not None:
        assert kinds == MODELS[build]
    norms = []
    for ours, expected in found:
        for one, other in zip(ours, expected):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        norms.append(np.sqrt(sum(np.sum(np.asarray(o, float) ** 2) for o in ours)))
    assert 0.01 < norms[0] <= 4 * small * (1 + 1e-6)
    assert norms[1] > 0.01


def test_one_record_within_the_clip_is_the_plain_gradient():
    [(ours, expected)], _ = sums_of(several_dense, [1e6], records=1)
    for one, other in zip(ours, expected):
        np.testing.assert_array_equal(one, other)


def test_a_model_that_wraps_another_is_not_taken_for_it():
    model = models.from_keras(
        several_dense, tf.TensorSpec((None, 5), tf.float32), seed=1
    )
    assert inlining.in_graph(model.forward) is not None
    assert inlining.in_graph(lambda *arguments: model.forward(*arguments)) is None


class Waiting(tf.keras.layers.Layer):
    """A dense layer that waits for its input."""

    def build(self, shape):
        self.w = self.add_weight("w", (shape[-1], 4))

    def call(self, x):
        with tf.control_dependencies([x]):
            return tf.matmul(x + 1.0, self.w)


def frozen():
    return sequential((5,), LAYERS.Dense(5, trainable=False), LAYERS.Dense(4))


def frozen_normalization():
    return sequential(
        (5,),
        LAYERS.Dense(5),
        LAYERS.BatchNormalization(trainable=False),
        LAYERS.Dense(4),
    )


def waiting():
    return sequential((5,), LAYERS.Dense(5), Waiting())


@pytest.mark.parametrize("sends_state", [False, True], ids=["initial", "sent"])
@pytest.mark.parametrize(
    "build",
    [several_dense, convolution, frozen, frozen_normalization, waiting, normalized],
    ids=lambda build: build.__name__,
)
def test_local_steps_are_those_of_the_matrices(build, sends_state, monkeypatch):
    """Through the loop over rows, in whose graph the operations are put."""
    shape = build().input_shape[1:]
    model = models.from_keras(build, tf.TensorSpec((None, *shape), tf.float32), seed=1)
    work = clients.record_level_training(
        l2_norm_clip=0.3,
        noise_multiplier=0.0,
        optimizer=tff.learning.optimizers.build_sgdm(0.5),
        batching=data.PoissonBatching(2, 3.0, 1, batch_size=3),
    )
    rng = np.random.default_rng(0)
    batches = {
        "x": tf.constant(rng.normal(size=(3, 3, *shape)), tf.float32),
        "y": tf.constant(rng.integers(0, 4, (3, 3)), tf.int32),
        "mask": tf.constant([[True, True, False], [True] * 3, [True] * 3]),
        "num_steps": tf.constant(3),
        "num_examples": tf.constant(8),
        "seed": tf.constant([3, 4]),
        "row_ends": tf.constant(
            [ROW_ENDS_STEP, ROW_ENDS_MICROBATCH, ROW_ENDS_STEP], tf.int32
        ),
        "noise_seed": tf.constant([1, 2], tf.int64),
    }
    if sends_state:
        # Other values than the initial ones.
        batches[MODEL_STATE] = tuple(
            tf.constant(np.abs(rng.normal(size=s.shape)) + 0.5, s.dtype)
            for s in model.initial_state
        )

    def steps():
        function = tf.function(work.build(model, objectives.multiclass()))
        weights = [tf.constant(w) for w in model.initial_weights]
        return function(weights, batches, tf.constant(0))

    ours = steps()
    monkeypatch.setattr(inlining, "in_graph", lambda forward: None)
    monkeypatch.setattr(outer_products, "factors_of", lambda gradient: gradient)
    expected = steps()
    moved = 0.0
    for delta, other in zip(ours.update, expected.update):
        np.testing.assert_allclose(delta, other, rtol=2e-5, atol=1e-6)
        moved += float(np.sum(np.square(delta)))
    for name, value in expected.sums.items():
        np.testing.assert_allclose(ours.sums[name], value, rtol=1e-5)
    assert moved > 1e-6


SPECIAL = st.sampled_from(
    [0.0, 1.0, -3.0, 1e-45, 1e-38, 2e-38, 1e-30, 1e19, -1e20, 3.4e38]
    + [np.nan, np.inf, -np.inf]
)


def matrices(rows, columns):
    with np.errstate(all="ignore"):
        return np.asarray(rows)[:, :, None] * np.asarray(columns)[:, None, :]


class TestSpecialValues:
    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(SPECIAL, min_size=3, max_size=3),
        st.lists(SPECIAL, min_size=2, max_size=2),
        st.sampled_from([1e-6, 1.0, 1e6]),
    )
    def test_are_as_in_the_matrix_and_never_above_the_clip(self, rows, columns, clip):
        rows, columns = np.float32([rows]), np.float32([columns])
        mask = tf.constant([True])
        (found,) = record_noise.clipped_sum(
            [OuterProducts(tf.constant(rows), tf.constant(columns))], mask, clip
        )
        found = np.asarray(found, float)
        assert np.isfinite(found).all()
        assert np.sqrt(np.square(found).sum()) <= clip * (1 + 1e-6)
        for vectors in (rows, columns):
            vectors[np.abs(vectors) < 2.0**-126] = 0.0  # subnormal
        matrix = matrices(rows, columns)
        assert matrix.dtype == np.float32
        (expected,) = record_noise.clipped_records([tf.constant(matrix)], mask, clip)
        np.testing.assert_allclose(found, expected[0], rtol=1e-5, atol=1e-5 * clip)

    def test_a_tiny_factor_is_exact(self):
        """One vector times the factor alone would be subnormal."""
        rows = np.float32([[3e37, 1e37]])
        columns = np.float32([[7e-5, 3e-3]])
        clip = 1e-2
        (found,) = record_noise.clipped_sum(
            [OuterProducts(tf.constant(rows), tf.constant(columns))],
            tf.constant([True]),
            clip,
        )
        exact = matrices(rows.astype(float), columns.astype(float))[0]
        exact *= clip / np.linalg.norm(exact)
        np.testing.assert_allclose(found, exact, rtol=1e-6)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_a_bad_record_leaves_the_others_as_they_are(self, bad):
        rng = np.random.default_rng(1)
        rows = rng.normal(size=(4, 3)).astype(np.float32)
        columns = rng.normal(size=(4, 2)).astype(np.float32)
        spoilt = rows.copy()
        spoilt[1, 0] = bad
        mask = np.array([True, True, True, False])

        def total(rows, mask):
            products = OuterProducts(tf.constant(rows), tf.constant(columns))
            return record_noise.clipped_sum([products], tf.constant(mask), 0.3)[0]

        np.testing.assert_array_equal(
            total(spoilt, mask), total(rows, mask & (np.arange(4) != 1))
        )

    def test_the_norm_is_over_all_weights(self):
        products = OuterProducts(tf.constant([[3.0, 0.0]]), tf.constant([[1.0]]))
        found = record_noise.clipped_sum(
            [products, tf.constant([[4.0]])], tf.constant([True]), 1.0
        )
        np.testing.assert_allclose(found[0], [[0.6], [0.0]], rtol=1e-6)
        np.testing.assert_allclose(found[1], [0.8], rtol=1e-6)


def test_other_operations_keep_their_matrix():
    @tf.function
    def kinds():
        a, b = tf.ones([1, 3]), tf.ones([1, 2])
        longer = tf.ones([4, 3]), tf.ones([4, 2])
        candidates = {
            "outer": tf.matmul(a, b, transpose_a=True),
            "longer": tf.matmul(*longer, transpose_a=True),
            "plain": tf.matmul(tf.ones([3, 1]), b),
            "scaled": 2.0 * tf.matmul(a, b, transpose_a=True),
        }
        for name, value in candidates.items():
            found[name] = isinstance(outer_products.factors_of(value), OuterProducts)
        return tf.constant(0)

    found: dict[str, bool] = {}
    kinds()
    assert found == {"outer": True, "longer": False, "plain": False, "scaled": False}
