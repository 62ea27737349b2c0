"""Keras image classifiers; none keeps running statistics."""

from __future__ import annotations

import tensorflow as tf

_Layers = tf.keras.layers
# Groups of every normalisation in the residual network, as in Reddi et al. 2020.
_GROUPS = 2


def mlp(input_size: int, num_classes: int, hidden_units: int = 128) -> tf.keras.Model:
    """One hidden layer of rectified linear units, on flat `[input_size]` images."""
    return tf.keras.Sequential(
        [
            _Layers.Input((input_size,)),
            _Layers.Dense(hidden_units, activation="relu"),
            _Layers.Dense(num_classes),
        ]
    )


def mcmahan_cnn(num_classes: int = 10) -> tf.keras.Model:
    """The MNIST CNN of McMahan et al. 2017 (arXiv 1602.05629, section 3).

    Two 5x5 convolutions (32 and 64 channels, each followed by 2x2 max pooling) and
    a dense layer of 512 units; 1,663,370 weights with 10 classes. Images are
    `[28, 28, 1]`.
    """
    return tf.keras.Sequential(
        [
            _Layers.Input((28, 28, 1)),
            _Layers.Conv2D(32, 5, padding="same", activation="relu"),
            _Layers.MaxPool2D(2),
            _Layers.Conv2D(64, 5, padding="same", activation="relu"),
            _Layers.MaxPool2D(2),
            _Layers.Flatten(),
            _Layers.Dense(512, activation="relu"),
            _Layers.Dense(num_classes),
        ]
    )


def emnist_cnn(num_classes: int = 62) -> tf.keras.Model:
    """The EMNIST CNN of Reddi et al. 2020 (arXiv 2003.00295), with dropout.

    1,206,590 weights with 62 classes. Images are `[28, 28, 1]`.
    """
    return tf.keras.Sequential(
        [
            _Layers.Input((28, 28, 1)),
            _Layers.Conv2D(32, 3, activation="relu"),
            _Layers.Conv2D(64, 3, activation="relu"),
            _Layers.MaxPool2D(2),
            _Layers.Dropout(0.25),
            _Layers.Flatten(),
            _Layers.Dense(128, activation="relu"),
            _Layers.Dropout(0.5),
            _Layers.Dense(num_classes),
        ]
    )


def _residual_block(x: tf.Tensor, channels: int, stride: int) -> tf.Tensor:
    """Two 3x3 convolutions and a skip connection (He et al. 2016, figure 2)."""
    # Layers are made in the order in which Keras lists a functional model's
    # weights, by distance from the output, so that weights are created in the
    # order of `trainable_weights`.
    project = stride != 1 or x.shape[-1] != channels
    skip = x
    x = _Layers.Conv2D(channels, 3, strides=stride, padding="same", use_bias=False)(x)
    x = _Layers.ReLU()(_Layers.GroupNormalization(_GROUPS)(x))
    x = _Layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
    if project:
        skip = _Layers.Conv2D(channels, 1, strides=stride, use_bias=False)(skip)
    x = _Layers.GroupNormalization(_GROUPS)(x)
    if project:
        skip = _Layers.GroupNormalization(_GROUPS)(skip)
    return _Layers.ReLU()(_Layers.Add()([x, skip]))


def group_norm_resnet(
    num_classes: int = 100, blocks_per_stage: int = 1
) -> tf.keras.Model:
    """A residual network with group normalisation instead of batch normalisation.

    Group normalisation keeps no running statistics, which clients could not
    average (Hsieh et al. 2020, arXiv 1910.00189); two groups as in Reddi et al.
    2020, whose ResNet-18 is four stages of two blocks from 64 channels up, 11.2
    million weights. This one has three stages of 32, 64 and 128 channels, to fit
    CPUs. Images are `[32, 32, 3]`.
    """
    inputs = _Layers.Input((32, 32, 3))
    x = _Layers.Conv2D(32, 3, padding="same", use_bias=False)(inputs)
    x = _Layers.ReLU()(_Layers.GroupNormalization(_GROUPS)(x))
    for stage, channels in enumerate((32, 64, 128)):
        for block in range(blocks_per_stage):
            stride = 2 if stage > 0 and block == 0 else 1
            x = _residual_block(x, channels, stride)
    x = _Layers.GlobalAveragePooling2D()(x)
    return tf.keras.Model(inputs, _Layers.Dense(num_classes)(x))
