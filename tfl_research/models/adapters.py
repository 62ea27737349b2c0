"""Low-rank adapters on a frozen model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Optional

import tensorflow as tf

from tfl_research.models.modules import modules_of

_Layers = tf.keras.layers
# The name of the adapted weight, by the layer's class.
_ADAPTED = {
    _Layers.Dense: "kernel",
    _Layers.EinsumDense: "kernel",
    _Layers.Embedding: "embeddings",
    _Layers.Conv1D: "kernel",
    _Layers.Conv2D: "kernel",
}


class Adapters(tf.keras.layers.Layer):
    """The adapters of a model, A and B of each adapted layer.

    Args:
      adapted: the layers, whose weights are W `[rows, columns]` after a reshape.
      rank: r, number of columns of A and of rows of B.
      alpha: the factor in W + alpha / r A B, which the layer uses instead of W.
    """

    def __init__(self, adapted: Sequence[Any], rank: int, alpha: float):
        super().__init__(name="lora")
        self._adapted = [[layer, _ADAPTED[_kind(layer)]] for layer in adapted]
        self._scale = alpha / rank
        self._factors = []
        for index, (layer, name) in enumerate(self._adapted):
            rows, columns = _matrix(layer, vars(layer)[name].shape.as_list())
            a = self.add_weight(
                f"a_{index}",
                [rows, rank],
                initializer=tf.keras.initializers.RandomNormal(
                    stddev=1.0 / math.sqrt(rows)
                ),
            )
            b = self.add_weight(f"b_{index}", [rank, columns], initializer="zeros")
            self._factors.append([a, b])
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Returns the inputs; the adapters act inside the layers that they adapt."""
        return inputs

    def adapt(self, model: Any) -> None:
        """Makes a model's layers use the adapted weights whenever it is called.

        This also holds for layers that use a weight of another layer (tied weights).
        """
        model.call = self._adapted_call(model.call)

    def merge(self) -> None:
        """Adds the adapters to the layers' own weights."""
        for index, (layer, name) in enumerate(self._adapted):
            vars(layer)[name].assign_add(self._change(index, vars(layer)[name]))

    def _change(self, index: int, weight: Any) -> tf.Tensor:
        a, b = self._factors[index]
        change = tf.reshape(tf.matmul(a, b), weight.shape)
        return self._scale * change

    def _adapted_call(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def adapted(*args: Any, **kwargs: Any) -> Any:
            weights = [vars(layer)[name] for layer, name in self._adapted]
            try:
                for index, (layer, name) in enumerate(self._adapted):
                    weight = weights[index]
                    value = tf.convert_to_tensor(weight) + self._change(index, weight)
                    # A layer in mixed precision reads its weight in half precision.
                    vars(layer)[name] = tf.cast(value, layer.compute_dtype)
                return call(*args, **kwargs)
            finally:
                for (layer, name), weight in zip(self._adapted, weights):
                    vars(layer)[name] = weight

        return adapted


def lora(
    build_model: Callable[[], Any],
    rank: int,
    *,
    alpha: Optional[float] = None,
    layers: Optional[Callable[[Any], bool]] = None,
    trainable: Sequence[str] = (),
) -> Callable[[], Any]:
    """Returns a builder of the same model with low-rank adapters on frozen weights.

    Hu et al. 2021 (arXiv 2106.09685), section 4.1: a layer uses W + alpha / r A B
    instead of its weight W. A has r columns and begins at normal numbers. B begins at
    zero, so that the model begins as the base model. Only A and B are trained and sent.
    Runs export the base model with merged weights.

    Args:
      build_model: makes a new Keras model, with the pretrained weights.
      rank: r, at least 1.
      alpha: alpha; r by default.
      layers: which layers get adapters, of Dense, EinsumDense (in attention layers
        too), Embedding, Conv1D and Conv2D; by default Dense and EinsumDense.
      trainable: names of layers that are trained without adapters, such as a new head.

    Raises:
      ValueError: the rank is below 1. The builder raises it if the model has no such
        layers or has adapters already, if a layer's weights do not exist yet or are
        shared by two layers, or if `trainable` has an unknown name.

    Example:
      >>> import tensorflow as tf
      >>> def build_model():
      ...     layers = [tf.keras.Input([8]), tf.keras.layers.Dense(6)]
      ...     return tf.keras.Sequential(layers)
      >>> adapted = models.lora(build_model, rank=2)()
      >>> [w.shape.as_list() for w in adapted.trainable_weights]
      [[8, 2], [2, 6]]
    """
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")

    def build() -> Any:
        model = build_model()
        if not model.built:
            raise ValueError(
                "the model is not built yet, so it has no weights for adapters; "
                "expected a model that was built: give a Sequential an Input, or call "
                "the model once in the function that makes it"
            )
        if isinstance(model, tf.keras.Sequential):
            # A sequential model does not track further layers.
            model = tf.keras.Model(model.inputs, model.outputs)
        found = [m for m in modules_of(model) if isinstance(m, _Layers.Layer)]
        names = {layer.name for layer in found}
        for name in trainable:
            if name not in names:
                raise ValueError(
                    f"trainable: the model has no layer {name!r}; expected one of "
                    f"{', '.join(sorted(names))}"
                )
        adapted = [
            layer
            for layer in found
            if _kind(layer) in _ADAPTED
            and layer.name not in trainable
            and (
                isinstance(layer, (_Layers.Dense, _Layers.EinsumDense))
                if layers is None
                else layers(layer)
            )
        ]
        if not adapted:
            raise ValueError(
                "`layers` chooses no layer that can have adapters; expected at least "
                "one Dense, EinsumDense, Embedding, Conv1D or Conv2D layer"
            )
        _check_weights(found, adapted)
        inner = _inside_trainable(found, trainable)
        for layer in found:
            if id(layer) not in inner and not _contains(layer, inner):
                layer.trainable = False
        adapters = Adapters(adapted, rank, rank if alpha is None else alpha)
        model.lora = adapters
        adapters.adapt(model)
        return model

    return build


def merged(model: Any) -> Any:
    """Returns the model without adapters, with the adapters' changes in its weights.

    The function changes the model, and models with adapters inside the model. A model
    without adapters is returned unchanged.
    """
    for part in [model, *modules_of(model)]:
        adapters = vars(part).get("lora")
        if isinstance(adapters, Adapters):
            adapters.merge()
            del part.call
            del part.lora
    return model


def _check_weights(layers: Sequence[Any], adapted: Sequence[Any]) -> None:
    """Checks that adapters can replace the weights everywhere.

    Raises:
      ValueError: the model has adapters already, or two layers share a weight.
    """
    if any(isinstance(layer, Adapters) for layer in layers):
        raise ValueError(
            "the model has adapters already; expected a model without adapters"
        )
    for layer in adapted:
        weight = vars(layer)[_ADAPTED[_kind(layer)]]
        for other in layers:
            own = [*other._trainable_weights, *other._non_trainable_weights]
            if other is not layer and any(w is weight for w in own):
                raise ValueError(
                    f"layers {layer.name!r} and {other.name!r} share a weight, and "
                    "adapters would change it in only one of them; expected that a "
                    "layer reads the weight from the other layer when it is called"
                )


def _kind(layer: Any) -> Any:
    """The class in `_ADAPTED` of a layer; its own class if there is none."""
    return next((k for k in _ADAPTED if isinstance(layer, k)), type(layer))


def _inside_trainable(layers: Sequence[Any], names: Sequence[str]) -> set[int]:
    """Ids of the layers of these names, and of the layers inside them."""
    chosen = [layer for layer in layers if layer.name in names]
    return {id(m) for layer in chosen for m in (layer, *modules_of(layer))}


def _contains(layer: Any, ids: set[int]) -> bool:
    return any(id(module) in ids for module in modules_of(layer))


def _matrix(layer: Any, shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a weight as a matrix from inputs to outputs."""
    inputs = len(shape) - 1
    if isinstance(layer, _Layers.EinsumDense):
        weight = layer.equation.split("->")[0].split(",")[1]
        result = layer.equation.split("->")[1]
        inputs = sum(axis not in result for axis in weight)
    return math.prod(shape[:inputs]), math.prod(shape[inputs:])
