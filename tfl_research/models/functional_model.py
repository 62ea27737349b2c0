"""Models as pure functions of their weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow as tf

# What happens to the non-trainable weights; see `FunctionalModel.non_trainable`.
NON_TRAINABLE = ("frozen", "averaged", "local")


class Forward(NamedTuple):
    """The result of a model for a batch of inputs.

    Attributes:
      predictions: `[batch, ...]`, the model's output, or a structure of outputs.
        Half-precision outputs are converted to float32.
      penalty: float32 `[]`, the sum of the regularization losses and of what the model
        adds with `add_loss`; 0 where there are none.
      state: the non-trainable weights after the batch; unchanged outside of training.
    """

    predictions: Any
    penalty: tf.Tensor
    state: tuple[tf.Tensor, ...]


@dataclasses.dataclass(frozen=True)
class FunctionalModel:
    """A model as a pure function of its weights, without variables.

    Attributes:
      initial_weights: trainable weights, NumPy arrays, in the order of
        `trainable_variables`.
      forward: (weights, state, x `[batch, ...]` or a dict, training, seed int32 `[2]`)
        -> `Forward`. Pure: dropout and other random layers draw from `seed` alone.
      is_random: whether `forward` in training depends on its seed.
      initial_state: non-trainable weights, NumPy arrays, in the order of
        `non_trainable_variables`.
      has_penalty: whether the penalty can differ from 0.
      changing: indices of the non-trainable weights that `forward` changes in training.
      state_names: names of the non-trainable weights, for messages.
      non_trainable: what happens to the weights in `changing`. "frozen": nothing;
        `forward` does not change them. "averaged": clients send the changes, and the
        server adds the aggregate. "local": each client keeps its own.
      mixes_examples: whether the outputs, the penalty or the state in training depend
        on the batch as a whole (batch normalization, activity penalties).
      drops_padding: whether padding must be left out of a batch in training, since the
        model mixes examples.
      repeats_for_padding: whether a copy of a real example takes the place of padding
        in training, since the model may have no finite gradients for padding (masks, a
        layer of the user's own).
      mixes_predictions: whether the outputs outside of training depend on the batch as
        a whole. Batch normalization does not: it uses its statistics there.
      predicts_no_padding: whether padding must be left out of a batch outside of
        training: the model mixes the predictions of examples, or a layer of the user's
        own may fail for padding.
      scales_loss: whether a layer computes in float16, so that the loss is scaled for
        the gradient (`clients.loss_scale`).
      constrain: applies the weights' constraints, weights -> weights, as Keras does
        after each step of an optimizer; None without constraints.
      weight_names: names of the trainable weights, for messages; () if unknown.
    """

    initial_weights: tuple[np.ndarray, ...]
    forward: Callable[
        [Sequence[tf.Tensor], Sequence[tf.Tensor], Any, bool, tf.Tensor], Forward
    ]
    is_random: bool = True
    initial_state: tuple[np.ndarray, ...] = ()
    has_penalty: bool = False
    changing: tuple[int, ...] = ()
    state_names: tuple[str, ...] = ()
    non_trainable: str = "frozen"
    mixes_examples: bool = False
    drops_padding: bool = False
    repeats_for_padding: bool = False
    mixes_predictions: bool = False
    predicts_no_padding: bool = False
    constrain: Optional[Callable[[Sequence[tf.Tensor]], list[tf.Tensor]]] = None
    scales_loss: bool = False
    weight_names: tuple[str, ...] = ()

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

    @property
    def state_specs(self) -> tuple[tf.TensorSpec, ...]:
        """Shape and dtype of every non-trainable weight."""
        return tuple(tf.TensorSpec(w.shape, w.dtype) for w in self.initial_state)

    @property
    def averaged(self) -> tuple[int, ...]:
        """Indices of the non-trainable weights that clients send."""
        return self.changing if self.non_trainable == "averaged" else ()

    @property
    def local(self) -> tuple[int, ...]:
        """Indices of the non-trainable weights that clients keep."""
        return self.changing if self.non_trainable == "local" else ()


def check_non_trainable(choice: Optional[str]) -> None:
    """Checks that a choice is None or one of `NON_TRAINABLE`.

    Raises:
      ValueError: the choice is another value.
    """
    if choice is not None and choice not in NON_TRAINABLE:
        raise ValueError(
            f"non_trainable must be one of {', '.join(NON_TRAINABLE)}, got {choice!r}"
        )


def check_changing(
    names: Sequence[str], dtypes: Sequence[tf.DType], choice: Optional[str]
) -> None:
    """Checks that the user chose what happens to weights that training changes.

    Args:
      names: the names of the non-trainable weights that training changes.
      dtypes: the dtypes of these weights.
      choice: see `FunctionalModel.non_trainable`; None for no choice.

    Raises:
      ValueError: no choice is given, or integers would be averaged or kept.
    """
    if not names:
        return
    few = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    if choice is None:
        raise ValueError(
            f"training changes the model's non-trainable weights ({few}); say what "
            "becomes of them: give non_trainable='frozen' (they stay as they are, and "
            "BatchNormalization normalizes by them), 'averaged' or 'local' (each "
            "client keeps its own), or use GroupNormalization"
        )
    for name, dtype in zip(names, dtypes):
        if not dtype.is_floating:
            raise ValueError(
                f"training changes the non-trainable weight {name} of dtype "
                f"{dtype.name}, which cannot be {choice}; expected floating-point "
                "weights: give non_trainable='frozen'"
            )
