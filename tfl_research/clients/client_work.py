"""Client work: one client's computation in a round, as a pure function."""

from __future__ import annotations

import abc
import collections
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Optional, Union

import numpy as np
import tensorflow as tf

from tfl_research.data.arrays import structures
from tfl_research.models.functional_model import FunctionalModel
from tfl_research.tasks.objectives import Objective


class ClientResult(NamedTuple):
    """The result of one client in a round.

    Attributes:
      update: the model delta w_k - w_t, tensors shaped like the weights.
      num_examples: float32 scalar, number of distinct examples used this round (n_k).
      sums: the objective's sums over the examples seen in training.
      report: further values for the server work, a nest of float32 tensors. The server
        work gets the mean over clients. () for no values.
      client_state: float32 `[d]`, the state that the client keeps until its next
        cohort; None if clients keep no state.
      noise_stddev: float32 `[]`, standard deviation of the noise that the client adds
        to the sum of gradients of a local step; () if clients add no noise.
      model_state: the model's non-trainable weights after the local steps, in the order
        of `FunctionalModel.initial_state`; None from client work that does not change
        them.
    """

    update: list[tf.Tensor]
    num_examples: tf.Tensor
    sums: collections.OrderedDict[str, tf.Tensor]
    report: Any = ()
    client_state: Optional[tf.Tensor] = None
    noise_stddev: Any = ()
    model_state: Optional[tuple[tf.Tensor, ...]] = None


class PersonalModel(NamedTuple):
    """A client's personal model.

    Attributes:
      weights: the trainable weights.
      model_state: the non-trainable weights.
    """

    weights: list[tf.Tensor]
    model_state: tuple[tf.Tensor, ...]


# The member of the local steps with the model's non-trainable weights, a tuple.
MODEL_STATE = "model_state"


# (server weights, local steps, round number) -> result. If the server work shares
# values: (server weights, local steps, round number, shared) -> result. The local steps
# are x and y [steps, batch, ...], mask bool [steps, batch], num_steps and num_examples
# int32 [] and seed int32 [2]. Of models with non-trainable weights there is
# model_state, a tuple of the weights. The round number is int32 and counts from 0. Only
# the first num_steps steps have examples; further steps must not change the result.
ClientFunction = Callable[..., ClientResult]

# The same arguments -> the client's personal model, which is evaluated on the client's
# own test examples. The result is the trainable weights, or a `PersonalModel` if
# training also changes non-trainable weights.
PersonalFunction = Callable[..., Union["list[tf.Tensor]", PersonalModel]]


class ClientWork(abc.ABC):
    """Base of recipes for client work, independent of model and task.

    A subclass defines `build`. It overrides other methods if clients keep a state, need
    further values, have personal models or send messages of another size.

        @dataclasses.dataclass(frozen=True)
        class Silent(clients.ClientWork):
            def build(self, model, objective):
                def client_function(server_weights, batches, round_number):
                    return clients.ClientResult(
                        update=[tf.zeros_like(w) for w in server_weights],
                        num_examples=tf.cast(batches["num_examples"], tf.float32),
                        sums=...,
                    )

                return client_function
    """

    @abc.abstractmethod
    def build(self, model: FunctionalModel, objective: Objective) -> ClientFunction:
        """Builds a client's pure TensorFlow function for this model and objective."""

    @property
    def keeps_what_it_sends(self) -> bool:
        """Whether the client's state must agree with the update that the server got."""
        return False

    @property
    def client_members(self) -> Mapping[str, tf.TensorSpec]:
        """Specs of further values that each client needs (`Cohort.with_members`)."""
        return {}

    @property
    def plan(self) -> Any:
        """The privacy plan that the work was built from; None without a plan."""
        return None

    def initial_client_state(self, model: FunctionalModel) -> Optional[np.ndarray]:
        """A client's state before its first round, float32 `[d]`.

        None if clients keep no state. The function that `build` returns finds the state
        among the local steps, as `client_state`.
        """
        del model
        return None

    def build_personal(
        self, model: FunctionalModel, objective: Objective
    ) -> Optional[PersonalFunction]:
        """Builds the function of a personal model; None without personal models."""
        del model, objective
        return None

    def encoded_bytes(self, model: FunctionalModel) -> Optional[int]:
        """Bytes of an update as it is sent; None for uncompressed tensors."""
        del model
        return None

    def received_bytes(self, model: FunctionalModel) -> Optional[int]:
        """Bytes that the server sends to a client; None for all shared values."""
        del model
        return None

    def reported_bytes(self, model: FunctionalModel) -> Optional[int]:
        """Bytes of a report as it is sent; None for uncompressed tensors."""
        del model
        return None


class WrappedWork(ClientWork):
    """Base of client work that changes the messages of another client work.

    All methods except `build` call the base.

    Attributes:
      base: the other client work, a field of the subclass.
    """

    base: ClientWork

    @property
    def keeps_what_it_sends(self) -> bool:
        return self.base.keeps_what_it_sends

    @property
    def client_members(self) -> Mapping[str, tf.TensorSpec]:
        return self.base.client_members

    @property
    def plan(self) -> Any:
        return self.base.plan

    def initial_client_state(self, model: FunctionalModel) -> Optional[np.ndarray]:
        return self.base.initial_client_state(model)

    def build_personal(
        self, model: FunctionalModel, objective: Objective
    ) -> Optional[PersonalFunction]:
        return self.base.build_personal(model, objective)

    def encoded_bytes(self, model: FunctionalModel) -> Optional[int]:
        return self.base.encoded_bytes(model)

    def received_bytes(self, model: FunctionalModel) -> Optional[int]:
        return self.base.received_bytes(model)

    def reported_bytes(self, model: FunctionalModel) -> Optional[int]:
        return self.base.reported_bytes(model)


