"""Server work: the server's part of a round, as pure functions of tensors."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.clients.optimizer_states import at_scheduled_rate

# A structure of tensors.
Nest = Any


class Aggregated(NamedTuple):
    """The aggregate of a round's clients.

    Attributes:
      update: the aggregator's result, tensors shaped like the weights: by default the
        mean of the clients' models minus the server's model. FedAvg adds the update to
        the weights.
      report: the mean of the clients' reports (zeros if no client counts), or ().
      num_clients: float32 scalar, number of clients with a finite update and examples.
      round_number: int32 scalar, number of earlier rounds, including skipped rounds.
    """

    update: list[tf.Tensor]
    report: Nest
    num_clients: tf.Tensor
    round_number: tf.Tensor


class ServerWork(abc.ABC):
    """Base of recipes for the server's part of a round, as pure functions of tensors.

    A subclass defines `apply`. It overrides the other methods if the server keeps a
    state or shares values with clients.

    `apply` is called in each round that moves the model. In the other rounds
    `wait` is called, and the model does not change. A round does not move the model if
    the aggregator skips the round, or if no client counts (an empty cohort, or no
    client with a finite update and examples) and the aggregate is zero or NaN. So a
    server optimizer with momentum waits for clients. TFF's server waits too: its mean
    over no client is NaN, and its server refuses that. With noise the aggregate is not
    zero. So under differential privacy the model moves in every round, whoever took
    part, as in McMahan et al. 2018 (arXiv 1710.06963, Algorithm 1). A process with a
    privacy plan calls `apply` even if its noise is zero.

    Example, server momentum for `algorithms.Algorithm`:
      >>> import tensorflow as tf
      >>> from tfl_research import processes
      >>> class Momentum(processes.ServerWork):
      ...     def initial_state(self, weights):
      ...         return [tf.zeros_like(w) for w in weights]
      ...
      ...     def apply(self, weights, state, round_mean):
      ...         state = [0.9 * m + u for m, u in zip(state, round_mean.update)]
      ...         return [w + m for w, m in zip(weights, state)], state

    Attributes:
      weighs_reports: whether the mean of the reports has the weights of the updates.
        Otherwise every client with examples counts the same.
      averages_empty_updates: whether the zero update of a client without examples has
        the weight of a client with one example. Otherwise it has no weight.
    """

    weighs_reports: ClassVar[bool] = True
    averages_empty_updates: ClassVar[bool] = False

    def initial_state(self, weights: Sequence[tf.Tensor]) -> Nest:
        """Returns the server's state before the first round, without the model."""
        del weights
        return ()

    def shared(self, weights: Sequence[tf.Tensor], state: Nest) -> Nest:
        """Returns values that the server sends beside the model; None for no values."""
        del weights, state
        return None

    @abc.abstractmethod
    def apply(
        self, weights: Sequence[tf.Tensor], state: Nest, round_mean: Aggregated
    ) -> tuple[Sequence[tf.Tensor], Nest]:
        """Computes the model and the server's state after a round.

        Args:
          weights: the model before the round.
          state: the server's state, as `initial_state`, `apply` or `wait` returned it.
          round_mean: the aggregate of the round's clients.

        Returns:
          The new weights and the new state, with the same structure, shapes and dtypes
          as before.
        """

    def wait(self, weights: Sequence[tf.Tensor], state: Nest) -> Nest:
        """Computes the server's state after a round that does not move the model.

        By default the state does not change. A server that counts rounds in its state
        overrides the method.

        Args:
          weights: the model before and after the round.
          state: the server's state before the round.
        """
        del weights
        return state


@dataclasses.dataclass(frozen=True)
class OptimizerStep(ServerWork):
    """The server optimizer takes the negated aggregate for a gradient.

    Reddi et al. 2020 (arXiv 2003.00295), Algorithm 1. With SGD of rate 1 it is FedAvg,
    with momentum FedAvgM (Hsu et al. 2019, arXiv 1909.06335). FedAdam, FedYogi and
    FedAdagrad are Algorithm 2 with TFF's optimizers, which differ from Algorithm 2.
    Two differences are also in the authors' code (google-research/federated, with
    Keras' optimizers): in step t Adam and Yogi multiply the rate eta by
    sqrt(1 - beta_2^t) / (1 - beta_1^t) against the bias of m and v; and Adam's v begins
    at 0, where Algorithm 2 begins at tau^2 or more. One difference is not in the
    authors' code: TFF's Adagrad divides by sqrt(v + tau), where Algorithm 2 and Keras
    divide by sqrt(v) + tau. So tau here is about the square of the paper's tau: with
    v = 0 the steps are equal for tau = (the paper's tau)^2. Algorithm 2's Adagrad has a
    beta_1, which is 0 here and in the paper's experiments. Yogi's v begins at 1e-6 by
    default, and at 1 in the authors' code.

    Attributes:
      optimizer: the server optimizer; SGD of rate 1 by default.
      learning_rate_schedule: (round number int32, from 0) -> float32 learning rate of
        the round; None for the optimizer's learning rate. Rounds that do not move the
        model count too, as in the clients' schedule (`clients.LocalSteps`). In
        contrast, `tff.learning.optimizers.schedule_learning_rate` counts only the steps
        that the optimizer takes.
    """

    optimizer: Optional[tff.learning.optimizers.Optimizer] = None
    learning_rate_schedule: Optional[Callable[[tf.Tensor], tf.Tensor]] = None

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
        """Takes a step of the server optimizer."""
        optimizer = self._optimizer
        state = at_scheduled_rate(
            optimizer, state, self.learning_rate_schedule, round_mean.round_number
        )
        new_state, new_weights = optimizer.next(
            state, tuple(weights), tuple(-u for u in round_mean.update)
        )
        return tuple(new_weights), new_state


@dataclasses.dataclass(frozen=True)
class ReportedStep(ServerWork):
    """Base of server work that corrects the mean update before the optimizer's step.

    The clients' reports give the correction.

    Attributes:
      step: the server optimizer.
    """

    step: OptimizerStep

    @abc.abstractmethod
    def corrected(self, round_mean: Aggregated) -> Sequence[tf.Tensor]:
        """Returns the corrected mean update, which the server optimizer takes."""

    def initial_state(self, weights: Sequence[tf.Tensor]) -> Nest:
        """The optimizer's state."""
        return self.step.initial_state(weights)

    def apply(
        self, weights: Sequence[tf.Tensor], state: Nest, round_mean: Aggregated
    ) -> tuple[Sequence[tf.Tensor], Nest]:
        """Takes a step of the server optimizer along the corrected update."""
        corrected = round_mean._replace(update=list(self.corrected(round_mean)))
        return self.step.apply(weights, state, corrected)


# FedAvg's server: the model moves by the mean of the updates.
AVERAGING = OptimizerStep()
