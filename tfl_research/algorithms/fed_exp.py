"""FedExP: a server step that extrapolates when clients disagree."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Optional

import tensorflow as tf

from tfl_research import autograph, clients, models
from tfl_research.algorithms.algorithm import Algorithm
from tfl_research.processes.server_work import Aggregated, Nest, ServerWork
from tfl_research.tasks.objectives import Objective


def squared_norm(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Computes the squared l2 norm of all tensors together, float32 `[]`."""
    return tf.add_n([tf.reduce_sum(tf.square(t)) for t in tensors])


@dataclasses.dataclass(frozen=True)
class ReportsSquaredNorm(clients.ClientWork):
    """Client work whose clients also report ||update||^2.

    If the server shares a model, clients begin at the shared model.

    Attributes:
      base: the client work; its clients report nothing and keep no state.
    """

    base: clients.ClientWork

    def encoded_bytes(self, model: models.FunctionalModel) -> Optional[int]:
        """Bytes of the update of the base client work."""
        return self.base.encoded_bytes(model)

    def received_bytes(self, model: models.FunctionalModel) -> int:
        """Bytes of the model from which the client begins."""
        return sum(weights.nbytes for weights in model.initial_weights)

    def build(
        self, model: models.FunctionalModel, objective: Objective
    ) -> clients.ClientFunction:
        base = self.base.build(model, objective)

        @autograph.function
        def client_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
            *shared: Sequence[tf.Tensor],
        ) -> clients.ClientResult:
            start = shared[0] if shared else server_weights
            result = base(start, batches, round_number)
            return result._replace(report=squared_norm(result.update))

        return client_function


@dataclasses.dataclass(frozen=True)
class FedExPServer(ServerWork):
    """The extrapolated step (Jhunjhunwala et al. 2023, arXiv 2301.09604, equation 6).

    x <- x + eta_g mean with
    eta_g = max(1, mean ||update_i||^2 / (2 (||mean||^2 + epsilon))).

    The authors' code (Divyansh03/FedExP) has |S| epsilon instead of epsilon, for a
    cohort of |S| clients, and multiplies epsilon by 0.998^2 in every round, as it
    multiplies the clients' learning rate by 0.998. So its epsilon of 0.001 (0.1 for
    EMNIST) is |S| times as large here. Here epsilon is constant, as in the paper.

    Extrapolated steps tend to oscillate, so the paper's experiments evaluate the mean
    of the last two x. With `averages`, this mean is the global model, and the server
    sends the last x to clients. In round one, the global model is the mean of the
    initial x and the first x; the authors' code evaluates only the first x.

    Attributes:
      epsilon: above 0, in units of ||mean||^2; keeps eta_g bounded when the mean is
        near zero.
      averages: whether the global model is the mean of the last two x.

    Raises:
      ValueError: epsilon is not above 0.
    """

    epsilon: float = 1e-3
    averages: bool = False

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"epsilon must be above 0, got {self.epsilon}")

    def initial_state(self, weights: Sequence[tf.Tensor]) -> Nest:
        """Returns the last eta_g, for information, and x unless it is the model."""
        return tf.constant(1.0), list(weights) if self.averages else ()

    def shared(self, weights: Sequence[tf.Tensor], state: Nest) -> Nest:
        """Sends x unless x is the global model."""
        return list(state[1]) if self.averages else None

    def apply(
        self, weights: Sequence[tf.Tensor], state: Nest, round_mean: Aggregated
    ) -> tuple[Sequence[tf.Tensor], Nest]:
        scale = 2.0 * (squared_norm(round_mean.update) + self.epsilon)
        eta = tf.maximum(1.0, round_mean.report / scale)
        x = list(state[1]) if self.averages else list(weights)
        new = [w + eta * u for w, u in zip(x, round_mean.update)]
        if not self.averages:
            return tuple(new), (eta, ())
        return tuple(0.5 * (a + b) for a, b in zip(x, new)), (eta, new)


def build_fed_exp(
    base: clients.ClientWork, *, epsilon: float = 1e-3, averages: bool = False
) -> Algorithm:
    """Builds FedExP: the more the updates disagree, the longer the server's step is.

    The step is that of Jhunjhunwala et al. 2023 (arXiv 2301.09604, equation 6).

    Args:
      base: the client work; its clients report nothing and keep no state.
      epsilon: is added to the squared norm of the mean update, above 0.
      averages: whether the global model is the mean of the server's last two points.
    """
    return Algorithm(
        ReportsSquaredNorm(base), FedExPServer(epsilon, averages), needs_mean=True
    )
