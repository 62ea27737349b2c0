"""Keras models as pure functions of their weights."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow as tf

from tfl_research import stateless_random


class Forward(NamedTuple):
    """The result of a model for a batch of inputs.

    Attributes:
      predictions: `[batch, ...]`, the model's output, or a structure of outputs.
      penalty: float32 `[]`, the sum of the regularization losses and of what the model
        adds with `add_loss`; 0 where there are none.
      state: the non-trainable weights after the batch; unchanged outside of training.
    """

    predictions: Any
    penalty: tf.Tensor
    state: tuple[tf.Tensor, ...]


@dataclasses.dataclass(frozen=True)
class FunctionalModel:
    """A model without variables.

    Attributes:
      initial_weights: trainable weights, NumPy arrays, in the order of
        `trainable_variables`.
      forward: (weights, state, x `[batch, ...]` or a dict, training, seed int32 `[2]`)
        -> `Forward`. Pure: dropout and other random layers draw from `seed` alone.
      is_random: whether `forward` in training depends on its seed.
      initial_state: non-trainable weights, NumPy arrays, in the order of
        `non_trainable_variables`.
    """

    initial_weights: tuple[np.ndarray, ...]
    forward: Callable[
        [Sequence[tf.Tensor], Sequence[tf.Tensor], Any, bool, tf.Tensor], Forward
    ]
    is_random: bool = True
    initial_state: tuple[np.ndarray, ...] = ()

    def predict(
        self, weights: Sequence[tf.Tensor], state: Sequence[tf.Tensor], x: Any
    ) -> Any:
        """The predictions outside of training, `[batch, ...]` or a structure."""
        seed = tf.zeros([2], tf.int32)
        return self.forward(weights, state, x, False, seed).predictions

    @property
    def weight_specs(self) -> tuple[tf.TensorSpec, ...]:
        """Shape and dtype of every weight."""
        return tuple(tf.TensorSpec(w.shape, w.dtype) for w in self.initial_weights)


def initialized(
    build_model: Callable[[], Any], seed: int, created: Optional[list[Any]] = None
) -> Any:
    """A new Keras model whose initial weights are a pure function of `seed`.

    Variables are appended to `created`, if given, in the order of creation.

    The process-wide generators of Python and NumPy do not change. TensorFlow's global
    seed is set, since TensorFlow cannot restore an earlier seed.
    """

    def record(create: Callable[..., Any], **kwargs: Any) -> Any:
        variable = create(**kwargs)
        if created is not None:
            created.append(variable)
        return variable

    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        tf.keras.utils.set_random_seed(seed)
        with tf.variable_creator_scope(record):
            return build_model()
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


class _StatelessGenerator:
    """Replaces Keras' random generator; every draw is a pure function of a seed."""

    def __init__(self, seed: tf.Tensor, layer: int):
        self._seed = seed
        self._layer = layer
        self._draws = 0

    def _next_seed(self) -> tf.Tensor:
        draw = self._layer * 1000 + self._draws
        self._draws += 1
        return stateless_random.fold_in(self._seed, draw)

    def random_uniform(
        self,
        shape: Any,
        minval: float = 0.0,
        maxval: Any = None,
        dtype: Any = None,
        nonce: Any = None,
    ) -> tf.Tensor:
        del nonce
        high = 1.0 if maxval is None else maxval
        unit = stateless_random.uniform(shape, self._next_seed())
        return tf.cast(minval + (high - minval) * unit, dtype or tf.float32)

    def random_normal(
        self,
        shape: Any,
        mean: float = 0.0,
        stddev: float = 1.0,
        dtype: Any = None,
        nonce: Any = None,
    ) -> tf.Tensor:
        del nonce
        unit = stateless_random.normal(shape, self._next_seed())
        return tf.cast(mean + stddev * unit, dtype or tf.float32)

    def dropout(
        self, inputs: tf.Tensor, rate: float, noise_shape: Any = None
    ) -> tf.Tensor:
        return stateless_random.dropout(inputs, rate, self._next_seed(), noise_shape)


