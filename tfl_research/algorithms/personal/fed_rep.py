"""FedRep: a shared body, and a personal head for each client."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Union

import numpy as np
import tensorflow as tf

from tfl_research import autograph, clients, models
from tfl_research.algorithms.algorithm import Algorithm
from tfl_research.algorithms.personal.part import PersonalPart
from tfl_research.clients.client_work import ClientResult
from tfl_research.clients.local_training import personal_model
from tfl_research.clients.vectors import from_vector, to_vector
from tfl_research.processes.server_work import AVERAGING, OptimizerStep
from tfl_research.tasks.objectives import Objective


@dataclasses.dataclass(frozen=True)
class FedRepClient(clients.ClientWork):
    """FedRep's client (Collins et al. 2021, arXiv 2102.07078, Algorithm 1).

    The client begins with the server's body phi and its own head h_i. It first takes
    steps on h_i with phi fixed, then on phi with h_i fixed. It sends the change of phi,
    with zeros for the head. It keeps h_i as its state.

    Attributes:
      steps: local steps of both parts.
      part: which tensors are the head, and how the steps are divided between the parts.
    """

    steps: clients.LocalSteps
    part: PersonalPart = dataclasses.field(default_factory=PersonalPart)

    def initial_client_state(self, model: models.FunctionalModel) -> np.ndarray:
        """Returns the head of the initial weights."""
        self.part.check(model.weight_specs)
        head = model.initial_weights[-self.part.tensors :]
        return np.concatenate([np.ravel(h) for h in head]).astype(np.float32)

    def encoded_bytes(self, model: models.FunctionalModel) -> int:
        """Bytes of an update; the client does not send the personal part."""
        return self.part.shared_bytes(model)

    def received_bytes(self, model: models.FunctionalModel) -> int:
        """Bytes that the server sends to a client."""
        return self.part.shared_bytes(model)

    def build(
        self, model: models.FunctionalModel, objective: Objective
    ) -> clients.ClientFunction:
        loop, part = self.steps.loop(model, objective), self.part
        part.check(model.weight_specs)

        @autograph.function
        def client_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
        ) -> ClientResult:
            run = part.train(
                loop, self._start(model, server_weights, batches), batches, round_number
            )
            return ClientResult(
                update=part.shared_update(run.weights, server_weights),
                num_examples=tf.cast(batches["num_examples"], tf.float32),
                sums=run.sums,
                client_state=to_vector(part.of(run.weights)),
                model_state=run.model_state,
            )

        return client_function

    def build_personal(
        self, model: models.FunctionalModel, objective: Objective
    ) -> clients.PersonalFunction:
        """Builds the function that gives the server's body and the client's head.

        The head is first trained with all local steps of a round.
        """
        loop = self.steps.loop(model, objective)
        self.part.check(model.weight_specs)

        def personal_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
        ) -> Union[list[tf.Tensor], clients.PersonalModel]:
            start = self._start(model, server_weights, batches)
            run = self.part.train_personal(loop, start, batches, round_number)
            return personal_model(run, model)

        return personal_function

    def _start(
        self,
        model: models.FunctionalModel,
        server_weights: Sequence[tf.Tensor],
        batches: Mapping[str, tf.Tensor],
    ) -> list[tf.Tensor]:
        specs = model.weight_specs[-self.part.tensors :]
        head = from_vector(batches["client_state"], specs)
        return self.part.joined(server_weights, head)


def build_fed_rep(
    steps: clients.LocalSteps,
    *,
    server: OptimizerStep = AVERAGING,
    personal_tensors: int = 2,
    personal_share: float = 0.5,
) -> Algorithm:
    """Builds FedRep: clients share the body of a model, and each keeps a head.

    The head of the global model keeps its initial weights, since no client sends it
    (Collins et al. 2021, arXiv 2102.07078, Algorithm 1).

    Args:
      steps: the local steps of each client in a round.
      server: the server's optimizer; it takes the mean update for a step by default.
      personal_tensors: how many of the last weight tensors are the head.
      personal_share: the share of the local steps that train the head; the other
        steps train the body.
    """
    part = PersonalPart(personal_tensors, personal_share)
    return Algorithm(FedRepClient(steps, part), server)
