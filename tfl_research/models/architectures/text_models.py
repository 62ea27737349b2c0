"""Keras models over character ids. Logits out, no running statistics."""

from __future__ import annotations

import tensorflow as tf


def dense(
    vocabulary_size: int, *, context: int, embedding: int = 8, hidden: int = 64
) -> tf.keras.Model:
    """A small feed-forward language model (Bengio et al. 2003).

    The model has few weights on purpose: the l2 norm of the noise that protects a
    cohort of a few hundred grows with the square root of the number of weights.

    Returns:
      A model from int32 `[batch, context]` to logits `[batch, vocabulary_size]`.
    """
    ids = tf.keras.Input([context], dtype=tf.int32)
    embedded = tf.keras.layers.Embedding(vocabulary_size, embedding)(ids)
    flat = tf.keras.layers.Flatten()(embedded)
    features = tf.keras.layers.Dense(hidden, activation="relu")(flat)
    logits = tf.keras.layers.Dense(vocabulary_size)(features)
    return tf.keras.Model(ids, logits)


def lstm(
    vocabulary_size: int,
    *,
    length: int,
    embedding: int = 8,
    units: int = 128,
    layers: int = 1,
) -> tf.keras.Model:
    """The character LSTM of McMahan et al. 2017 (arXiv 1602.05629), section 3.

    The paper's has an embedding of 8 and two layers of 256 units.

    Returns:
      A model from int32 `[batch, length]` to logits
      `[batch, length, vocabulary_size]`.
    """
    ids = tf.keras.Input([length], dtype=tf.int32)
    sequence = tf.keras.layers.Embedding(vocabulary_size, embedding)(ids)
    for _ in range(layers):
        sequence = tf.keras.layers.LSTM(units, return_sequences=True)(sequence)
    logits = tf.keras.layers.Dense(vocabulary_size)(sequence)
    return tf.keras.Model(ids, logits)
