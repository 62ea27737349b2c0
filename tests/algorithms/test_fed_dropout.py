"""Federated dropout: against smaller networks that are built, and by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import rounds
import tensorflow as tf

from tfl_research import algorithms, runtime, stateless_random
from tfl_research.algorithms.fed_dropout import _STREAM

SEED = tf.constant([5, 6], tf.int32)


def specs_of(weights):
    return [tf.TensorSpec(w.shape, tf.float32) for w in weights]


def network(filters, units):
    return tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer((5, 5, 2)),
            tf.keras.layers.Conv2D(filters, 3, activation="sigmoid"),
            tf.keras.layers.MaxPooling2D(2, strides=1),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(units, activation="tanh"),
            tf.keras.layers.Dense(3),
        ]
    )


def test_a_sub_model_is_the_smaller_network():
    whole = network(6, 5)
    weights = [
        np.random.default_rng(i).normal(size=w.shape).astype(np.float32)
        for i, w in enumerate(whole.get_weights())
    ]
    sub_models = algorithms.SubModels(0.5)
    factors = [f.numpy() for f in sub_models.factors(specs_of(weights), SEED)]
    filters, units = np.flatnonzero(factors[1]), np.flatnonzero(factors[3])
    assert len(filters) == 3
    assert len(units) == 3  # of 5, rounded up
    # The 2 x 2 places of an image of 6 channels, one after another.
    places = np.concatenate([6 * place + filters for place in range(4)])
    small = network(3, 3)
    small.set_weights(
        [
            weights[0][..., filters],
            weights[1][filters],
            6 / 3 * weights[2][np.ix_(places, units)],
            weights[3][units],
            5 / 3 * weights[4][units],
            weights[5],
        ]
    )
    x = np.random.default_rng(9).normal(size=(4, 5, 5, 2)).astype(np.float32)
    whole.set_weights([f * w for f, w in zip(factors, weights)])
    np.testing.assert_allclose(whole(x), small(x), atol=1e-5)
    assert sub_models.size(specs_of(weights)) == 4 * small.count_params()


def test_every_unit_is_kept_as_often():
    specs = [tf.TensorSpec(s, tf.float32) for s in ([2, 8], [8], [8, 1], [1])]
    sub_models = algorithms.SubModels(0.3)
    draw = tf.function(lambda seed: sub_models.factors(specs, seed)[1])
    counts = sum(draw(stateless_random.fold_in(SEED, i)).numpy() for i in range(400))
    assert counts.sum() == 400 * 3  # of 8, rounded up
    # 400 coins of 3/8 each: eight of them beyond five deviations in one of 2e5.
    assert np.abs(counts - 150).max() < 5 * math.sqrt(400 * 3 / 8 * 5 / 8)
    # What is left has the mean of all.
    scales = sub_models.factors(specs, SEED)[2].numpy()
    assert scales.mean() == pytest.approx(1)


def mlp():
    return tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer((2,)),
            tf.keras.layers.Dense(5, activation="relu"),
            tf.keras.layers.Dense(1),
        ]
    )


def trained(weights, factors, client):
    """A client's steps on the matrices of its units, and the update of all weights."""
    kept = np.flatnonzero(factors[1])
    scale = len(factors[1]) / len(kept)
    w1, b1 = weights[0][:, kept].copy(), weights[1][kept].copy()
    w2, b2 = weights[2][kept].copy(), weights[3].copy()
    for design, y in client.batches:
        x = design[:, :2]
        hidden = np.maximum(x @ w1 + b1, 0)
        error = (scale * hidden @ w2 + b2)[:, 0] - y
        out = error[:, None] / len(y)
        back = (out @ (scale * w2).T) * (hidden > 0)
        step_2, step_b2 = scale * hidden.T @ out, out.sum(0)
        step_1, step_b1 = x.T @ back, back.sum(0)
        w1, b1 = w1 - rounds.RATE * step_1, b1 - rounds.RATE * step_b1
        w2, b2 = w2 - rounds.RATE * step_2, b2 - rounds.RATE * step_b2
    update = [np.zeros_like(w) for w in weights]
    update[0][:, kept] = w1 - weights[0][:, kept]
    update[1][kept] = b1 - weights[1][kept]
    update[2][kept] = w2 - weights[2][kept]
    update[3][:] = b2 - weights[3]
    return update


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_three_rounds_by_hand(six_clients, share):
    task = dataclasses.replace(six_clients, build_model=mlp)
    algorithm = algorithms.build_fed_dropout(rounds.sgd(), share=share)
    process = algorithm.build(task, max_cohort_size=4)
    kept = 2 if share < 1 else 5
    assert process.download_bytes == 4 * (2 * kept + kept + kept + 1)
    assert process.upload_bytes == process.download_bytes
    sub_models, untouched = algorithms.SubModels(share), 0
    with runtime.in_process(process, mode=rounds.MODE) as engine:
        state = engine.initialize()
        weights = [np.array(w) for w in state.global_model_weights.trainable]
        for cohort, members in zip(rounds.cohorts_of(task), rounds.paper_rounds()):
            total = [np.zeros_like(w) for w in weights]
            counts = [np.zeros_like(w) for w in weights]
            for row, client in enumerate(members.values()):
                own = tf.constant(cohort.seeds[row])
                seed = stateless_random.fold_in(own, _STREAM)
                factors = sub_models.factors(specs_of(weights), seed)
                factors = [f.numpy() for f in factors]
                for i, update in enumerate(trained(weights, factors, client)):
                    total[i] += client.n * update
                    counts[i] += client.n * (factors[i] > 0)
            untouched += sum(int((c == 0).sum()) for c in counts)
            weights = [
                w + t / np.where(c > 0, c, 1) for w, t, c in zip(weights, total, counts)
            ]
            state, _ = engine.next(state, cohort)
            found = state.global_model_weights.trainable
            for ours, theirs in zip(found, weights):
                np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert (untouched > 0) == (share < 1)


@pytest.mark.parametrize(
    "shapes",
    [
        ([7, 12], [4, 12], [2, 12]),  # a recurrent layer
        ([9, 4], [4, 3], [3]),  # no bias
        ([9, 4], [4], [6, 3], [3]),
    ],
)
def test_other_layers_are_refused(shapes):
    specs = [tf.TensorSpec(s, tf.float32) for s in shapes]
    with pytest.raises(ValueError, match="a sequence of dense and convolutional"):
        algorithms.SubModels(0.5).check(specs)


@pytest.mark.parametrize("share", [0.0, 1.5, math.nan])
def test_a_wrong_share(share):
    with pytest.raises(ValueError, match="share must be above 0 and at most 1"):
        algorithms.build_fed_dropout(rounds.sgd(), share=share)
