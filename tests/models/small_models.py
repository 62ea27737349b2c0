"""Small Keras models that several tests take."""

import tensorflow as tf

L = tf.keras.layers


def sequential(*layers, shape=(6,), dtype=None):
    return tf.keras.Sequential([L.Input(shape, dtype=dtype), *layers])


class Subclassed(tf.keras.Model):
    """Adds a loss and a metric in its call, and holds batch normalization."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = L.Dense(3), L.BatchNormalization()
        self.last = L.Dense(2)

    def call(self, x, training=None):
        hidden = self.norm(self.first(x), training=training)
        self.add_loss(tf.reduce_mean(hidden**2))
        self.add_metric(tf.reduce_mean(hidden), name="mean")
        return self.last(hidden)
