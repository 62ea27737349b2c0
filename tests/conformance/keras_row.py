"""A row of the table of Keras models, and Keras' own training of the row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Optional, Union

import numpy as np
import tensorflow as tf

ROUNDS, BATCH_SIZE, EXAMPLES, CLASSES = 3, 2, 5, 3
Arrays = Union[np.ndarray, Mapping[str, np.ndarray]]
Loss = Callable[[], Any]


def crossentropy(from_logits: bool = True) -> Loss:
    """Sparse categorical cross-entropy of logits or of probabilities."""
    return lambda: tf.keras.losses.SparseCategoricalCrossentropy(
        from_logits=from_logits
    )


@dataclasses.dataclass(frozen=True)
class Row:
    """A Keras model, its data, and what training the model must do.

    Attributes:
      build: makes the model.
      x: inputs of one client, a row for each example; a dict for several inputs.
      y: labels of the same examples; a dict for several outputs.
      loss: makes the Keras loss; for several outputs a dict of losses by output.
      non_trainable: `Task.non_trainable`.
      rate: learning rate of SGD.
      sample_weight: float32, a weight for each example.
      random: whether the model draws random numbers in training. Keras draws others,
        so that only repeatability and predictions are compared.
      tolerance: largest relative and absolute difference of weights.
      refused: a regular expression of the one line that refuses the row; None for a
        row that agrees with Keras.
      represents: whether the row also runs as a federated process by default.
      tff: whether plain TFF trains the model as Keras does.
      quick: whether the row runs by default.
    """

    build: Callable[[], Any]
    x: Arrays
    y: Arrays
    loss: Loss = dataclasses.field(default_factory=crossentropy)
    non_trainable: Optional[str] = None
    rate: float = 0.1
    sample_weight: Optional[np.ndarray] = None
    random: bool = False
    tolerance: float = 1e-5
    refused: Optional[str] = None
    represents: bool = False
    tff: bool = True
    quick: bool = True

    def arrays(self) -> dict[str, np.ndarray]:
        """The client's examples as flat arrays by name."""
        arrays = {**_flat("x", self.x), **_flat("y", self.y)}
        if self.sample_weight is not None:
            arrays["sample_weight"] = self.sample_weight
        return arrays

    def count(self) -> int:
        """Number of examples."""
        return len(next(iter(self.arrays().values())))

    def without_first(self) -> Row:
        """The row without the first example, as the second client has it."""

        def rest(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {part: array[1:] for part, array in value.items()}
            return None if value is None else value[1:]

        return dataclasses.replace(
            self,
            x=rest(self.x),
            y=rest(self.y),
            sample_weight=rest(self.sample_weight),
        )


def _flat(name: str, value: Arrays) -> dict[str, np.ndarray]:
    if isinstance(value, Mapping):
        return {f"{name}/{part}": array for part, array in value.items()}
    return {name: value}


def set_weights(model: Any, trainable: Any, non_trainable: Any) -> None:
    """Gives a Keras model these weights."""
    for variables, values in (
        (model.trainable_variables, trainable),
        (model.non_trainable_variables, non_trainable),
    ):
        assert len(variables) == len(values)
        for variable, value in zip(variables, values):
            variable.assign(value)


def built(row: Row) -> Any:
    """The row's Keras model with all of its weights."""
    model = row.build()
    if not model.built:
        model(row.x)
    return model


def keras_fit(
    row: Row, trainable: Any, non_trainable: Any, epochs: int = ROUNDS
) -> tuple[list[np.ndarray], list[np.ndarray], Any]:
    """Keras' own `fit`: trainable and other weights afterwards, and predictions.

    A client has the same batches if its examples are not shuffled. The last batch is
    smaller than the others.
    """
    model = built(row)
    set_weights(model, trainable, non_trainable)
    model.compile(
        tf.keras.optimizers.legacy.SGD(row.rate), row.loss(), run_eagerly=True
    )
    model.fit(
        row.x,
        row.y,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        shuffle=False,
        sample_weight=row.sample_weight,
        verbose=0,
    )
    return (
        [v.numpy() for v in model.trainable_variables],
        [v.numpy() for v in model.non_trainable_variables],
        model(row.x, training=False),
    )


def keras_predictions(row: Row, trainable: Any, non_trainable: Any) -> Any:
    """Predictions outside of training of the Keras model with these weights."""
    model = built(row)
    set_weights(model, trainable, non_trainable)
    return model(row.x, training=False)


def _generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def reals(*shape: int, seed: int = 0, count: int = EXAMPLES) -> np.ndarray:
    """Standard normal float32 inputs `[EXAMPLES, *shape]`."""
    return _generator(seed).normal(size=(count, *shape)).astype(np.float32)


def ids(*shape: int, high: int = 10, seed: int = 1) -> np.ndarray:
    """int32 ids below `high`, `[EXAMPLES, *shape]`; the last of a sequence are 0."""
    drawn = _generator(seed).integers(1, high, (EXAMPLES, *shape)).astype(np.int32)
    if shape:
        drawn[0, -2:] = 0
        drawn[3, -1:] = 0
    return drawn


LABELS = np.array([0, 2, 1, 1, 2], np.int32)
TRUTHS = np.array([[0.0], [1.0], [1.0], [0.0], [1.0]], np.float32)
VECTOR, SIGNAL, IMAGE = reals(4), reals(6, 3), reals(6, 6, 2)
VOLUME, WORDS = reals(4, 4, 4, 2), ids(6)
