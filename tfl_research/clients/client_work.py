"""Client work: what one client computes in one round, as a pure function."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any, NamedTuple, Optional, Protocol

import tensorflow as tf

from tfl_research.models.functional_model import FunctionalModel
from tfl_research.tasks.objectives import Objective


class ClientResult(NamedTuple):
    """What a client reports.

    Attributes:
      update: the model delta w_k - w_t, tensors shaped like the weights.
      num_examples: float32 scalar, distinct examples used this round (n_k).
      sums: the objective's sums over the examples seen in training.
      report: what the server work needs beside the update, a nest of float32
        tensors, of which it gets the mean; () for nothing.
      client_state: float32 `[d]`, what the client keeps until it is next in a
        cohort; None where clients keep nothing.
      noise_stddev: float32 `[]`, standard deviation of the noise that the client adds
        to the sum of gradients of a local step; () where clients add none.
    """

    update: list[tf.Tensor]
    num_examples: tf.Tensor
    sums: collections.OrderedDict[str, tf.Tensor]
    report: Any = ()
    client_state: Optional[tf.Tensor] = None
    noise_stddev: Any = ()


# (server weights, local steps, round number) -> result, and with a server work that
# shares something, (server weights, local steps, round number, shared) -> result. The
# local steps are x and y [steps, batch, ...], mask bool [steps, batch], num_steps and
# num_examples int32 [] and seed int32 [2]; the round number is int32 and counts from
# 0. Only the first num_steps steps hold examples; running more of them must change
# nothing.
ClientFunction = Callable[..., ClientResult]

# The same arguments -> weights of the client's personal model, which is evaluated on
# its own test examples.
PersonalFunction = Callable[..., "list[tf.Tensor]"]


class ClientWork(Protocol):
    """A recipe for client work, independent of model and task.

    Work whose clients keep a state also has a method `initial_client_state(model)`,
    float32 `[d]`: what a client's state is before its first round. It finds the
    state among the local steps as `client_state`. Work that needs further values of
    each client (`Cohort.with_members`) has an attribute `client_members`, their specs
    by name. Work under which clients end up with models of their own has a method
    `build_personal(model, objective)`, the `PersonalFunction`. Where messages are not
    of the plain sizes, `encoded_bytes(model)`, `reported_bytes(model)` and
    `received_bytes(model)` say what an update and a report take and what a client is
    sent.
    """

    def build(self, model: FunctionalModel, objective: Objective) -> ClientFunction:
        """The pure per-client TensorFlow function for this model and objective."""
        ...


def masked_sum(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Sums over the first axis where `mask` is set; elsewhere NaN does not count.

    Args:
      values: float `[batch, ...]`.
      mask: bool `[batch]`.
    """
    shape = tf.concat([tf.shape(mask), tf.ones([tf.rank(values) - 1], tf.int32)], 0)
    kept = tf.where(tf.reshape(mask, shape), values, tf.zeros_like(values))
    return tf.reduce_sum(kept, axis=0)


def select(active: tf.Tensor, new: Any, old: Any) -> Any:
    """`new` where the bool scalar `active` is set, else `old`; structures alike."""
    return tf.nest.map_structure(lambda a, b: tf.where(active, a, b), new, old)
