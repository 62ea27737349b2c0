"""Makes the draws of random layers pure functions of a seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from tfl_research import _tff_compat, stateless_random


class Draws:
    """Counts the draws of a traced model, and gives each draw its own seed.

    Attributes:
      count: number of draws so far.
    """

    def __init__(self, seed: tf.Tensor):
        self._seed = seed
        self._graph = tf.compat.v1.get_default_graph()
        self.count = 0

    def seed_of(self, place: int, who: str, same_in_loops: bool = False) -> tf.Tensor:
        """Returns the seed of the draw number `place`, int32 `[2]`.

        Args:
          place: number of the draw.
          who: the layer or the function, for messages.
          same_in_loops: whether every pass of a loop should draw the same numbers.

        Raises:
          ValueError: the draw is inside a loop, and all passes would draw the same
            numbers.
        """
        self.count += 1
        if not same_in_loops and _tff_compat.is_inside_loop(self._graph):
            raise ValueError(
                f"{who} draws random numbers inside a loop, and every pass would draw "
                "the same numbers; expected draws outside of loops (dropout= and "
                "recurrent_dropout= of Keras' own recurrent layers are)"
            )
        return stateless_random.fold_in(self._seed, place)

    def gave(self, seed: tf.Tensor) -> bool:
        """Whether a seed depends on the seed of all draws.

        A value that a loop or a branch gets from outside also counts.
        """
        pending, seen = [seed], set()
        while pending:
            tensor = pending.pop()
            if tensor is self._seed:
                return True
            if tensor.graph is not self._graph and tensor.op.type == "Placeholder":
                return True
            if id(tensor.op) not in seen:
                seen.add(id(tensor.op))
                pending.extend(tensor.op.inputs)
        return False

    def next_seed(self, who: str) -> tf.Tensor:
        """Returns a seed for a draw that no Keras layer makes, int32 `[2]`."""
        return self.seed_of(-1 - self.count, who)


class _Generator:
    """Replaces a layer's random generator; every draw is a pure function of a seed."""

    def __init__(self, draws: Draws, index: int, layer: Any):
        self._draws = draws
        self._layer = index
        self._name = f"layer {layer.name!r}"
        # Recurrent cells drop the same units at every time step, as Keras documents
        # and does outside of graphs (Gal and Ghahramani 2016, arXiv 1512.05287).
        self._is_cell = "_dropout_mask_cache" in vars(layer)
        self._count = 0

    def _next_seed(self) -> tf.Tensor:
        place = self._layer * 1000 + self._count
        self._count += 1
        return self._draws.seed_of(place, self._name, self._is_cell)

    def make_seed_for_stateless_op(self) -> tf.Tensor:
        return self._next_seed()

    def make_legacy_seed(self) -> None:
        return None

    def random_uniform(
        self,
        shape: Any,
        minval: float = 0.0,
        maxval: Any = None,
        dtype: Any = None,
        nonce: Any = None,
    ) -> tf.Tensor:
        del nonce
        return _uniform(
            shape, self._next_seed(), minval, maxval, dtype or tf.keras.backend.floatx()
        )

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

    def truncated_normal(
        self,
        shape: Any,
        mean: float = 0.0,
        stddev: float = 1.0,
        dtype: Any = None,
        nonce: Any = None,
    ) -> tf.Tensor:
        del nonce
        unit = _truncated_normal(shape, self._next_seed())
        return tf.cast(mean + stddev * unit, dtype or tf.float32)

    def dropout(
        self, inputs: tf.Tensor, rate: float, noise_shape: Any = None
    ) -> tf.Tensor:
        return stateless_random.dropout(inputs, rate, self._next_seed(), noise_shape)


def _uniform(
    shape: Any, seed: tf.Tensor, minval: Any, maxval: Any, dtype: Any
) -> tf.Tensor:
    dtype = tf.as_dtype(dtype)
    if dtype.is_integer:
        return tf.random.stateless_uniform(
            shape, seed, minval, maxval, dtype, alg="philox"
        )
    unit = stateless_random.uniform(shape, seed)
    low = tf.cast(minval, tf.float32)
    high = tf.cast(1.0 if maxval is None else maxval, tf.float32)
    return tf.cast(low + (high - low) * unit, dtype)


def _truncated_normal(shape: Any, seed: tf.Tensor) -> tf.Tensor:
    """Draws standard normal numbers between -2 and 2, by the inverse distribution."""
    # The normal distribution function at -2.
    least = 0.022750131948179195
    level = least + (1.0 - 2.0 * least) * stateless_random.uniform(shape, seed)
    return tf.clip_by_value(tf.math.ndtri(level), -2.0, 2.0)


