"""Rules for a loss's labels and a model's outputs, checked on real examples."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

# Probabilities in half precision add up to 1 within this tolerance.
_TOLERANCE = 0.02
_FIX_LOGITS = (
    "leave the activation out of the last layer, or give a loss of probabilities, as "
    "objectives.{name}(from_logits=False) or Keras' {keras}()"
)


class Wrong(NamedTuple):
    """The first row of an array that a loss does not take, and the reason."""

    row: int
    why: str

    def __str__(self) -> str:
        return f"{self.row}: {self.why}"


class Rule(abc.ABC):
    """A rule that says which labels and outputs of one head a loss takes."""

    @abc.abstractmethod
    def check_outputs(self, labels: np.ndarray, outputs: Sequence[np.ndarray]) -> None:
        """Checks a head.

        Args:
          labels: labels `[batch, ...]` of a few examples.
          outputs: arrays `[batch, ...]` for the same examples: first for the model's
            initial weights, then for random weights.

        Raises:
          ValueError: the head does not fit the loss or the labels.
        """

    @abc.abstractmethod
    def wrong_label(
        self, labels: np.ndarray, output_shape: Sequence[int]
    ) -> Optional[Wrong]:
        """Finds the first label that the loss does not take; None if there is none.

        Args:
          labels: labels `[n, ...]` of a client.
          output_shape: shape of the head's outputs for an example.
        """


def rows_where(wrong: np.ndarray) -> Optional[int]:
    """Returns the first row with a true entry, or None."""
    rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))
    return int(rows[0]) if len(rows) else None


def first_entry(values: np.ndarray, wrong: np.ndarray, row: int) -> str:
    """Formats the first wrong entry of a row."""
    return f"{values[row][wrong[row]].flat[0]:g}"


def finite(outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns outputs in float64, without outputs that overflowed."""
    wide = [np.asarray(o, np.float64) for o in outputs]
    return [o for o in wide if np.isfinite(o).all() and o.size]


def in_unit_interval(outputs: Sequence[np.ndarray]) -> bool:
    """Whether all outputs are between 0 and 1, as a sigmoid's are for any weights."""
    found = finite(outputs)
    return len(found) > 1 and all((o >= 0).all() and (o <= 1).all() for o in found)


def are_distributions(outputs: Sequence[np.ndarray]) -> bool:
    """Whether the last axis has probabilities of several classes, as after softmax."""
    return in_unit_interval(outputs) and all(
        (abs(o.sum(axis=-1) - 1) < _TOLERANCE).all() for o in finite(outputs)
    )


def shapes(labels: np.ndarray, output: np.ndarray) -> str:
    """Describes the shapes of labels and outputs, for messages."""
    return (
        f"the labels of an example have shape {list(labels.shape[1:])}, the model's "
        f"outputs {list(output.shape[1:])}"
    )


def without_unit_axis(labels: np.ndarray, rank: int) -> np.ndarray:
    """Reshapes labels `[..., 1]` to `[...]` if their rank is `rank` + 1."""
    if labels.ndim == rank + 1 and labels.shape[-1] == 1:
        return labels[..., 0]
    return labels


@dataclasses.dataclass(frozen=True)
class Classes(Rule):
    """Integer classes, and an output for each class.

    Attributes:
      from_logits: whether the outputs are logits.
      name, keras: the names of the loss here and in Keras, for messages.
      single: whether an example has one class.
    """

    from_logits: bool = True
    name: str = "multiclass"
    keras: str = "SparseCategoricalCrossentropy"
    single: bool = False

    def check_outputs(self, labels: np.ndarray, outputs: Sequence[np.ndarray]) -> None:
        output = outputs[0]
        if self.single and output.ndim > 2:
            raise ValueError(
                f"{shapes(labels, output)}, but objective='classification' expects "
                "one class for each example; for a class of each step give "
                f"objectives.from_keras({self.keras}(from_logits={self.from_logits}))"
            )
        labels = without_unit_axis(labels, output.ndim - 1)
        if output.ndim < 2 or labels.shape != output.shape[:-1]:
            if labels.shape == output.shape and output.ndim > 1:
                raise ValueError(
                    f"the labels are one-hot ({shapes(labels, output)}), but the loss "
                    "expects classes; give y.argmax(-1), or CategoricalCrossentropy"
                )
            raise ValueError(
                f"{shapes(labels, output)}; a loss of classes expects, for every "
                "prediction, one label and one output for each class"
            )
        if output.shape[-1] == 1:
            raise ValueError(
                "the model has 1 output, but a loss of classes expects one output for "
                "each class; give the last layer more units, or objective='binary'"
            )
        _check_activation(self, outputs, are_distributions(outputs), "softmax")

    def wrong_label(
        self, labels: np.ndarray, output_shape: Sequence[int]
    ) -> Optional[Wrong]:
        number = output_shape[-1]
        values = np.asarray(labels, np.float64)
        wrong = ~((values >= 0) & (values < number) & (values == np.floor(values)))
        row = rows_where(wrong)
        if row is None:
            return None
        label = values[row][wrong[row]].flat[0]
        fix = "number the classes 0, 1, 2, ..."
        if label >= number and label == np.floor(label):
            fix = f"give the last layer {label + 1:.0f} units"
        return Wrong(
            row,
            f"label {label:g}, expected a class of 0 to {number - 1}, since the model "
            f"has outputs for {number} classes; {fix}",
        )


