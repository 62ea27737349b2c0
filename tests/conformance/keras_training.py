"""Penalties, constraints, frozen weights, losses and sample weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
from keras_layers import on, sequential
from keras_row import CLASSES, IMAGE, LABELS, SIGNAL, TRUTHS, VECTOR, Row, reals

layers, losses = tf.keras.layers, tf.keras.losses
regularizers, constraints = tf.keras.regularizers, tf.keras.constraints


class _Activity(tf.keras.layers.Layer):
    """Adds the mean square of its inputs to the loss."""

    def call(self, x: Any) -> Any:
        self.add_loss(0.3 * tf.reduce_mean(tf.square(x)))
        return x


def _model_loss() -> Any:
    start = tf.keras.Input(4)
    hidden = layers.Dense(3)(start)
    model = tf.keras.Model(start, layers.Dense(CLASSES)(hidden))
    model.add_loss(0.2 * tf.reduce_mean(tf.abs(hidden)))
    return model


def _shared_penalty() -> Any:
    start = tf.keras.Input(4)
    both = layers.Dense(4, kernel_regularizer="l2", activity_regularizer="l2")
    return tf.keras.Model(start, layers.Dense(CLASSES)(both(start) + both(2 * start)))


# TFF's own FedAvg cannot build models whose penalties depend on activations: it takes
# the losses out of the function in which Keras made them.
PENALTIES = {
    "kernel_l2": sequential(
        VECTOR,
        lambda: layers.Dense(5, kernel_regularizer=regularizers.L2(0.3)),
    ),
    "kernel_l1": on(
        SIGNAL, "Conv1D", 3, 2, kernel_regularizer=regularizers.L1(0.2), quick=False
    ),
    "bias_penalty": on(
        VECTOR,
        "Dense",
        5,
        bias_regularizer="l1_l2",
        bias_initializer="ones",
        quick=False,
    ),
    "orthogonal_penalty": on(
        VECTOR,
        "Dense",
        4,
        kernel_regularizer=regularizers.OrthogonalRegularizer(0.2),
        quick=False,
    ),
    "recurrent_penalty": on(
        SIGNAL, "LSTM", 2, recurrent_regularizer=regularizers.L2(0.3), quick=False
    ),
    "embedding_penalty": sequential(
        np.arange(10, dtype=np.int32).reshape(5, 2) % 6,
        lambda: layers.Embedding(6, 3, embeddings_regularizer=regularizers.L2(0.3)),
        quick=False,
    ),
    "normalization_penalty": on(
        VECTOR,
        "LayerNormalization",
        gamma_regularizer=regularizers.L2(0.3),
        quick=False,
    ),
    "activity_penalty": sequential(
        VECTOR,
        lambda: layers.Dense(
            5, activity_regularizer=regularizers.L2(0.3), bias_initializer="ones"
        ),
        tff=False,
    ),
    "activity_layer": sequential(
        VECTOR,
        lambda: layers.Dense(4, bias_initializer="ones"),
        lambda: layers.ActivityRegularization(l1=0.2),
        tff=False,
        quick=False,
    ),
    "layer_add_loss": sequential(
        VECTOR,
        lambda: layers.Dense(4, bias_initializer="ones"),
        _Activity,
        tff=False,
    ),
    "model_add_loss": Row(_model_loss, VECTOR, LABELS, tff=False),
    "shared_penalty": Row(_shared_penalty, VECTOR, LABELS, tff=False, quick=False),
    "frozen_penalty": sequential(
        VECTOR,
        lambda: _frozen(layers.Dense(4, kernel_regularizer="l2")),
    ),
}

CONSTRAINTS = {
    "max_norm": sequential(
        VECTOR,
        lambda: layers.Dense(5, kernel_constraint=constraints.MaxNorm(0.4)),
        tff=False,
    ),
    "non_negative": sequential(
        VECTOR, lambda: layers.Dense(5, kernel_constraint="non_neg"), tff=False
    ),
    "unit_norm": sequential(
        IMAGE,
        lambda: layers.Conv2D(
            2, 2, kernel_constraint=constraints.UnitNorm(axis=[0, 1, 2])
        ),
        tff=False,
    ),
    "min_max_norm": sequential(
        VECTOR,
        lambda: layers.Dense(
            5, kernel_constraint=constraints.MinMaxNorm(0.5, 0.9, rate=0.5)
        ),
        tff=False,
        quick=False,
    ),
    "radial": sequential(
        IMAGE,
        lambda: layers.Conv2D(2, 3, kernel_constraint=constraints.RadialConstraint()),
        tff=False,
        quick=False,
    ),
    "bias_constraint": sequential(
        VECTOR,
        lambda: layers.Dense(
            5, bias_constraint=constraints.NonNeg(), bias_initializer="ones"
        ),
        rate=1.0,
        tff=False,
        quick=False,
    ),
}


def _frozen(layer: Any) -> Any:
    layer.trainable = False
    return layer


def _backbone() -> Any:
    backbone = tf.keras.Sequential(
        [
            layers.InputLayer(IMAGE.shape[1:]),
            layers.Conv2D(3, 3, activation="relu"),
            layers.BatchNormalization(moving_mean_initializer="ones"),
            layers.GlobalAveragePooling2D(),
        ],
        name="backbone",
    )
    backbone.trainable = False
    start = tf.keras.Input(IMAGE.shape[1:])
    return tf.keras.Model(start, layers.Dense(CLASSES)(backbone(start)))


FROZEN = {
    "frozen_layer": sequential(
        VECTOR,
        lambda: _frozen(layers.Dense(4, activation="relu")),
        lambda: layers.Dense(4, activation="relu"),
        quick=False,
    ),
    "frozen_backbone": Row(_backbone, IMAGE, LABELS),
    "frozen_embedding": sequential(
        np.arange(10, dtype=np.int32).reshape(5, 2) % 6,
        lambda: layers.Embedding(
            6,
            3,
            embeddings_initializer=tf.keras.initializers.Constant(
                np.arange(18, dtype=np.float32).reshape(6, 3)
            ),
            trainable=False,
        ),
    ),
}


def _target(
    loss: Any,
    y: np.ndarray,
    units: int = 1,
    activation: str = "linear",
    quick: bool = True,
) -> Row:
    def build() -> Any:
        return tf.keras.Sequential(
            [
                layers.InputLayer(4),
                layers.Dense(4, activation="tanh"),
                layers.Dense(units, activation=activation),
            ]
        )

    return Row(build, VECTOR, y, loss, quick=quick)


def _steep(units: int, activation: str) -> Any:
    kernel = tf.keras.initializers.RandomNormal(0.0, 60.0)
    head = layers.Dense(units, activation=activation, kernel_initializer=kernel)
    return tf.keras.Sequential([layers.InputLayer(4), head])


REALS = reals(1, seed=3)
ONE_HOT = np.eye(CLASSES, dtype=np.float32)[LABELS]
MANY = (reals(4, seed=5) > 0).astype(np.float32)

LOSSES = {
    "mean_squared_error": _target(losses.MeanSquaredError, REALS),
    "mean_absolute_error": _target(losses.MeanAbsoluteError, REALS, quick=False),
    "huber": _target(lambda: losses.Huber(0.5), REALS),
    "log_cosh": _target(losses.LogCosh, REALS, quick=False),
    "poisson": _target(
        losses.Poisson, np.abs(REALS), activation="softplus", quick=False
    ),
    "several_targets": _target(
        losses.MeanSquaredError, reals(3, seed=4), units=3, quick=False
    ),
    "cosine_similarity": _target(
        losses.CosineSimilarity, reals(3, seed=4), units=3, quick=False
    ),
    "one_hot": _target(
        lambda: losses.CategoricalCrossentropy(from_logits=True),
        ONE_HOT,
        CLASSES,
        quick=False,
    ),
    "label_smoothing": _target(
        lambda: losses.CategoricalCrossentropy(label_smoothing=0.1),
        ONE_HOT,
        CLASSES,
        "softmax",
    ),
    "kl_divergence": _target(
        losses.KLDivergence, ONE_HOT, CLASSES, "softmax", quick=False
    ),
    "categorical_hinge": _target(
        losses.CategoricalHinge, ONE_HOT, CLASSES, quick=False
    ),
    "hinge": _target(losses.Hinge, 2 * TRUTHS - 1),
    "binary_focal": _target(
        lambda: losses.BinaryFocalCrossentropy(from_logits=True), TRUTHS, quick=False
    ),
    "multi_label": _target(
        lambda: losses.BinaryCrossentropy(from_logits=True), MANY, units=4
    ),
    # Keras takes the logits of these heads: saturated outputs have no logarithms. TFF's
    # own FedAvg takes the outputs.
    "saturated_softmax": dataclasses.replace(
        _target(
            lambda: losses.SparseCategoricalCrossentropy(), LABELS, CLASSES, "softmax"
        ),
        build=lambda: _steep(CLASSES, "softmax"),
        tff=False,
    ),
    "saturated_sigmoid": dataclasses.replace(
        _target(losses.BinaryCrossentropy, TRUTHS, activation="sigmoid"),
        build=lambda: _steep(1, "sigmoid"),
        tff=False,
    ),
    "multi_label_sigmoid": _target(
        losses.BinaryCrossentropy, MANY, units=4, activation="sigmoid", quick=False
    ),
}


def _weighted(row: Row) -> Row:
    weights = np.array([1.0, 0.0, 2.5, 0.5, 3.0], np.float32)
    return Row(
        row.build,
        row.x,
        row.y,
        row.loss,
        sample_weight=weights,
        represents=True,
        tff=False,
    )


WEIGHTED = {"sample_weights": _weighted(sequential(VECTOR, lambda: layers.Dense(4)))}

TABLE = {**PENALTIES, **CONSTRAINTS, **FROZEN, **LOSSES, **WEIGHTED}
