"""Tensors that replace the variables of Keras' metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf


class Accumulator:
    """Stands in for a metric's variable: a tensor that assignments replace."""

    def __init__(self, value: np.ndarray):
        self.value_now: Any = value
        self.shape, self.dtype = value.shape, tf.as_dtype(value.dtype)
        self.name, self.trainable, self.aggregation = "accumulator", False, None

    def assign(self, value: Any, *_: Any, **__: Any) -> tf.Tensor:
        self.value_now = tf.reshape(tf.cast(value, self.dtype), self.shape)
        return self.value_now

    def assign_add(self, delta: Any, *_: Any, **__: Any) -> tf.Tensor:
        return self.assign(self.read_value() + tf.cast(delta, self.dtype))

    def assign_sub(self, delta: Any, *_: Any, **__: Any) -> tf.Tensor:
        return self.assign(self.read_value() - tf.cast(delta, self.dtype))

    def read_value(self) -> tf.Tensor:
        return tf.convert_to_tensor(self.value_now)

    def value(self) -> tf.Tensor:
        return self.read_value()

    def __getitem__(self, index: Any) -> tf.Tensor:
        return self.read_value()[index]


def _to_tensor(
    value: Accumulator, dtype: Any = None, name: Any = None, as_ref: bool = False
) -> tf.Tensor:
    del name, as_ref
    tensor = value.read_value()
    return tensor if dtype is None else tf.cast(tensor, dtype)


tf.register_tensor_conversion_function(Accumulator, _to_tensor)
for _operator in ("add", "sub", "mul", "truediv", "pow", "gt", "ge", "lt", "le"):
    for _side in ("", "r"):
        _name = f"__{_side}{_operator}__"
        if hasattr(tf.Tensor, _name):

            def _forwarded(self: Any, other: Any, _name: str = _name) -> Any:
                if isinstance(other, Accumulator):
                    other = other.read_value()
                return getattr(self.read_value(), _name)(other)

            setattr(Accumulator, _name, _forwarded)


def creating(held: list[Accumulator]) -> Any:
    """Creates tensors instead of a metric's variables, and adds them to a list."""

    def create(_: Any, **kwargs: Any) -> Accumulator:
        initial = kwargs["initial_value"]
        # Keras makes variables outside of the graph; the graph needs own constants.
        value = initial() if callable(initial) else initial
        held.append(Accumulator(np.asarray(value)))
        return held[-1]

    return create
