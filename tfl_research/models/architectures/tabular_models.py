"""Keras models over float features with one logit. No running statistics."""

from __future__ import annotations

import tensorflow as tf


def logistic(num_features: int) -> tf.keras.Model:
    """Logistic regression from zero weights, `[batch, num_features]` to `[batch, 1]`.

    Zero is the usual start of a convex problem and makes the first loss ln 2.
    """
    return tf.keras.Sequential(
        [
            tf.keras.Input([num_features]),
            tf.keras.layers.Dense(1, kernel_initializer="zeros"),
        ]
    )


def mlp(num_features: int, hidden: int = 32) -> tf.keras.Model:
    """One hidden layer of ReLUs, `[batch, num_features]` to `[batch, 1]`."""
    return tf.keras.Sequential(
        [
            tf.keras.Input([num_features]),
            tf.keras.layers.Dense(hidden, activation="relu"),
            tf.keras.layers.Dense(1),
        ]
    )


def build(name: str, num_features: int) -> tf.keras.Model:
    """The model of a name: "logistic" or "mlp".

    Raises:
      ValueError: another name.
    """
    if name == "logistic":
        return logistic(num_features)
    if name == "mlp":
        return mlp(num_features)
    raise ValueError(f"model must be logistic or mlp, got {name!r}")
