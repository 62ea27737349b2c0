"""FedExP: a server step that extrapolates where clients disagree."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from tfl_research import clients
from tfl_research.algorithms.algorithm import Algorithm
from tfl_research.processes.server_work import Aggregated, Nest
from tfl_research.tasks.objectives import Objective


def squared_norm(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """float32 scalar, the squared l2 norm of all tensors together."""
    return tf.add_n([tf.reduce_sum(tf.square(t)) for t in tensors])


@dataclasses.dataclass(frozen=True)
class ReportsSquaredNorm:
    """Client work whose clients also report ||update||^2.

    Attributes:
      base: the client work; its clients report nothing and keep no state.
    """

    base: clients.ClientWork

    def build(
        self, model: clients.FunctionalModel, objective: Objective
    ) -> clients.ClientFunction:
        """See `ClientWork.build`."""
        base = self.base.build(model, objective)

        @tf.function
        def client_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
        ) -> clients.ClientResult:
            result = base(server_weights, batches, round_number)
            return result._replace(report=squared_norm(result.update))

        return client_function


@dataclasses.dataclass(frozen=True)
class FedExPServer:
    """The extrapolated step (Jhunjhunwala et al. 2023, arXiv 2301.09604, equation 6).

    x <- x + eta_g mean with
    eta_g = max(1, mean ||update_i||^2 / (2 (||mean||^2 + epsilon))).

    Attributes:
      epsilon: above 0; keeps eta_g bounded where the mean is near zero.

    Raises:
      ValueError: epsilon is not above 0.
    """

    epsilon: float = 1e-3
    weighs_reports: bool = True

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"epsilon must be above 0, got {self.epsilon}")

    def initial_state(self, weights: Sequence[tf.Tensor]) -> Nest:
        """The last eta_g, for those who look at the state."""
        return tf.constant(1.0)

    def shared(self, weights: Sequence[tf.Tensor], state: Nest) -> Nest:
        """Nothing."""
        return None

    def apply(
        self, weights: Sequence[tf.Tensor], state: Nest, round_mean: Aggregated
    ) -> tuple[Sequence[tf.Tensor], Nest]:
        """See the class."""
        scale = 2.0 * (squared_norm(round_mean.update) + self.epsilon)
        eta = tf.maximum(1.0, round_mean.report / scale)
        return tuple(w + eta * u for w, u in zip(weights, round_mean.update)), eta


def fed_exp(base: clients.ClientWork, *, epsilon: float = 1e-3) -> Algorithm:
    """FedExP over any client work without state; see `FedExPServer`."""
    return Algorithm(ReportsSquaredNorm(base), FedExPServer(epsilon), needs_mean=True)