def _random_layers(model: Any) -> list[Any]:
    return [m for m in model.submodules if hasattr(m, "_random_generator")]


def from_keras(
    build_model: Callable[[], Any], x_spec: tf.TensorSpec, *, seed: int = 0
) -> FunctionalModel:
    """Wraps a Keras model builder as a pure function of its weights.

    The builder runs again to trace the model, and gets tensors in place of variables.
    So the builder must create the same weights in the same order each time. Call this
    function outside of graphs.

    Args:
      build_model: makes a new Keras model (functional, sequential or subclassed
        and built).
      x_spec: a batch of inputs, `[batch, ...]`; the batch size may be None.
      seed: seed of the initial weights.

    Raises:
      ValueError: the model has non-trainable weights (the running statistics of batch
        normalization), which federated averaging would neither train nor average.
        Group and layer normalization have no such weights.
    """
    created: list[Any] = []
    model = initialized(build_model, seed, created)
    if not model.built:
        raise ValueError(
            "the model has no weights yet; expected a built model: give its first "
            "layer an input shape"
        )
    if model.non_trainable_weights:
        names = ", ".join(w.name for w in model.non_trainable_weights[:3])
        raise ValueError(
            f"the model has non-trainable weights ({names}); expected none, because "
            "clients' running statistics are not averaged: use GroupNormalization "
            "or LayerNormalization in place of BatchNormalization"
        )
    trainable = model.trainable_weights
    position = {id(w): index for index, w in enumerate(trainable)}
    # A model with branches can list weights in another order than it created them.
    creation_order = [position[id(w)] for w in created if id(w) in position]
    shapes = [tuple(w.shape) for w in trainable]

    @tf.function
    def rebuilt_forward(
        weights: Sequence[tf.Tensor], x: tf.Tensor, training: bool, seed: tf.Tensor
    ) -> tf.Tensor:
        remaining = [(weights[index], shapes[index]) for index in creation_order]

        def hand_out(_: Any, **kwargs: Any) -> tf.Tensor:
            if not remaining:
                raise ValueError("the model builder creates more weights when rebuilt")
            weight, shape = remaining.pop(0)
            wanted = kwargs.get("shape")
            if wanted is not None and tuple(tf.TensorShape(wanted)) != shape:
                raise ValueError(
                    f"the model builder asked for a weight of shape {wanted} where it "
                    f"first created one of {shape}; expected a deterministic order"
                )
            return weight

        with tf.variable_creator_scope(hand_out):
            rebuilt = build_model()
        if rebuilt is model:
            raise ValueError(
                "the model builder returns the same model each time; expected a new one"
            )
        for index, layer in enumerate(_random_layers(rebuilt)):
            # Keras' generators draw from the state of the process, which a resumed
            # round or another runtime does not repeat.
            layer._random_generator = _StatelessGenerator(seed, index)
        return rebuilt(x, training=training)

    # The model is traced here. Inside a TFF computation, Keras would build its layers
    # for a TensorFlow 1 graph, which fails for many layers.
    traced = {
        training: rebuilt_forward.get_concrete_function(
            [tf.TensorSpec(shape, w.dtype) for shape, w in zip(shapes, trainable)],
            x_spec,
            training,
            tf.TensorSpec([2], tf.int32),
        )
        for training in (True, False)
    }

    def forward(
        weights: Sequence[tf.Tensor],
        state: Sequence[tf.Tensor],
        x: Any,
        training: bool,
        seed: tf.Tensor,
    ) -> Forward:
        predictions = traced[training](*weights, x, seed)
        return Forward(predictions, tf.constant(0.0), tuple(state))

    return FunctionalModel(
        tuple(w.numpy() for w in trainable),
        forward,
        is_random=bool(_random_layers(model)),
    )