class _Redirected:
    """TensorFlow's random operations, drawn from `Draws`."""

    def __init__(self, draws: Draws):
        self._draws = draws

    def random_uniform(
        self, shape: Any, dtype: Any, seed: int = 0, seed2: int = 0, name: Any = None
    ) -> tf.Tensor:
        own = self._draws.next_seed("tf.random.uniform")
        # TensorFlow's uniform numbers are below 1, so the largest is below 1 here too.
        return _uniform(shape, own, 0.0, 1.0 - 2.0**-24, dtype)

    def random_uniform_int(
        self,
        shape: Any,
        minval: Any,
        maxval: Any,
        seed: int = 0,
        seed2: int = 0,
        name: Any = None,
    ) -> tf.Tensor:
        own = self._draws.next_seed("tf.random.uniform")
        return _uniform(shape, own, minval, maxval, tf.convert_to_tensor(minval).dtype)

    def random_standard_normal(
        self, shape: Any, dtype: Any, seed: int = 0, seed2: int = 0, name: Any = None
    ) -> tf.Tensor:
        own = self._draws.next_seed("tf.random.normal")
        return tf.cast(stateless_random.normal(shape, own), dtype)

    def truncated_normal(
        self, shape: Any, dtype: Any, seed: int = 0, seed2: int = 0, name: Any = None
    ) -> tf.Tensor:
        own = self._draws.next_seed("tf.random.truncated_normal")
        return tf.cast(_truncated_normal(shape, own), dtype)

    def random_shuffle(
        self, value: Any, seed: int = 0, seed2: int = 0, name: Any = None
    ) -> tf.Tensor:
        own = self._draws.next_seed("tf.random.shuffle")
        value = tf.convert_to_tensor(value)
        return tf.gather(
            value, tf.argsort(stateless_random.uniform([tf.shape(value)[0]], own))
        )

    def multinomial(
        self,
        logits: Any,
        num_samples: Any,
        seed: int = 0,
        seed2: int = 0,
        output_dtype: Any = tf.int64,
        name: Any = None,
    ) -> tf.Tensor:
        own = self._draws.next_seed("tf.random.categorical")
        logits = tf.cast(logits, tf.float32)[:, tf.newaxis, :]
        shape = tf.shape(logits)
        drawn = stateless_random.uniform([shape[0], num_samples, shape[2]], own)
        # A category is the index of the largest of Gumbel numbers plus logits.
        gumbel = -tf.math.log(-tf.math.log(tf.minimum(drawn, 1.0 - 2.0**-24)))
        return tf.argmax(logits + gumbel, axis=-1, output_type=output_dtype)

    def stateless_random_uniform(
        self,
        shape: Any,
        seed: Any,
        minval: Any = 0,
        maxval: Any = None,
        dtype: Any = tf.float32,
        name: Any = None,
        alg: Any = None,
    ) -> Any:
        # Keras' layers call `tf.image`, which draws by this function with our seeds.
        # With a user's own seed, the user gets TensorFlow's numbers.
        seed = tf.convert_to_tensor(seed)
        if not self._draws.gave(seed):
            return NotImplemented
        return _uniform(shape, seed, minval, maxval, dtype)


def random_layers(modules: Sequence[Any]) -> list[Any]:
    """The modules that have a random generator."""
    return [m for m in modules if "_random_generator" in vars(m)]


@contextmanager
def drawn_from(seed: tf.Tensor, modules: Sequence[Any]) -> Iterator[Draws]:
    """Makes all random draws of a model traced in the block pure functions of a seed.

    Keras' generators draw from the state of the process, which a resumed round or
    another runtime does not repeat. So layers get other generators, and random
    operations of TensorFlow (`tf.random.normal` in a user's layer) are redirected.
    Operations without a redirection stay in the graph.

    Args:
      seed: int32 `[2]`.
      modules: the model's layers and other modules.
    """
    draws = Draws(seed)
    layers = random_layers(modules)
    kept = [vars(layer)["_random_generator"] for layer in layers]
    try:
        for index, layer in enumerate(layers):
            generator = _Generator(draws, index, layer)
            vars(layer)["_random_generator"] = generator
        with _tff_compat.redirected_random_operations(_Redirected(draws)):
            yield draws
    finally:
        for layer, generator in zip(layers, kept):
            vars(layer)["_random_generator"] = generator
