"""Keras models that cannot be honoured, and what the refusal must name."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
from keras_layers import sequential
from keras_row import CLASSES, LABELS, SIGNAL, TRUTHS, VECTOR, Row, crossentropy

layers, losses = tf.keras.layers, tf.keras.losses


def _mlp(
    kind: Any = tf.keras.Model, units: int = CLASSES, activation: Any = None
) -> Any:
    start = tf.keras.Input(4)
    head = layers.Dense(units, activation=activation, name="head")
    return kind(start, head(layers.Dense(4)(start)))


class _OwnStep(tf.keras.Model):
    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


class _OwnLoss(tf.keras.Model):
    def compute_loss(self, *arguments: Any, **more: Any) -> Any:
        return 2 * super().compute_loss(*arguments, **more)


class _Global(tf.keras.layers.Layer):
    def call(self, x: Any, training: Any = None) -> Any:
        return x + tf.random.get_global_generator().normal([4]) if training else x


class _Numpy(tf.keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return tf.ensure_shape(tf.numpy_function(np.copy, [x], x.dtype), x.shape)


_SHARED = _mlp()


def _compiled() -> Any:
    model = _mlp()
    model.compile("adam", losses.SparseCategoricalCrossentropy())
    return model


def _row(build: Any, refused: str, y: Any = LABELS, loss: Any = None) -> Row:
    return Row(build, VECTOR, y, loss or crossentropy(), refused=refused)


def _binary(from_logits: bool) -> Any:
    return lambda: losses.BinaryCrossentropy(from_logits=from_logits)


MODELS = {
    "own_train_step": _row(
        lambda: _mlp(_OwnStep), r"_OwnStep.*train_step|train_step.*_OwnStep"
    ),
    "own_compute_loss": _row(lambda: _mlp(_OwnLoss), r"compute_loss"),
    "global_generator": dataclasses.replace(
        sequential(VECTOR, lambda: _Global(name="shaker")),
        refused=r"shaker",
    ),
    "compiled": _row(_compiled, r"compile"),
    "same_model": _row(lambda: _SHARED, r"same model"),
    "not_a_model": _row(lambda: lambda x: x, r"(?i)keras.*model"),
    "statistics_without_policy": dataclasses.replace(
        sequential(VECTOR, lambda: layers.BatchNormalization(name="norm")),
        refused=r"norm.*(frozen|averaged|local)",
    ),
    "stateful_rnn": Row(
        lambda: tf.keras.Sequential(
            [
                layers.InputLayer(SIGNAL.shape[1:], batch_size=2),
                layers.LSTM(3, stateful=True, name="memory"),
                layers.Dense(CLASSES),
            ]
        ),
        SIGNAL,
        LABELS,
        refused=r"memory.*stateful|stateful.*memory",
    ),
    "numpy_function": dataclasses.replace(
        sequential(VECTOR, lambda: _Numpy(name="outside")),
        refused=r"outside",
    ),
    # Keras' own fit fails too, unless it runs eagerly.
    "spectral_normalization": dataclasses.replace(
        sequential(VECTOR, lambda: layers.SpectralNormalization(layers.Dense(4))),
        non_trainable="averaged",
        refused=r"spectral_normalization.*cannot be traced|cannot be traced.*spectral",
    ),
    "unknown_policy": dataclasses.replace(
        sequential(VECTOR, lambda: layers.BatchNormalization()),
        non_trainable="averages",
        refused=r"(?=.*'averages')(?=.*frozen)(?=.*averaged)(?=.*local)",
    ),
}

HEADS = {
    "softmax_as_logits": _row(
        lambda: _mlp(activation="softmax"),
        r"head.*softmax|softmax.*head|softmax.*from_logits",
    ),
    "logits_as_softmax": _row(_mlp, r"from_logits", loss=crossentropy(False)),
    "softmax_layer_as_logits": dataclasses.replace(
        Row(
            lambda: tf.keras.Sequential(
                [layers.InputLayer(4), layers.Dense(CLASSES), layers.Softmax()]
            ),
            VECTOR,
            LABELS,
        ),
        refused=r"(?i)softmax",
    ),
    "sigmoid_as_logit": _row(
        lambda: _mlp(units=1, activation="sigmoid"),
        r"sigmoid",
        TRUTHS,
        _binary(True),
    ),
    "logit_as_sigmoid": _row(
        lambda: _mlp(units=1), r"from_logits", TRUTHS, _binary(False)
    ),
    "too_few_classes": _row(
        lambda: _mlp(units=2), r"(?=.*\b2\b)(units|classes|logits|outputs)"
    ),
    "two_logits_for_one_label": _row(
        lambda: _mlp(units=2), r"\b2\b|two|\[.*2\]", TRUTHS, _binary(True)
    ),
    "label_below_zero": _row(_mlp, r"-1", np.array([0, 1, -1, 2, 1], np.int32)),
    "signs_for_binary": _row(
        lambda: _mlp(units=1),
        r"-1",
        2 * TRUTHS - 1,
        _binary(True),
    ),
}

TABLE = {**MODELS, **HEADS}
