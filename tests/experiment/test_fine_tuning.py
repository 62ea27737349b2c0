"""Pretrained models under user-level privacy: a frozen backbone, and adapters."""

import numpy as np
import pytest
import tensorflow as tf

import tfl_research as tfl
from tfl_research import models, tasks

L = tf.keras.layers
CLIP = 0.25


def backbone():
    """As MobileNetV2: an inverted residual with batch normalization."""
    images = L.Input([8, 8, 3])
    x = L.BatchNormalization()(L.Conv2D(4, 3, strides=2, use_bias=False)(images))
    inner = L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(8, 1, use_bias=False)(x)))
    inner = L.DepthwiseConv2D(3, padding="same", use_bias=False)(inner)
    inner = L.Conv2D(4, 1, use_bias=False)(L.BatchNormalization()(inner))
    x = L.GlobalAveragePooling2D()(L.Add()([x, L.BatchNormalization()(inner)]))
    base = tf.keras.Model(images, x)
    base.trainable = False
    return tf.keras.Sequential([base, L.Dense(2, name="head")])


def transformer():
    ids = L.Input([4], dtype=tf.int32)
    hidden = L.Embedding(9, 8)(ids)
    hidden = hidden + L.MultiHeadAttention(2, 4)(hidden, hidden)
    hidden = L.Dense(8, activation="relu")(L.LayerNormalization()(hidden))
    return tf.keras.Model(ids, L.Dense(2)(L.GlobalAveragePooling1D()(hidden)))


def clients_of(draw):
    generator = np.random.default_rng(0)
    return {
        f"client {index}": {
            "x": draw(generator),
            "y": generator.integers(0, 2, 4).astype(np.int32),
        }
        for index in range(4)
    }


CASES = {
    "backbone": (
        backbone,
        lambda g: g.normal(size=(4, 8, 8, 3)).astype(np.float32),
        2,
    ),
    "adapters": (
        models.lora(transformer, 2),
        lambda g: g.integers(0, 9, (4, 4)).astype(np.int32),
        12,
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_only_the_trained_part_moves_and_is_clipped(name, tmp_path):
    build, draw, trained = CASES[name]
    task = tasks.from_arrays(clients_of(draw), model=build)
    experiment = tfl.Experiment(
        task,
        client_optimizer=tfl.SGD(1.0),
        cohorts=tfl.Cohorts("full"),
        privacy=tfl.UserLevelPrivacy(
            "gaussian", l2_norm_clip=CLIP, noise_multiplier=1e-6, delta=1e-3
        ),
        training=tfl.Training(rounds=1),
    )
    result = experiment.run(tmp_path)
    model = task.functional_model()
    before = models.built_model(build, task.x_spec)
    after = result.model("final")
    assert len(model.initial_weights) == trained
    if name == "backbone":
        moved = [
            b.numpy() - a
            for a, b in zip(model.initial_weights, after.trainable_weights)
        ]
        norm = np.sqrt(sum((m**2).sum() for m in moved))
        assert 0.05 * CLIP < norm <= CLIP * (1 + 1e-4)
        kept = zip(before.non_trainable_weights, after.non_trainable_weights)
    else:
        # Merging leaves the layers without adapters as they were.
        kept = [(before.layers[1].embeddings, after.layers[1].embeddings)]
    for a, b in kept:
        np.testing.assert_array_equal(a, b)
