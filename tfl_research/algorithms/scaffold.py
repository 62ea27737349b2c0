"""SCAFFOLD: control variates against the drift of heterogeneous clients."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfl_research import autograph, clients, models, processes
from tfl_research.algorithms.algorithm import Algorithm
from tfl_research.clients.local_training import result_of
from tfl_research.clients.vectors import from_vector, size_of, to_vector
from tfl_research.processes.server_work import (
    AVERAGING,
    Aggregated,
    Nest,
    OptimizerStep,
    ServerWork,
)
from tfl_research.tasks.objectives import Objective


@dataclasses.dataclass(frozen=True)
class ScaffoldClient(clients.ClientWork):
    """SCAFFOLD's client (Karimireddy et al. 2020, arXiv 1910.06378, Algorithm 1).

    With x the server's model, y_i the client's and c, c_i the server's and the
    client's control variates, every step is
    y_i <- y_i - eta_l (g_i(y_i) - c_i + c) (line 10). Afterwards (line 12)
    option I:  c_i+ = g_i(x), the gradient at x over all examples of the round;
    option II: c_i+ = c_i - c + (x - y_i) / (K eta_l).
    The client sends y_i - x, reports c_i+ - c_i and keeps c_i+. A client without a step
    keeps c_i. So does a client under option II whose learning rate is 0.

    Attributes:
      steps: local steps with learning rate eta_l; plain SGD under option II.
      option: 1 or 2.

    Raises:
      ValueError: the option is neither 1 nor 2; or the option is 2 and the optimizer is
        not SGD, or has momentum, so that (x - y_i) / (K eta_l) is no mean of gradients.
    """

    steps: clients.LocalSteps
    option: int = 2

    def __post_init__(self) -> None:
        if self.option not in (1, 2):
            raise ValueError(f"option must be 1 or 2, got {self.option}")
        if self.option == 2:
            check_plain_sgd(self.steps, "SCAFFOLD's option 2")

    def initial_client_state(self, model: models.FunctionalModel) -> np.ndarray:
        """Returns c_i = 0."""
        return np.zeros(size_of(model.weight_specs), np.float32)

    def build(
        self, model: models.FunctionalModel, objective: Objective
    ) -> clients.ClientFunction:
        loop = self.steps.loop(model, objective)

        @autograph.function
        def client_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
            shared: Sequence[tf.Tensor],
        ) -> clients.ClientResult:
            x, c = list(server_weights), list(shared)
            c_i = from_vector(batches["client_state"], model.weight_specs)
            run = loop.run(
                x,
                batches,
                round_number,
                adjust=lambda gradient, *_: [
                    g - own + common for g, own, common in zip(gradient, c_i, c)
                ],
            )
            stepped = run.num_steps > 0
            if self.option == 1:
                new, _ = loop.mean_gradient(x, batches)
            else:
                scale = run.num_steps * loop.learning_rate(round_number)
                new = [
                    own - common + tf.math.divide_no_nan(w - y, scale)
                    for own, common, w, y in zip(c_i, c, x, run.weights)
                ]
                # Steps of learning rate 0 have no information about gradients.
                stepped = scale > 0
            new = [tf.where(stepped, n, own) for n, own in zip(new, c_i)]
            return result_of(
                run,
                x,
                batches,
                report=[n - own for n, own in zip(new, c_i)],
                client_state=to_vector(new),
            )

        return client_function


@dataclasses.dataclass(frozen=True)
class ScaffoldServer(ServerWork):
    """SCAFFOLD's server (Algorithm 1, lines 16 and 17).

    x <- x + eta_g mean(y_i - x), by the server optimizer, and
    c <- c + |S|/N mean(c_i+ - c_i), so that c stays the mean of all clients' c_i.

    Attributes:
      step: the server optimizer; SGD of rate eta_g in the paper.
      population: N, the number of all clients.
    """

    step: OptimizerStep
    population: int
    weighs_reports = False

    def __post_init__(self) -> None:
        check_population(self.population)

    def initial_state(self, weights: Sequence[tf.Tensor]) -> Nest:
        """Returns the optimizer's state and c = 0."""
        return self.step.initial_state(weights), [tf.zeros_like(w) for w in weights]

    def shared(self, weights: Sequence[tf.Tensor], state: Nest) -> Nest:
        """Sends c."""
        return list(state[1])

    def apply(
        self, weights: Sequence[tf.Tensor], state: Nest, round_mean: Aggregated
    ) -> tuple[Sequence[tf.Tensor], Nest]:
        optimizer_state, c = state
        weights, optimizer_state = self.step.apply(weights, optimizer_state, round_mean)
        share = round_mean.num_clients / self.population
        c = [old + share * change for old, change in zip(c, round_mean.report)]
        return weights, (optimizer_state, c)


def check_population(population: int) -> None:
    """Raises ValueError for a population below 1."""
    if population < 1:
        raise ValueError(f"population must be at least 1, got {population}")


def check_plain_sgd(steps: clients.LocalSteps, what: str) -> None:
    """Raises ValueError for local steps that are not plain SGD."""
    spec = tf.TensorSpec([1], tf.float32)
    hparams: Mapping[str, Any] = steps.optimizer.get_hparams(
        steps.optimizer.initialize((spec,))
    )
    if set(hparams) != {"learning_rate"} or steps.gradient_clip_norm is not None:
        raise ValueError(
            f"{what} needs plain SGD at the clients, without momentum and gradient "
            f"clipping, got hyperparameters {sorted(hparams)} and clip norm "
            f"{steps.gradient_clip_norm}"
        )


def build_scaffold(
    steps: clients.LocalSteps,
    *,
    population: int,
    server: OptimizerStep = AVERAGING,
    option: int = 2,
) -> Algorithm:
    """Builds SCAFFOLD: control variates correct the drift of clients' local steps.

    Each client and the server keep a control variate (Karimireddy et al. 2020, arXiv
    1910.06378, Algorithm 1).

    Args:
      steps: the local steps of each client in a round.
      population: the number of all clients, including clients that never take part.
      server: the server's optimizer; it takes the mean update for a step by default.
      option: the paper's option for a client's new control variate, 1 or 2; see
        `ScaffoldClient`.
    """
    return Algorithm(
        ScaffoldClient(steps, option),
        ScaffoldServer(server, population),
        processes.uniform(),
        needs_mean=True,
    )
