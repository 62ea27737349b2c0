"""Keras models over word ids."""

from __future__ import annotations

import tensorflow as tf


def lstm(
    num_ids: int, *, length: int, embedding_size: int = 96, lstm_units: int = 670
) -> tf.keras.Model:
    """The Stack Overflow LSTM of Reddi et al. 2020 (arXiv 2003.00295).

    4,050,748 weights with 10,004 ids. Padding is at the end of a sequence. There it
    cannot influence earlier steps, so no mask is needed.

    Returns:
      A model from int32 `[batch, length]` to logits `[batch, length, num_ids]`.
    """
    return tf.keras.Sequential(
        [
            tf.keras.layers.Input((length,), dtype=tf.int32),
            tf.keras.layers.Embedding(num_ids, embedding_size),
            tf.keras.layers.LSTM(lstm_units, return_sequences=True),
            tf.keras.layers.Dense(embedding_size),
            tf.keras.layers.Dense(num_ids),
        ]
    )