@dataclasses.dataclass(frozen=True)
class OneHot(Rule):
    """A distribution over classes as the label, and an output for each class."""

    from_logits: bool = True
    keras: str = "CategoricalCrossentropy"
    name: str = "multiclass"

    def check_outputs(self, labels: np.ndarray, outputs: Sequence[np.ndarray]) -> None:
        output = outputs[0]
        if labels.shape != output.shape or output.shape[-1] < 2:
            raise ValueError(
                f"{shapes(labels, output)}; {self.keras} expects one-hot labels and "
                "one output for each class; for integer classes give "
                "SparseCategoricalCrossentropy"
            )
        _check_activation(self, outputs, are_distributions(outputs), "softmax")

    def wrong_label(
        self, labels: np.ndarray, output_shape: Sequence[int]
    ) -> Optional[Wrong]:
        del output_shape
        values = np.asarray(labels, np.float64)
        wrong = ~((values >= 0) & (values <= 1))
        wrong |= abs(values.sum(axis=-1, keepdims=True) - 1) > _TOLERANCE
        row = rows_where(wrong)
        if row is None:
            return None
        return Wrong(row, "the label is not a distribution over classes; give one-hot")


@dataclasses.dataclass(frozen=True)
class Binary(Rule):
    """Two classes, 0 and 1, for each output; labels have the outputs' shape.

    Attributes:
      from_logits: whether the outputs are logits.
      single: whether there is one output for an example.
      soft: whether labels between 0 and 1 are taken.
      name, keras: the names of the loss here and in Keras, for messages.
    """

    from_logits: bool = True
    single: bool = True
    soft: bool = False
    name: str = "binary"
    keras: str = "BinaryCrossentropy"

    def check_outputs(self, labels: np.ndarray, outputs: Sequence[np.ndarray]) -> None:
        output = outputs[0]
        if self.single and output.size != len(output):
            raise ValueError(
                f"the model has {output[0].size} outputs, but a binary loss expects "
                "one; give the last layer 1 unit, or objective='classification', "
                "which has one output for each class"
            )
        given = without_unit_axis(labels, output.ndim)
        wanted = without_unit_axis(output, given.ndim)
        if given.size != wanted.size or given.shape != wanted.shape:
            raise ValueError(
                f"{shapes(labels, output)}; a binary loss expects a label for each "
                "output"
            )
        is_probability = in_unit_interval(outputs)
        _check_activation(self, outputs, is_probability, "sigmoid")

    def wrong_label(
        self, labels: np.ndarray, output_shape: Sequence[int]
    ) -> Optional[Wrong]:
        del output_shape
        values = np.asarray(labels, np.float64)
        wrong = ~((values >= 0) & (values <= 1))
        if not self.soft:
            wrong |= (values != 0) & (values != 1)
        row = rows_where(wrong)
        if row is None:
            return None
        found = first_entry(values, wrong, row)
        fix = "; give (y + 1) / 2 for labels -1 and 1" if found == "-1" else ""
        return Wrong(row, f"label {found}, expected 0 or 1{fix}")


@dataclasses.dataclass(frozen=True)
class Numbers(Rule):
    """Numbers with the outputs' shape; `[batch]` and `[batch, 1]` count as equal.

    Attributes:
      is_strict: whether other shapes are refused; a user's own loss may take any.
    """

    is_strict: bool = True

    def check_outputs(self, labels: np.ndarray, outputs: Sequence[np.ndarray]) -> None:
        output = outputs[0]
        if self.is_strict and without_unit_axis(labels, output.ndim).shape not in (
            output.shape,
            without_unit_axis(output, labels.ndim).shape,
        ):
            raise ValueError(
                f"{shapes(labels, output)}; the loss expects a number for each output"
            )

    def wrong_label(
        self, labels: np.ndarray, output_shape: Sequence[int]
    ) -> Optional[Wrong]:
        del output_shape
        if labels.dtype.kind != "f":
            return None
        wrong = ~np.isfinite(labels)
        row = rows_where(wrong)
        if row is None:
            return None
        return Wrong(row, f"label {first_entry(labels, wrong, row)} is not finite")


def _check_activation(
    rule: Classes | OneHot | Binary,
    outputs: Sequence[np.ndarray],
    is_probability: bool,
    activation: str,
) -> None:
    """Refuses probabilities if the loss takes logits, and logits if it does not."""
    if rule.from_logits:
        bounded = is_probability or in_unit_interval(outputs)
        if bounded:
            head = activation if is_probability else "sigmoid"
            raise ValueError(
                f"the model's outputs are probabilities (a {head}), but the loss takes "
                "logits; " + _FIX_LOGITS.format(name=rule.name, keras=rule.keras)
            )
    elif not is_probability and len(finite(outputs)) > 1:
        raise ValueError(
            "the model's outputs are not probabilities, but the loss has "
            f"from_logits=False; give the last layer activation={activation!r}, or "
            "the loss from_logits=True"
        )
