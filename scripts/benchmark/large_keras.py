"""The larger models in Keras, as a user writes them."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from benchmark.large import Large, blocks

_L = tf.keras.layers
_GROUPS = 2


def build(spec: Large) -> tf.keras.Model:
    """A new model; with the workload's initial weights, unless in a graph.

    Inside a graph (TFF's) no weights can be set, and the caller sets them.
    """
    make: dict[str, Any] = {
        "lstm": _lstm,
        "transformer": _transformer,
        "resnet": _resnet,
    }
    inputs, outputs, layers = make[spec.model](spec)
    model = tf.keras.Model(inputs, outputs)
    variables = [v for layer in layers for v in layer.trainable_weights]
    if tf.executing_eagerly():
        values = spec.initial_weights()
        if len(values) != len(variables):
            raise ValueError(f"{len(values)} values for {len(variables)} variables")
        for variable, value in zip(variables, values):
            variable.assign(value.reshape(variable.shape))
    return model


class _Positions(tf.keras.layers.Layer):
    """Adds a weight for each position."""

    def build(self, shape: Any) -> None:
        self.positions = self.add_weight("positions", shape[1:])

    def call(self, x: Any) -> Any:
        return x + self.positions


def _lstm(spec: Large) -> tuple[Any, Any, list[Any]]:
    layers: list[Any] = [_L.Embedding(spec.num_classes, spec.embedding)]
    for number in range(spec.layers):
        whole = spec.every_step or number < spec.layers - 1
        layers.append(_L.LSTM(spec.width, return_sequences=whole))
    if spec.projection:
        layers.append(_L.Dense(spec.projection))
    layers.append(_L.Dense(spec.num_classes))
    inputs = x = tf.keras.Input([spec.length], dtype=tf.int32)
    for layer in layers:
        x = layer(x)
    return inputs, x, layers


def _transformer(spec: Large) -> tuple[Any, Any, list[Any]]:
    layers: list[Any] = []

    def used(layer: Any) -> Any:
        layers.append(layer)
        return layer

    def norm() -> Any:
        return used(_L.LayerNormalization(epsilon=1e-5))

    inputs = tf.keras.Input([spec.length], dtype=tf.int32)
    x = used(_L.Embedding(spec.num_classes, spec.width))(inputs)
    x = used(_Positions())(x)
    for _ in range(spec.layers):
        normed = norm()(x)
        attention = _L.MultiHeadAttention(spec.heads, spec.width // spec.heads)
        x = x + used(attention)(normed, normed, use_causal_mask=True)
        normed = norm()(x)
        wide = used(_L.Dense(4 * spec.width, activation="relu"))(normed)
        x = x + used(_L.Dense(spec.width))(wide)
    normed = norm()(x)
    return inputs, used(_L.Dense(spec.num_classes))(normed), layers


def _resnet(spec: Large) -> tuple[Any, Any, list[Any]]:
    layers: list[Any] = []

    def used(layer: Any) -> Any:
        layers.append(layer)
        return layer

    def convolved(x: Any, channels: int, side: int, stride: int = 1) -> Any:
        convolution = _L.Conv2D(
            channels, side, strides=stride, padding="same", use_bias=False
        )
        return used(convolution)(x)

    def normed(x: Any) -> Any:
        return used(_L.GroupNormalization(_GROUPS))(x)

    inputs = tf.keras.Input([spec.length, spec.length, 3])
    x = _L.ReLU()(normed(convolved(inputs, spec.width, 3)))
    for block in blocks(spec):
        inner = convolved(x, block.channels, 3, block.stride)
        inner = convolved(_L.ReLU()(normed(inner)), block.channels, 3)
        skip = convolved(x, block.channels, 1, block.stride) if block.projects else x
        inner = normed(inner)
        x = _L.ReLU()(inner + (normed(skip) if block.projects else skip))
    x = _L.GlobalAveragePooling2D()(x)
    return inputs, used(_L.Dense(spec.num_classes))(x), layers
