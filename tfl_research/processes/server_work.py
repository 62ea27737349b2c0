"""Server work: what the server makes of a cohort's mean, and what it shares."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Optional

import tensorflow as tf
import tensorflow_federated as tff

# A structure of tensors.
Nest = Any


class Aggregated(NamedTuple):
    """What a round's clients come to.

    Attributes:
      update: the aggregator's result, tensors shaped like the weights: by default
        the mean of the clients' models less the server's model, so that adding it to
        the weights is FedAvg.
      report: the mean of the clients' reports (zeros where nobody counts), or ().
      num_clients: float32 scalar, clients whose update was finite and that had
        examples.
      round_number: int32 scalar, rounds before this one, those included of which the
        server's work was not kept.
    """

    update: list[tf.Tensor]
    report: Nest
    num_clients: tf.Tensor
    round_number: tf.Tensor


class ServerWork(abc.ABC):
    """Base of recipes for the server's part of a round, as pure functions of tensors.

    A subclass gives `apply`, and the other methods where it remembers or shares
    something. Server momentum, for `algorithms.Algorithm`:

        class Momentum(processes.ServerWork):
            def initial_state(self, weights):
                return [tf.zeros_like(w) for w in weights]

            def apply(self, weights, state, round_mean):
                state = [0.9 * m + u for m, u in zip(state, round_mean.update)]
                return [w + m for w, m in zip(weights, state)], state

    Attributes:
      weighs_reports: whether the reports' mean is weighted as the updates' is.
        Otherwise every client that has examples counts the same.
    """

    weighs_reports: ClassVar[bool] = True

    def initial_state(self, weights: Sequence[tf.Tensor]) -> Nest:
        """What the server remembers before round one, beside the model."""
        del weights
        return ()

    def shared(self, weights: Sequence[tf.Tensor], state: Nest) -> Nest:
        """What clients are sent beside the model; None for nothing."""
        del weights, state
        return None

    @abc.abstractmethod
    def apply(
        self, weights: Sequence[tf.Tensor], state: Nest, round_mean: Aggregated
    ) -> tuple[Sequence[tf.Tensor], Nest]:
        """The model and the server's state after a round.

        Args:
          weights: the model before the round.
          state: what the server remembers, as `initial_state` or `apply` gave it.
          round_mean: what the round's clients come to.

        Returns:
          The new weights and the new state, with the structure, shapes and dtypes of
          the old ones.
        """


@dataclasses.dataclass(frozen=True)
class OptimizerStep(ServerWork):
    """The server optimizer takes the negated aggregate for a gradient.

    Reddi et al. 2020 (arXiv 2003.00295), Algorithm 1; with SGD of rate 1 it is FedAvg,
    with momentum FedAvgM (Hsu et al. 2019, arXiv 1909.06335). FedAdam, FedYogi and
    FedAdagrad are Algorithm 2 with TFF's optimizers, which differ from it as the
    paper's own code does: in round t Adam and Yogi multiply the server's rate eta by
    sqrt(1 - beta_2^t) / (1 - beta_1^t) against the bias of m and v, Adam's v begins at
    0, and Adagrad divides by sqrt(v + tau) in place of sqrt(v) + tau.

    Attributes:
      optimizer: the server's; SGD of rate 1 by default.
    """

    optimizer: Optional[tff.learning.optimizers.Optimizer] = None

    @property
    def _optimizer(self) -> tff.learning.optimizers.Optimizer:
        return self.optimizer or tff.learning.optimizers.build_sgdm(1.0)

    def initial_state(self, weights: Sequence[tf.Tensor]) -> Nest:
        """The optimizer's state."""
        specs = tuple(tf.TensorSpec(w.shape, w.dtype) for w in weights)
        return tf.nest.map_structure(
            tf.convert_to_tensor, self._optimizer.initialize(specs)
        )

    def apply(
        self, weights: Sequence[tf.Tensor], state: Nest, round_mean: Aggregated
    ) -> tuple[Sequence[tf.Tensor], Nest]:
        """A step of the server optimizer."""
        return self.step(weights, state, round_mean.update)

    def step(
        self, weights: Sequence[tf.Tensor], state: Nest, update: Sequence[tf.Tensor]
    ) -> tuple[Sequence[tf.Tensor], Nest]:
        """A step of the server optimizer along `update`."""
        new_state, new_weights = self._optimizer.next(
            state, tuple(weights), tuple(-u for u in update)
        )
        return tuple(new_weights), new_state


@dataclasses.dataclass(frozen=True)
class ReportedStep(ServerWork):
    """Base of server work that corrects the update by the clients' report, and then
    takes a step of the server optimizer.

    Attributes:
      step: the server optimizer.
    """

    step: OptimizerStep

    @abc.abstractmethod
    def corrected(self, round_mean: Aggregated) -> Sequence[tf.Tensor]:
        """The update that the server optimizer steps along."""

    def initial_state(self, weights: Sequence[tf.Tensor]) -> Nest:
        """The optimizer's state."""
        return self.step.initial_state(weights)

    def apply(
        self, weights: Sequence[tf.Tensor], state: Nest, round_mean: Aggregated
    ) -> tuple[Sequence[tf.Tensor], Nest]:
        """A step of the server optimizer along what `corrected` gives."""
        return self.step.step(weights, state, self.corrected(round_mean))


# FedAvg's server: the model moves by the mean of the updates.
AVERAGING = OptimizerStep()
