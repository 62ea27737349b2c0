"""Federated reconstruction: personal weights that clients do not keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Union

import tensorflow as tf

from tfl_research import autograph, clients, models
from tfl_research.algorithms.algorithm import Algorithm
from tfl_research.algorithms.personal.part import PersonalPart
from tfl_research.clients.client_work import ClientResult
from tfl_research.clients.local_training import personal_model
from tfl_research.processes.server_work import AVERAGING, OptimizerStep
from tfl_research.tasks.objectives import Objective


@dataclasses.dataclass(frozen=True)
class ReconstructionClient(clients.ClientWork):
    """FedRecon's client (Singhal et al. 2021, arXiv 2102.03448, Algorithm 1).

    The client first trains its local parameters l from their initial value on the
    support examples (the examples of the first steps), with the global parameters g
    fixed. Then it trains g on the query examples (the examples of the other steps),
    with l fixed. It sends the change of g, with zeros for l, and forgets l. The
    client's weight is its number of query examples, n_i = |D_i,q|. With several local
    epochs the same examples come again, so that support and query examples are disjoint
    only with one epoch.

    Attributes:
      steps: local steps of both parts.
      part: which tensors are l, and how the steps are divided between the parts.
    """

    steps: clients.LocalSteps
    part: PersonalPart = dataclasses.field(default_factory=PersonalPart)

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
                loop, self._start(model, server_weights), batches, round_number
            )
            return ClientResult(
                update=part.shared_update(run.weights, server_weights),
                num_examples=tf.cast(_query_examples(part, batches), tf.float32),
                sums=run.sums,
                model_state=run.model_state,
            )

        return client_function

    def build_personal(
        self, model: models.FunctionalModel, objective: Objective
    ) -> clients.PersonalFunction:
        """Builds the function that gives the server's g, and l trained on all steps."""
        loop = self.steps.loop(model, objective)
        self.part.check(model.weight_specs)

        def personal_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
        ) -> Union[list[tf.Tensor], clients.PersonalModel]:
            start = self._start(model, server_weights)
            run = self.part.train_personal(loop, start, batches, round_number)
            return personal_model(run, model)

        return personal_function

    def _start(
        self, model: models.FunctionalModel, server_weights: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
        initial = model.initial_weights[-self.part.tensors :]
        return self.part.joined(server_weights, [tf.constant(w) for w in initial])


def _query_examples(part: PersonalPart, batches: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Counts the distinct examples in the query steps, int32 `[]`."""
    seen = tf.reduce_sum(tf.cast(part.phases(batches)[1]["mask"], tf.int32))
    # Several epochs repeat examples, so `seen` may exceed the number of examples.
    return tf.minimum(seen, batches["num_examples"])


def build_reconstruction(
    steps: clients.LocalSteps,
    *,
    server: OptimizerStep = AVERAGING,
    personal_tensors: int = 2,
    personal_share: float = 0.5,
) -> Algorithm:
    """Builds federated reconstruction: clients train a personal part anew each time.

    Clients keep no state, so a client may take part only once (Singhal et al. 2021,
    arXiv 2102.03448, Algorithm 1).

    Args:
      steps: the local steps of each client in a round.
      server: the server's optimizer; it takes the mean update for a step by default.
      personal_tensors: how many of the last weight tensors are the personal part.
      personal_share: the share of the local steps that train the personal part; the
        other steps train the shared part.
    """
    part = PersonalPart(personal_tensors, personal_share)
    return Algorithm(ReconstructionClient(steps, part), server)
