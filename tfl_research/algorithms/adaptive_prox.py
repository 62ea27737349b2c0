"""FedProx with a proximal strength that follows the training loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from tfl_research import autograph, clients, models
from tfl_research.algorithms.algorithm import Algorithm
from tfl_research.clients.local_training import result_of
from tfl_research.processes.server_work import (
    AVERAGING,
    Aggregated,
    Nest,
    OptimizerStep,
    ServerWork,
)
from tfl_research.tasks.objectives import Objective


@dataclasses.dataclass(frozen=True)
class AdaptiveProximalClient(clients.ClientWork):
    """Local training with a proximal term of strength mu, which the server sends.

    Li et al. 2020 (arXiv 1812.06127), Algorithm 2. The client also reports the mean
    loss of its examples at the server's model.

    Attributes:
      steps: the local solver.
    """

    steps: clients.LocalSteps

    def build(
        self, model: models.FunctionalModel, objective: Objective
    ) -> clients.ClientFunction:
        loop = self.steps.loop(model, objective)

        @autograph.function
        def client_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
            shared: tf.Tensor,
        ) -> clients.ClientResult:
            start = list(server_weights)
            run = loop.run(
                start,
                batches,
                round_number,
                adjust=lambda gradient, weights, _: [
                    g + shared * (w - w_t)
                    for g, w, w_t in zip(gradient, weights, start)
                ],
            )
            _, sums = loop.mean_gradient(start, batches)
            loss = tf.math.divide_no_nan(sums["loss"], sums["examples"])
            return result_of(run, start, batches, report=loss)

        return client_function


@dataclasses.dataclass(frozen=True)
class AdaptiveProximalServer(ServerWork):
    """The paper's heuristic for mu (section 5.3.2).

    mu rises by `change` when the loss rose. mu falls by `change`, but not below 0, when
    the loss fell `patience` rounds in a row.

    Attributes:
      step: the server optimizer.
      initial: mu of the first round, at least 0.
      change: the change of mu; 0.1 in the paper.
      patience: the number of rounds; 5 in the paper.

    Raises:
      ValueError: initial mu or the change is negative, or the patience is below 1.
    """

    step: OptimizerStep
    initial: float = 0.0
    change: float = 0.1
    patience: int = 5

    def __post_init__(self) -> None:
        for name in ("initial", "change"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"{name} must be at least 0, got {getattr(self, name)}"
                )
        if self.patience < 1:
            raise ValueError(f"patience must be at least 1, got {self.patience}")

    def initial_state(self, weights: Sequence[tf.Tensor]) -> Nest:
        """Returns the optimizer's state, mu, the last loss, and how often it fell."""
        return (
            self.step.initial_state(weights),
            tf.constant(self.initial),
            tf.constant(float("inf")),
            tf.constant(0, tf.int32),
        )

    def shared(self, weights: Sequence[tf.Tensor], state: Nest) -> Nest:
        """Sends mu."""
        return state[1]

    def apply(
        self, weights: Sequence[tf.Tensor], state: Nest, round_mean: Aggregated
    ) -> tuple[Sequence[tf.Tensor], Nest]:
        """Applies the server optimizer and changes mu by the round's loss.

        A round without a client that counts does not change mu.
        """
        optimizer_state, mu, last, falls = state
        weights, optimizer_state = self.step.apply(weights, optimizer_state, round_mean)
        loss, known = round_mean.report, tf.math.is_finite(last)
        someone = round_mean.num_clients > 0
        rose = someone & known & (loss > last)
        fell = someone & known & (loss < last)
        falls = tf.where(fell, falls + 1, tf.where(someone, 0, falls))
        enough = falls >= self.patience
        mu = mu + self.change * tf.cast(rose, tf.float32)
        mu = tf.maximum(mu - self.change * tf.cast(enough, tf.float32), 0.0)
        return weights, (
            optimizer_state,
            mu,
            tf.where(someone, loss, last),
            tf.where(enough, 0, falls),
        )


def build_adaptive_prox(
    steps: clients.LocalSteps,
    *,
    server: OptimizerStep = AVERAGING,
    initial: float = 0.0,
) -> Algorithm:
    """Builds FedProx whose strength mu follows the loss, which the clients report.

    mu rises when the loss rose, and falls when it fell five rounds in a row (Li et al.
    2020, arXiv 1812.06127, section 5.3.2).

    Args:
      steps: the local steps of each client in a round.
      server: the server's optimizer; it takes the mean update for a step by default.
      initial: mu of the first round, at least 0.
    """
    return Algorithm(
        AdaptiveProximalClient(steps),
        AdaptiveProximalServer(server, initial),
        needs_mean=True,
    )