def model_state_of(
    model: FunctionalModel, batches: Mapping[str, Any]
) -> tuple[tf.Tensor, ...]:
    """Returns the model's non-trainable weights before a client's local steps.

    If the local steps do not have these weights, the result is the model's initial
    weights.
    """
    state = tuple(batches.get(MODEL_STATE, ()))
    return state or tuple(tf.constant(s) for s in model.initial_state)


def minibatch_of(batches: Mapping[str, Any], row: tf.Tensor) -> dict[str, Any]:
    """Returns the flat arrays and the mask of one row of a client's local steps.

    Args:
      batches: the local steps.
      row: int32 `[]`.
    """
    arrays = {**structures.example_arrays(batches), "mask": batches["mask"]}
    # `v[row]` would trace and compile three times as many operations.
    return {name: tf.gather(v, row) for name, v in arrays.items()}


def with_examples(
    model: FunctionalModel, batch: dict[str, Any], batches: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns a minibatch, with the client's first example if there is only padding.

    Vectorised clients all take as many steps as the client with the most steps. The
    other clients then have minibatches of padding alone. A model that may have no
    finite gradients for padding would give NaN, and XLA programs that meet NaN leave
    their clients to TensorFlow. The mask does not change, so the example does not
    count. The minibatches of other models do not change.

    Args:
      model: the model that is trained.
      batch: one minibatch of `batches`, with its mask.
      batches: the local steps.
    """
    if not model.repeats_for_padding or batches["mask"].shape[0] == 0:
        return batch
    first = minibatch_of(batches, tf.constant(0))
    has_examples = tf.reduce_any(batch["mask"])
    for name in structures.example_arrays(batches):
        batch[name] = tf.where(has_examples, batch[name], first[name][:1])
    return batch


def for_training(model: FunctionalModel, batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """Prepares a minibatch for the model in training.

    A model that mixes examples gets the minibatch without padding. A model that may
    have no finite gradients for padding gets copies of the first example in the place
    of padding. The losses of the copies do not count, and their gradients are finite if
    the first example's gradients are. For a minibatch of padding alone, see
    `with_examples`.

    Args:
      model: the model that is trained.
      batch: flat arrays `[batch, ...]` by name and mask bool `[batch]`, with padding at
        the end; further members do not change.
    """
    if model.drops_padding:
        return without_padding(batch)
    if not model.repeats_for_padding:
        return batch
    mask = batch["mask"]

    return {
        name: tf.where(_by_row(mask, value), value, value[:1])
        if structures.is_example_array(name)
        else value
        for name, value in batch.items()
    }


def without_padding(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """Drops the padding at the end of a minibatch; one row stays if all is padding.

    The results for a minibatch with only padding are not used.

    Args:
      batch: flat arrays `[batch, ...]` by name and mask bool `[batch]`; further members
        do not change.
    """
    real = tf.reduce_sum(tf.cast(batch["mask"], tf.int32))
    rows = tf.maximum(real, 1)
    return {
        name: value[:rows]
        if name == "mask" or structures.is_example_array(name)
        else value
        for name, value in batch.items()
    }


def without_failures_of_padding(
    model: FunctionalModel, gradient: list[tf.Tensor], mask: tf.Tensor
) -> list[tf.Tensor]:
    """Replaces a gradient by zeros if it may not be finite because of only padding.

    Args:
      model: the model that is trained.
      gradient: gradient of the mean loss or of the sum of losses of a minibatch, by
        weight.
      mask: bool `[batch]`, the minibatch's examples.
    """
    if not (model.drops_padding or model.repeats_for_padding):
        return gradient
    return select(tf.reduce_any(mask), gradient, [tf.zeros_like(g) for g in gradient])


def masked_sum(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Sums over the first axis where `mask` is true; ignores other values, even NaN.

    Args:
      values: float `[batch, ...]`.
      mask: bool `[batch]`.

    Raises:
      ValueError: the values have no axis, for example because a loss is averaged.
    """
    values = tf.convert_to_tensor(values)
    if values.shape.rank == 0:
        raise ValueError(
            "an objective gives losses and sums for each example, of shape "
            "[batch, ...], got a scalar; leave out the sum or mean over the batch"
        )
    kept = tf.where(_by_row(mask, values), values, tf.zeros_like(values))
    return tf.reduce_sum(kept, axis=0)


def masked_sums(
    values: Mapping[str, tf.Tensor], mask: tf.Tensor
) -> collections.OrderedDict[str, tf.Tensor]:
    """Computes `masked_sum` of each value, once for values that are the same tensor."""
    found: dict[int, tf.Tensor] = {}
    for value in values.values():
        if id(value) not in found:
            found[id(value)] = masked_sum(value, mask)
    return collections.OrderedDict(
        (name, found[id(value)]) for name, value in values.items()
    )


def _by_row(mask: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Reshapes the mask to `[batch, 1, ...]`, with the rank of the values."""
    if values.shape.rank is None:
        ones = tf.ones([tf.rank(values) - 1], tf.int32)
        return tf.reshape(mask, tf.concat([tf.shape(mask), ones], 0))
    # Adds few operations, since each operation of a local step is traced and compiled.
    for _ in range(values.shape.rank - 1):
        mask = tf.expand_dims(mask, -1)
    return mask


def select(active: tf.Tensor, new: Any, old: Any) -> Any:
    """Returns `new` if the bool scalar `active` is true, otherwise `old`."""
    return tf.nest.map_structure(
        lambda a, b: a if a is b else tf.where(active, a, b), new, old
    )
