"""Ditto: personal models that are pulled towards the global model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Union

import numpy as np
import tensorflow as tf

from tfl_research import autograph, clients, models
from tfl_research.algorithms.algorithm import Algorithm
from tfl_research.clients.local_training import personal_model, proximal, result_of
from tfl_research.clients.vectors import from_vector, size_of, to_vector
from tfl_research.processes.server_work import AVERAGING, OptimizerStep
from tfl_research.tasks.objectives import Objective


@dataclasses.dataclass(frozen=True)
class DittoClient(clients.ClientWork):
    """Ditto's client (Li et al. 2021, arXiv 2012.04221, Algorithm 1).

    The client trains the server's model w_t as in FedAvg and sends the update. It also
    takes the same local steps with its personal model v_k on
    h_k(v; w_t) = F_k(v) + lambda/2 ||v - w_t||^2. The client keeps v_k, which begins
    at the initial weights w_0. The client's state is v_k - w_0.

    Attributes:
      steps: local steps of both models.
      strength: lambda, at least 0; with 0 each client trains its personal model alone.

    Raises:
      ValueError: the strength is negative.
    """

    steps: clients.LocalSteps
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.strength < 0:
            raise ValueError(f"strength must be at least 0, got {self.strength}")

    def initial_client_state(self, model: models.FunctionalModel) -> np.ndarray:
        """Returns v_k - w_0 = 0."""
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
            start = list(server_weights)
            run = loop.run(start, batches, round_number)
            personal = loop.run(
                _personal_model(model, batches["client_state"]),
                batches,
                round_number,
                adjust=proximal(start, self.strength),
            )
            offset = [
                v - w_0 for v, w_0 in zip(personal.weights, model.initial_weights)
            ]
            # Adding and subtracting w_0 rounds, so a client without steps keeps its
            # state as it is.
            stepped = personal.num_steps > 0
            state = tf.where(stepped, to_vector(offset), batches["client_state"])
            return result_of(run, start, batches, client_state=state)

        return client_function

    def build_personal(
        self, model: models.FunctionalModel, objective: Objective
    ) -> clients.PersonalFunction:
        """Builds the function that gives v_k after one more round of local steps.

        For a client that never took part, v_k begins at the server's model and not at
        w_0. For a client without examples, v_k does not change.
        """
        loop = self.steps.loop(model, objective)

        def personal_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
        ) -> Union[list[tf.Tensor], clients.PersonalModel]:
            center, state = list(server_weights), batches["client_state"]
            took_part = tf.reduce_any(tf.not_equal(state, 0.0))
            kept = _personal_model(model, state)
            run = loop.run(
                [tf.where(took_part, v, w) for v, w in zip(kept, center)],
                batches,
                round_number,
                adjust=proximal(center, self.strength),
            )
            return personal_model(run, model)

        return personal_function


def _personal_model(model: models.FunctionalModel, state: tf.Tensor) -> list[tf.Tensor]:
    offset = from_vector(state, model.weight_specs)
    return [w_0 + difference for w_0, difference in zip(model.initial_weights, offset)]


def build_ditto(
    steps: clients.LocalSteps,
    *,
    server: OptimizerStep = AVERAGING,
    strength: float = 1.0,
) -> Algorithm:
    """Builds Ditto: FedAvg in which each client also trains a personal model.

    The personal model is pulled to the global model, and does not change the global
    model (Li et al. 2021, arXiv 2012.04221, Algorithm 1). `DittoClient` has the
    client's part.

    Args:
      steps: the local steps of each client in a round.
      server: the server's optimizer; it takes the mean update for a step by default.
      strength: the strength of the pull, λ in the paper; at least 0.
    """
    return Algorithm(DittoClient(steps, strength), server)
