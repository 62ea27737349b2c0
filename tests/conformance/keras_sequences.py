"""Keras' recurrent layers, attention, embeddings, masks and lookups."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from keras_layers import on, sequential
from keras_row import (
    CLASSES,
    LABELS,
    SIGNAL,
    WORDS,
    Row,
    ids,
    reals,
)

layers = tf.keras.layers
CLIP = reals(3, 4, 4, 2)

RECURRENT = {
    "lstm": on(SIGNAL, "LSTM", 3),
    "gru": on(SIGNAL, "GRU", 3, quick=False),
    "gru_reset_before": on(SIGNAL, "GRU", 3, reset_after=False, quick=False),
    "simple_rnn": on(SIGNAL, "SimpleRNN", 3, go_backwards=True, quick=False),
    "stacked_rnn": sequential(
        SIGNAL,
        lambda: layers.LSTM(3, return_sequences=True),
        lambda: layers.GRU(2, return_sequences=True),
        quick=False,
    ),
    "rnn_of_cells": sequential(
        SIGNAL,
        lambda: layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], unroll=True),
        quick=False,
    ),
    "bidirectional": sequential(
        SIGNAL,
        lambda: layers.Bidirectional(layers.LSTM(2, return_sequences=True)),
        quick=False,
    ),
    "time_distributed": sequential(
        SIGNAL,
        lambda: layers.TimeDistributed(layers.Dense(2, activation="relu")),
        quick=False,
    ),
    "conv_lstm_1d": on(reals(3, 5, 2), "ConvLSTM1D", 2, 2, quick=False),
    "conv_lstm_2d": on(CLIP, "ConvLSTM2D", 2, 2, quick=False),
    "conv_lstm_3d": on(reals(2, 3, 3, 3, 2), "ConvLSTM3D", 2, 2, quick=False),
}


def _functional(x: np.ndarray, body: Any, **more: Any) -> Row:
    def build() -> Any:
        start = tf.keras.Input(x.shape[1:], dtype=x.dtype)
        return tf.keras.Model(start, layers.Dense(CLASSES)(body(start)))

    return Row(build, x, LABELS, **more)


def _attended(x: Any, make: Any) -> Any:
    query, value = layers.Dense(4)(x), layers.Dense(4)(x)
    return layers.GlobalAveragePooling1D()(make()([query, value]))


def _self_attended(x: Any, **call: Any) -> Any:
    attention = layers.MultiHeadAttention(2, 3)
    return layers.Flatten()(attention(x, x, **call))


def _encoder(x: Any) -> Any:
    embedded = layers.Embedding(10, 4)(x)
    attended = layers.LayerNormalization()(
        embedded + layers.MultiHeadAttention(2, 2)(embedded, embedded)
    )
    wide = layers.Dense(4)(layers.Dense(6, activation="gelu")(attended))
    return layers.GlobalAveragePooling1D()(layers.LayerNormalization()(attended + wide))


ATTENTION = {
    "attention": _functional(
        SIGNAL,
        lambda x: _attended(x, lambda: layers.Attention(use_scale=True)),
        quick=False,
    ),
    "additive_attention": _functional(
        SIGNAL, lambda x: _attended(x, layers.AdditiveAttention), quick=False
    ),
    "multi_head_attention": _functional(SIGNAL, _self_attended),
    "causal_attention": _functional(
        SIGNAL, lambda x: _self_attended(x, use_causal_mask=True), quick=False
    ),
    "transformer": _functional(WORDS, _encoder, quick=False),
}

MASKS = {
    "embedding": sequential(WORDS, lambda: layers.Embedding(10, 3), quick=False),
    "embedding_mask_lstm": _functional(
        WORDS,
        lambda x: layers.LSTM(3)(layers.Embedding(10, 3, mask_zero=True)(x)),
        quick=False,
    ),
    "embedding_mask_pooling": _functional(
        WORDS,
        lambda x: layers.GlobalAveragePooling1D()(
            layers.Embedding(10, 3, mask_zero=True)(x)
        ),
    ),
    "embedding_mask_attention": _functional(
        WORDS,
        lambda x: layers.GlobalAveragePooling1D()(
            layers.MultiHeadAttention(2, 2)(
                *[layers.Embedding(10, 3, mask_zero=True)(x)] * 2
            )
        ),
        quick=False,
    ),
    "masking_gru": _functional(
        np.where(np.abs(SIGNAL) > 0.1, SIGNAL, 0).astype(np.float32),
        lambda x: layers.GRU(3)(layers.Masking(0.0)(x)),
        quick=False,
    ),
}

TEXTS = np.array([["red"], ["blue"], ["green"], ["red"], ["?"]])
NUMBERS = ids(2, high=6)


def _string_lookup() -> Any:
    return layers.StringLookup(vocabulary=["red", "green", "blue"])


def _crossed() -> Row:
    def build() -> Any:
        inputs = {name: tf.keras.Input(1, dtype=tf.int64) for name in ("a", "b")}
        crossed = layers.HashedCrossing(5)((inputs["a"], inputs["b"]))
        embedded = layers.Flatten()(layers.Embedding(5, 2)(crossed))
        return tf.keras.Model(inputs, layers.Dense(CLASSES)(embedded))

    numbers = NUMBERS.astype(np.int64)
    return Row(build, {"a": numbers[:, :1], "b": numbers[:, 1:]}, LABELS)


LOOKUPS = {
    "string_lookup": sequential(
        TEXTS.astype(object), _string_lookup, lambda: layers.Embedding(4, 3)
    ),
    # Keras does not build it in a graph, where TFF's own FedAvg builds models.
    "integer_lookup": sequential(
        NUMBERS.astype(np.int64),
        lambda: layers.IntegerLookup(vocabulary=[1, 2, 3], output_mode="multi_hot"),
        tff=False,
        quick=False,
    ),
    "discretization": sequential(
        SIGNAL[:, 0],
        lambda: layers.Discretization(bin_boundaries=[-0.5, 0.0, 0.5]),
        lambda: layers.Embedding(4, 2),
    ),
    "hashing": sequential(
        NUMBERS.astype(np.int64),
        lambda: layers.Hashing(5),
        lambda: layers.Embedding(5, 2),
        quick=False,
    ),
    "hashed_crossing": _crossed(),
    "category_encoding": sequential(
        NUMBERS, lambda: layers.CategoryEncoding(6, output_mode="count"), quick=False
    ),
    "text_vectorization": sequential(
        np.array([["a b"], ["b"], ["c a a"], ["d"], ["a"]], object),
        lambda: layers.TextVectorization(
            vocabulary=["a", "b", "c"], output_sequence_length=3
        ),
        lambda: layers.Embedding(6, 2),
        quick=False,
    ),
}

TABLE = {**RECURRENT, **ATTENTION, **MASKS, **LOOKUPS}
