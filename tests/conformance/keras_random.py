"""Keras' random layers, whose numbers are drawn from our seeds."""

from __future__ import annotations

import tensorflow as tf
from keras_layers import sequential
from keras_row import IMAGE, SIGNAL, VECTOR, VOLUME

layers = tf.keras.layers

NOISE = {
    "dropout": sequential(
        VECTOR, lambda: layers.Dropout(0.5), random=True, represents=True
    ),
    "alpha_dropout": sequential(
        VECTOR, lambda: layers.AlphaDropout(0.3), random=True, quick=False
    ),
    "spatial_dropout_1d": sequential(
        SIGNAL, lambda: layers.SpatialDropout1D(0.5), random=True, quick=False
    ),
    "spatial_dropout_2d": sequential(
        IMAGE, lambda: layers.SpatialDropout2D(0.5), random=True, quick=False
    ),
    "spatial_dropout_3d": sequential(
        VOLUME, lambda: layers.SpatialDropout3D(0.5), random=True, quick=False
    ),
    "gaussian_noise": sequential(
        VECTOR, lambda: layers.GaussianNoise(0.5), random=True, quick=False
    ),
    "gaussian_dropout": sequential(
        VECTOR, lambda: layers.GaussianDropout(0.3), random=True, quick=False
    ),
    # Both of the real examples of a padded batch.
    "dropout_and_statistics": sequential(
        IMAGE,
        lambda: layers.BatchNormalization(momentum=0.5),
        lambda: layers.Dropout(0.5),
        random=True,
        non_trainable="averaged",
        quick=False,
    ),
    "recurrent_dropout_lstm": sequential(
        SIGNAL,
        lambda: layers.LSTM(3, dropout=0.4, recurrent_dropout=0.4),
        random=True,
    ),
    "recurrent_dropout_gru": sequential(
        SIGNAL,
        lambda: layers.Bidirectional(layers.GRU(3, recurrent_dropout=0.5)),
        random=True,
        quick=False,
    ),
    "attention_dropout": sequential(
        SIGNAL, lambda: _SelfAttention(), random=True, quick=False
    ),
    "own_random_layer": sequential(
        VECTOR, lambda: layers.Dense(3), lambda: _Shaken(), random=True
    ),
    "seeded_dropout": sequential(
        VECTOR, lambda: layers.Dropout(0.5, seed=3), random=True, quick=False
    ),
}


class _Shaken(tf.keras.layers.Layer):
    """Draws from TensorFlow's own generator, which has no seed here."""

    def call(self, x, training=None):
        return x + tf.random.normal(tf.shape(x)) if training else x


class _SelfAttention(tf.keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.attention = layers.MultiHeadAttention(2, 3, dropout=0.5)

    def call(self, x, training=None):
        return self.attention(x, x, training=training)


AUGMENTATION = {
    "random_flip": sequential(IMAGE, lambda: layers.RandomFlip(), random=True),
    "random_rotation": sequential(
        IMAGE, lambda: layers.RandomRotation(0.4), random=True, quick=False
    ),
    "random_zoom": sequential(
        IMAGE, lambda: layers.RandomZoom(0.4), random=True, quick=False
    ),
    "random_translation": sequential(
        IMAGE, lambda: layers.RandomTranslation(0.4, 0.4), random=True, quick=False
    ),
    "random_contrast": sequential(
        IMAGE, lambda: layers.RandomContrast(0.5), random=True, quick=False
    ),
    "random_brightness": sequential(
        IMAGE,
        lambda: layers.RandomBrightness(0.5, value_range=(-1, 1)),
        random=True,
        quick=False,
    ),
    "random_crop": sequential(
        IMAGE, lambda: layers.RandomCrop(4, 4), random=True, quick=False
    ),
    "random_height_and_width": sequential(
        IMAGE,
        lambda: layers.RandomHeight(0.5),
        lambda: layers.RandomWidth(0.5),
        lambda: layers.Resizing(4, 4),
        random=True,
        quick=False,
    ),
    "random_stack": sequential(
        IMAGE,
        lambda: layers.RandomFlip("horizontal"),
        lambda: layers.RandomRotation(0.1),
        lambda: layers.Conv2D(3, 3),
        lambda: layers.Dropout(0.3),
        random=True,
    ),
}

TABLE = {**NOISE, **AUGMENTATION}
