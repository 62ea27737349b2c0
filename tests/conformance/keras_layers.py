"""Keras' layers on vectors, signals, images and volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from keras_row import (
    CLASSES,
    IMAGE,
    LABELS,
    SIGNAL,
    TRUTHS,
    VECTOR,
    VOLUME,
    Row,
    crossentropy,
    reals,
)

layers = tf.keras.layers


def sequential(x: np.ndarray, *middle: Any, **more: Any) -> Row:
    """A stack of layers with a head of three logits; layers are made by functions."""

    def build() -> Any:
        return tf.keras.Sequential(
            [
                layers.InputLayer(x.shape[1:], dtype=x.dtype),
                *(make() for make in middle),
                layers.Flatten(),
                layers.Dense(CLASSES),
            ]
        )

    return Row(build, x, LABELS, **more)


def on(x: np.ndarray, kind: str, *arguments: Any, **more: Any) -> Row:
    """One layer of a kind, with a head of three logits."""
    quick = more.pop("quick", True)
    make = getattr(layers, kind)
    return sequential(x, lambda: make(*arguments, **more), quick=quick)


def _headed(units: int, activation: str, y: np.ndarray, loss: Any) -> Row:
    def build() -> Any:
        return tf.keras.Sequential(
            [
                layers.InputLayer(VECTOR.shape[1:]),
                layers.Dense(5, activation="relu"),
                layers.Dense(units, activation=activation),
            ]
        )

    return Row(build, VECTOR, y, loss, represents=activation == "softmax")


HEADS = {
    "head_softmax": _headed(CLASSES, "softmax", LABELS, crossentropy(False)),
    "head_logits": _headed(CLASSES, "linear", LABELS, crossentropy()),
    "head_sigmoid": _headed(
        1, "sigmoid", TRUTHS, lambda: tf.keras.losses.BinaryCrossentropy()
    ),
    "head_one_logit": _headed(
        1, "linear", TRUTHS, lambda: tf.keras.losses.BinaryCrossentropy(True)
    ),
}

DENSE = {
    "dense": on(VECTOR, "Dense", 5, activation="tanh"),
    "dense_without_bias": on(VECTOR, "Dense", 5, use_bias=False, quick=False),
    "dense_on_axis": on(SIGNAL, "Dense", 5, activation="gelu", quick=False),
    "einsum_dense": on(SIGNAL, "EinsumDense", "abc,cd->abd", (None, 4), bias_axes="d"),
}

CONVOLUTIONS = {
    "conv_1d": on(
        SIGNAL, "Conv1D", 3, 2, padding="causal", activation="relu", quick=False
    ),
    "conv_2d": on(IMAGE, "Conv2D", 3, 3, strides=2, activation="relu"),
    "conv_2d_dilated": on(
        IMAGE, "Conv2D", 3, 2, dilation_rate=2, padding="same", quick=False
    ),
    "conv_3d": on(VOLUME, "Conv3D", 2, 2),
    "separable_conv_1d": on(
        SIGNAL, "SeparableConv1D", 3, 2, depth_multiplier=2, quick=False
    ),
    "separable_conv_2d": on(IMAGE, "SeparableConv2D", 3, 3, quick=False),
    "depthwise_conv_1d": on(SIGNAL, "DepthwiseConv1D", 2, quick=False),
    "depthwise_conv_2d": on(IMAGE, "DepthwiseConv2D", 3, padding="same", quick=False),
    "conv_1d_transpose": on(SIGNAL, "Conv1DTranspose", 2, 3, strides=2, quick=False),
    "conv_2d_transpose": on(
        IMAGE, "Conv2DTranspose", 2, 3, padding="same", quick=False
    ),
    "conv_3d_transpose": on(VOLUME, "Conv3DTranspose", 2, 2, quick=False),
    "locally_connected_1d": on(SIGNAL, "LocallyConnected1D", 2, 3, quick=False),
    "locally_connected_2d": on(IMAGE, "LocallyConnected2D", 2, 3, quick=False),
}


def _pooled(x: np.ndarray, suffix: str, quick: bool = True) -> Row:
    def build() -> Any:
        start = tf.keras.Input(x.shape[1:])
        before = layers.Dense(3)(start)
        parts = [
            layers.Flatten()(getattr(layers, kind + suffix)(*size)(before))
            for kind, size in (
                ("MaxPooling", (2,)),
                ("AveragePooling", (2,)),
                ("GlobalMaxPooling", ()),
                ("GlobalAveragePooling", ()),
            )
        ]
        return tf.keras.Model(start, layers.Dense(CLASSES)(tf.concat(parts, axis=-1)))

    return Row(build, x, LABELS, quick=quick)


POOLING = {
    "pooling_1d": _pooled(SIGNAL, "1D", quick=False),
    "pooling_2d": _pooled(IMAGE, "2D"),
    "pooling_3d": _pooled(VOLUME, "3D", quick=False),
}

SHAPES = {
    "flatten_reshape": sequential(
        SIGNAL,
        lambda: layers.Reshape((3, 6)),
        lambda: layers.Permute((2, 1)),
        lambda: layers.Dense(2),
        quick=False,
    ),
    "repeat_vector": sequential(
        VECTOR, lambda: layers.RepeatVector(3), lambda: layers.Conv1D(2, 2), quick=False
    ),
    "pad_and_crop_1d": sequential(
        SIGNAL,
        lambda: layers.ZeroPadding1D(2),
        lambda: layers.UpSampling1D(2),
        lambda: layers.Cropping1D(3),
        lambda: layers.Conv1D(2, 2),
        quick=False,
    ),
    "pad_and_crop_2d": sequential(
        IMAGE,
        lambda: layers.ZeroPadding2D(1),
        lambda: layers.UpSampling2D(2, interpolation="bilinear"),
        lambda: layers.Cropping2D(3),
        lambda: layers.Conv2D(2, 2),
        quick=False,
    ),
    "pad_and_crop_3d": sequential(
        VOLUME,
        lambda: layers.ZeroPadding3D(1),
        lambda: layers.UpSampling3D(1),
        lambda: layers.Cropping3D(1),
        lambda: layers.Conv3D(2, 2),
        quick=False,
    ),
    "resizing_and_rescaling": sequential(
        IMAGE,
        lambda: layers.Resizing(4, 4),
        lambda: layers.CenterCrop(3, 3),
        lambda: layers.Rescaling(0.5, offset=1.0),
        lambda: layers.Conv2D(2, 2),
    ),
}


def _activated(*makers: Any, **more: Any) -> Row:
    return sequential(
        VECTOR,
        *(step for make in makers for step in (lambda: layers.Dense(4), make)),
        **more,
    )


ACTIVATIONS = {
    "prelu": on(SIGNAL, "PReLU", alpha_initializer="ones", shared_axes=[1]),
    "leaky_relu_and_elu": _activated(
        lambda: layers.LeakyReLU(0.2), lambda: layers.ELU(0.5), quick=False
    ),
    "relu_and_thresholded_relu": _activated(
        lambda: layers.ReLU(max_value=2.0, negative_slope=0.1),
        lambda: layers.ThresholdedReLU(0.1),
        quick=False,
    ),
    "softmax_layer": _activated(lambda: layers.Softmax(), quick=False),
    "activation_strings": _activated(
        lambda: layers.Activation("swish"),
        lambda: layers.Activation("selu"),
        lambda: layers.Activation("hard_sigmoid"),
        lambda: layers.Activation("softplus"),
        quick=False,
    ),
}


def _adapted() -> Any:
    layer = layers.Normalization(axis=-1)
    layer.adapt(3 * reals(4, seed=9) + 2)
    return layer


def _statistics(policy: str, **more: Any) -> Row:
    return sequential(
        VECTOR,
        lambda: layers.Dense(4),
        lambda: layers.BatchNormalization(momentum=0.8),
        lambda: layers.ReLU(),
        non_trainable=policy,
        **more,
    )


def _frozen(make: Any) -> Any:
    layer = make()
    layer.trainable = False
    return layer


NORMALIZATION = {
    "batch_normalization_averaged": _statistics("averaged", represents=True),
    "batch_normalization_local": _statistics("local"),
    "batch_normalization_2d": sequential(
        IMAGE,
        lambda: layers.Conv2D(2, 2),
        lambda: layers.BatchNormalization(),
        non_trainable="averaged",
        quick=False,
    ),
    "batch_normalization_frozen": sequential(
        VECTOR,
        lambda: layers.Dense(4),
        lambda: _frozen(
            lambda: layers.BatchNormalization(
                moving_mean_initializer="ones", gamma_initializer="ones"
            )
        ),
    ),
    "layer_normalization": on(SIGNAL, "LayerNormalization", quick=False),
    "group_normalization": sequential(
        IMAGE,
        lambda: layers.Conv2D(4, 2),
        lambda: layers.GroupNormalization(2),
    ),
    "unit_normalization": sequential(
        VECTOR, lambda: layers.Dense(4), lambda: layers.UnitNormalization(), quick=False
    ),
    # Keras adapts no layer within TFF's graphs.
    "adapted_normalization": sequential(VECTOR, _adapted, tff=False),
    "given_normalization": on(
        VECTOR, "Normalization", mean=0.5, variance=2.0, quick=False
    ),
}

TABLE = {
    **HEADS,
    **DENSE,
    **CONVOLUTIONS,
    **POOLING,
    **SHAPES,
    **ACTIVATIONS,
    **NORMALIZATION,
}
