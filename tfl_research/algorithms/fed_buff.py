"""FedBuff: asynchronous clients with buffered updates, which may be stale."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Optional

import tensorflow as tf

from tfl_research import autograph, clients, models, processes
from tfl_research.algorithms.algorithm import Algorithm
from tfl_research.clients.local_training import check_no_statistics
from tfl_research.processes.server_work import (
    AVERAGING,
    Aggregated,
    Nest,
    OptimizerStep,
    ServerWork,
)
from tfl_research.tasks.objectives import Objective


@dataclasses.dataclass(frozen=True)
class FedBuffClient(clients.ClientWork):
    """A client that began some server steps ago (Nguyen et al. 2022, arXiv 2106.06639).

    The client trains from the model of s server steps ago, where s is its `staleness`,
    int32 `[]`. A schedule gives the learning rate of the server step at which the
    client began. The update is scaled by 1 / sqrt(1 + s) (section 5.1 of the paper).

    Attributes:
      base: the client work; its clients report nothing and keep no state.
    """

    base: clients.ClientWork

    @property
    def client_members(self) -> Mapping[str, tf.TensorSpec]:
        """Adds `staleness`, int32 `[]`."""
        return {"staleness": tf.TensorSpec([], tf.int32)}

    def encoded_bytes(self, model: models.FunctionalModel) -> Optional[int]:
        """Bytes of the update of the base client work."""
        return self.base.encoded_bytes(model)

    def received_bytes(self, model: models.FunctionalModel) -> int:
        """Bytes of the model from which the client begins; no other model is sent."""
        return sum(weights.nbytes for weights in model.initial_weights)

    def build(
        self, model: models.FunctionalModel, objective: Objective
    ) -> clients.ClientFunction:
        if model.averaged:
            check_no_statistics(
                model, "FedBuff", "stale clients would send old statistics"
            )
        base = self.base.build(model, objective)

        @autograph.function
        def client_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
            shared: Sequence[tf.Tensor],
        ) -> clients.ClientResult:
            del server_weights
            staleness = batches["staleness"]
            # A gather, because XLA would compile again for every index of a slice.
            start = [tf.gather(history, staleness) for history in shared]
            begun = tf.maximum(round_number - staleness, 0)
            result = base(start, batches, begun)
            scale = tf.math.rsqrt(1.0 + tf.cast(staleness, tf.float32))
            return result._replace(update=[scale * u for u in result.update])

        return client_function


@dataclasses.dataclass(frozen=True)
class FedBuffServer(ServerWork):
    """The server's step after a full buffer, and the models that clients begin from.

    The model moves by the sum of the scaled updates over the buffer's size
    (Algorithm 1). The buffer's size counts every client with a finite update, also a
    client without examples, whose update is zero. A buffer that does not move the model
    (`processes.ServerWork.wait`) is a server step all the same: the next clients are
    one step more stale.

    Attributes:
      step: the server optimizer.
      max_staleness: number of server steps for which a model is kept, at least 0.

    Raises:
      ValueError: `max_staleness` is negative.
    """

    step: OptimizerStep
    max_staleness: int
    weighs_reports = False
    averages_empty_updates = True

    def __post_init__(self) -> None:
        if self.max_staleness < 0:
            raise ValueError(
                f"max_staleness must be at least 0, got {self.max_staleness}"
            )

    def initial_state(self, weights: Sequence[tf.Tensor]) -> Nest:
        """Returns the optimizer's state, and the models by staleness.

        Each weight tensor is `[max_staleness + 1, ...]`.
        """
        kept = self.max_staleness + 1
        history = [tf.repeat(w[None], kept, axis=0) for w in weights]
        return self.step.initial_state(weights), history

    def shared(self, weights: Sequence[tf.Tensor], state: Nest) -> Nest:
        """Sends the models by staleness."""
        return list(state[1])

    def apply(
        self, weights: Sequence[tf.Tensor], state: Nest, round_mean: Aggregated
    ) -> tuple[Sequence[tf.Tensor], Nest]:
        """Takes the server's step, and keeps the new model for stale clients."""
        optimizer_state, history = state
        weights, optimizer_state = self.step.apply(weights, optimizer_state, round_mean)
        return weights, (optimizer_state, _shifted(weights, history))

    def wait(self, weights: Sequence[tf.Tensor], state: Nest) -> Nest:
        """Keeps the model, also as the model of one step ago; see `ServerWork.wait`."""
        optimizer_state, history = state
        return optimizer_state, _shifted(weights, history)


def _shifted(
    weights: Sequence[tf.Tensor], history: Sequence[tf.Tensor]
) -> list[tf.Tensor]:
    """Returns the models by staleness after a server step that ends at `weights`."""
    return [
        tf.concat([new[None], old[:-1]], axis=0) for new, old in zip(weights, history)
    ]


def build_fed_buff(
    base: clients.ClientWork,
    *,
    server: OptimizerStep = AVERAGING,
    max_staleness: int = 10,
) -> Algorithm:
    """Builds FedBuff: the server takes a step whenever enough clients have reported.

    A client that began with an older model counts less (Nguyen et al. 2022, arXiv
    2106.06639, Algorithm 1). `FedBuffClient` has the formula.

    Args:
      base: the client work; its clients report nothing and keep no state.
      server: the server's optimizer; it takes the mean update for a step by default.
      max_staleness: number of server steps for which a model is kept, at least 0.
    """
    return Algorithm(
        FedBuffClient(base), FedBuffServer(server, max_staleness), processes.uniform()
    )
