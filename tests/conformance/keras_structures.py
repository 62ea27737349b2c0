"""Keras models with branches, several inputs or outputs, of own classes or dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from keras_layers import sequential
from keras_row import CLASSES, LABELS, VECTOR, WORDS, Row, crossentropy, reals

layers = tf.keras.layers
OTHER = reals(4, seed=7)
TARGETS = reals(1, seed=3)


def _functional(body: Any, **more: Any) -> Row:
    def build() -> Any:
        start = tf.keras.Input(VECTOR.shape[1:])
        return tf.keras.Model(start, layers.Dense(CLASSES)(body(start)))

    return Row(build, VECTOR, LABELS, **more)


def _merged(x: Any) -> Any:
    one, two = layers.Dense(3)(x), layers.Dense(3)(x)
    kinds = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
    merged = [getattr(layers, kind)()([one, two]) for kind in kinds]
    merged.append(layers.Dot(axes=1, normalize=True)([one, two]))
    return layers.Concatenate()(merged)


def _shared(x: Any) -> Any:
    both = layers.Dense(4, activation="tanh")
    return layers.Concatenate()([both(x), both(both(x))])


def _branches(x: Any) -> Any:
    # The head of the right branch is made before the left branch.
    right = layers.Dense(3, name="z")(x)
    left = layers.Dense(3, name="a")(layers.Dense(2)(x))
    return left + layers.Dense(3)(right)


class _Own(tf.keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = [layers.Dense(4, activation="relu") for _ in range(2)]
        self.head = layers.Dense(CLASSES)

    def call(self, x: Any, training: Any = None) -> Any:
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class _Outer(tf.keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.inner = _Own()
        self.scale = self.add_weight("scale", (CLASSES,), initializer="ones")

    def call(self, x: Any) -> Any:
        return self.inner(x) * self.scale


def _built(make: Any) -> Any:
    def build() -> Any:
        model = make()
        model(tf.zeros([1, *VECTOR.shape[1:]]))
        return model

    return build


class _Scaled(tf.keras.layers.Layer):
    def build(self, shape: Any) -> None:
        self.scale = self.add_weight("scale", shape[-1:], initializer="ones")

    def call(self, x: Any) -> Any:
        return tf.math.softplus(self.scale) * x


class _Counting(tf.keras.layers.Layer):
    """Divides by the number of batches that it has seen in training."""

    def build(self, shape: Any) -> None:
        self.seen = self.add_weight(
            "seen", (), initializer="ones", trainable=False, dtype=tf.float32
        )

    def call(self, x: Any, training: Any = None) -> Any:
        if training:
            self.seen.assign_add(1.0)
        return x / self.seen


def _two_inputs() -> Any:
    inputs = {"left": tf.keras.Input(4), "words": tf.keras.Input(6, dtype=tf.int32)}
    embedded = layers.Flatten()(layers.Embedding(10, 2)(inputs["words"]))
    both = layers.Concatenate()([layers.Dense(3)(inputs["left"]), embedded])
    return tf.keras.Model(inputs, layers.Dense(CLASSES)(both))


def _two_outputs() -> Any:
    start = tf.keras.Input(4)
    body = layers.Dense(4, activation="tanh")(start)
    outputs = {
        "kind": layers.Dense(CLASSES, name="kind")(body),
        "size": layers.Dense(1, name="size")(body),
    }
    return tf.keras.Model(start, outputs)


def _two_losses() -> dict[str, Any]:
    return {"kind": crossentropy()(), "size": tf.keras.losses.MeanSquaredError()}


def _two_of_each() -> Any:
    inputs = {"left": tf.keras.Input(4), "right": tf.keras.Input(4)}
    body = layers.Dense(4)(inputs["left"]) * layers.Dense(4)(inputs["right"])
    outputs = {
        "kind": layers.Dense(CLASSES, name="kind")(body),
        "size": layers.Dense(1, name="size")(body),
    }
    return tf.keras.Model(inputs, outputs)


def _residual(x: Any) -> Any:
    for _ in range(2):
        x = x + layers.BatchNormalization(momentum=0.5)(layers.Dense(4)(x))
    return x


def _with_dtype(dtype: str) -> Any:
    def build() -> Any:
        return tf.keras.Sequential(
            [
                layers.InputLayer(4),
                layers.Dense(5, activation="relu", dtype=dtype),
                layers.Dense(CLASSES, dtype=dtype),
                layers.Activation("linear", dtype="float32"),
            ]
        )

    return build


TABLE = {
    "merging": _functional(_merged, quick=False),
    "shared_layer": _functional(_shared),
    "branches": _functional(_branches),
    # The last batch has one example: its variance is rounding alone.
    "residual_statistics": _functional(
        _residual, non_trainable="averaged", tolerance=1e-4
    ),
    "lambda": sequential(
        VECTOR,
        lambda: layers.Dense(4),
        lambda: layers.Lambda(lambda x: tf.square(x) - 1.0),
        quick=False,
    ),
    "identity": sequential(
        VECTOR, lambda: layers.Dense(2), layers.Identity, quick=False
    ),
    "operations": _functional(
        lambda x: tf.nn.relu(layers.Dense(4)(x)) * 2.0 + x, quick=False
    ),
    "nested_models": _functional(
        lambda x: tf.keras.Sequential(
            [layers.InputLayer(4), layers.Dense(3, activation="relu")]
        )(x),
        quick=False,
    ),
    "unbuilt": Row(
        lambda: tf.keras.Sequential([layers.Dense(3), layers.Dense(CLASSES)]),
        VECTOR,
        LABELS,
    ),
    "subclassed": Row(_built(_Own), VECTOR, LABELS, quick=False),
    "subclassed_nested": Row(_built(_Outer), VECTOR, LABELS),
    "own_layer": sequential(VECTOR, _Scaled, quick=False),
    # TFF's own FedAvg leaves statistics as they are, and this layer uses its own.
    "own_statistic": sequential(VECTOR, _Counting, non_trainable="averaged", tff=False),
    "two_inputs": Row(
        _two_inputs,
        {"left": VECTOR, "words": WORDS},
        LABELS,
        represents=True,
        quick=False,
    ),
    "two_outputs": Row(
        _two_outputs,
        VECTOR,
        {"kind": LABELS, "size": TARGETS},
        _two_losses,
        tff=False,
    ),
    "two_inputs_two_outputs": Row(
        _two_of_each,
        {"left": VECTOR, "right": OTHER},
        {"kind": LABELS, "size": TARGETS},
        _two_losses,
        tff=False,
    ),
    "mixed_bfloat16": Row(
        _with_dtype("mixed_bfloat16"), VECTOR, LABELS, tolerance=2e-2, quick=False
    ),
    "mixed_float16": Row(_with_dtype("mixed_float16"), VECTOR, LABELS, tolerance=5e-3),
    "float64": Row(
        _with_dtype("float64"), VECTOR.astype(np.float64), LABELS, quick=False
    ),
}
