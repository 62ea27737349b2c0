"""FedDyn: dynamic regularisation of the clients' objectives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfl_research import autograph, clients, models, processes
from tfl_research.algorithms.algorithm import Algorithm
from tfl_research.algorithms.scaffold import check_population
from tfl_research.clients.local_training import result_of
from tfl_research.clients.vectors import from_vector, size_of, to_vector
from tfl_research.processes.server_work import Aggregated, Nest, ServerWork
from tfl_research.tasks.objectives import Objective


@dataclasses.dataclass(frozen=True)
class FedDynClient(clients.ClientWork):
    """FedDyn's client (Acar et al. 2021, arXiv 2111.04263, Algorithm 1).

    With theta the server's model and g_k the client's state (the paper's
    grad L_k(theta_k)), the client minimises by its local steps (equation 1)
    L_k(w) - <g_k, w> + alpha/2 ||w - theta||^2
    and then keeps g_k - alpha (w - theta) (equation 2).

    Attributes:
      steps: the local solver.
      alpha: strength of the regulariser, above 0.
      keeps_what_it_sends: true, since g_k and the server's h depend on the same
        w - theta.

    Raises:
      ValueError: alpha is not above 0.
    """

    steps: clients.LocalSteps
    alpha: float
    keeps_what_it_sends = True

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)

    def initial_client_state(self, model: models.FunctionalModel) -> np.ndarray:
        """Returns g_k = 0."""
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
        ) -> clients.ClientResult:
            theta = list(server_weights)
            g_k = from_vector(batches["client_state"], model.weight_specs)
            run = loop.run(
                theta,
                batches,
                round_number,
                adjust=lambda gradient, weights, _: [
                    g - own + self.alpha * (w - t)
                    for g, own, w, t in zip(gradient, g_k, weights, theta)
                ],
            )
            new = [
                own - self.alpha * (w - t) for own, w, t in zip(g_k, run.weights, theta)
            ]
            return result_of(run, theta, batches, client_state=to_vector(new))

        return client_function


@dataclasses.dataclass(frozen=True)
class FedDynServer(ServerWork):
    """FedDyn's server (Acar et al. 2021, arXiv 2111.04263, Algorithm 1).

    With P the cohort:
    h <- h - alpha |P|/m mean(theta_k - theta),
    theta <- mean(theta_k) - h / alpha.

    Attributes:
      alpha: the clients' alpha, above 0.
      population: m, the number of all clients.
    """

    alpha: float
    population: int
    weighs_reports = False

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)
        check_population(self.population)

    def initial_state(self, weights: Sequence[tf.Tensor]) -> Nest:
        """Returns h = 0."""
        return [tf.zeros_like(w) for w in weights]

    def apply(
        self, weights: Sequence[tf.Tensor], state: Nest, round_mean: Aggregated
    ) -> tuple[Sequence[tf.Tensor], Nest]:
        share = self.alpha * round_mean.num_clients / self.population
        h = [old - share * u for old, u in zip(state, round_mean.update)]
        moved = [
            w + u - new / self.alpha for w, u, new in zip(weights, round_mean.update, h)
        ]
        return tuple(moved), h


def _check_alpha(alpha: float) -> None:
    if not alpha > 0:
        raise ValueError(f"alpha must be above 0, got {alpha}")


def build_fed_dyn(
    steps: clients.LocalSteps, *, population: int, alpha: float = 0.1
) -> Algorithm:
    """Builds FedDyn: each client's loss has a regulariser that follows its updates.

    If training converges, every regularised loss has its optimum at the optimum of the
    global loss (Acar et al. 2021, arXiv 2111.04263, Algorithm 1).

    Args:
      steps: the local steps of each client in a round.
      population: the number of all clients, including clients that never take part.
      alpha: strength of the regulariser, above 0.
    """
    return Algorithm(
        FedDynClient(steps, alpha),
        FedDynServer(alpha, population),
        processes.uniform(),
        needs_mean=True,
    )
