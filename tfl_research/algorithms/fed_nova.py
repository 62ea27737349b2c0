"""FedNova: the mean of updates that are normalised by the number of local steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from tfl_research import autograph, clients, models
from tfl_research.algorithms.algorithm import Algorithm
from tfl_research.clients.local_training import proximal, result_of
from tfl_research.processes.server_work import (
    AVERAGING,
    Aggregated,
    OptimizerStep,
    ReportedStep,
)
from tfl_research.tasks.objectives import Objective


@dataclasses.dataclass(frozen=True)
class FedNovaClient(clients.ClientWork):
    """FedNova's client (Wang et al. 2020, arXiv 2007.07481, equation 8).

    A local update is -eta sum_k a_k g_k. The client sends the update divided by
    ||a||_1, and reports ||a||_1. After tau steps ||a||_1 is (section 4.1 of the paper):
    SGD: tau. With momentum rho: (tau - rho (1 - rho^tau) / (1 - rho)) / (1 - rho).
    With a proximal term mu: (1 - (1 - eta mu)^tau) / (eta mu).

    Attributes:
      steps: SGD, plain or with momentum.
      proximal_strength: mu, at least 0.

    Raises:
      ValueError: the optimizer is not SGD, mu is negative, or there is a proximal term
        together with momentum, with clipping (which also shrinks the proximal term, by
        different factors at different steps) or with eta mu above 1 (which changes the
        sign of a_k).
    """

    steps: clients.LocalSteps
    proximal_strength: float = 0.0

    def __post_init__(self) -> None:
        optimizer = self.steps.optimizer
        hparams = optimizer.get_hparams(
            optimizer.initialize((tf.TensorSpec([1], tf.float32),))
        )
        if not {"learning_rate"} <= set(hparams) <= {"learning_rate", "momentum"}:
            raise ValueError(
                "FedNova needs SGD at the clients, plain or with momentum, got "
                f"hyperparameters {sorted(hparams)}"
            )
        if self.proximal_strength < 0:
            raise ValueError(
                f"proximal_strength must be at least 0, got {self.proximal_strength}"
            )
        if self.proximal_strength and "momentum" in hparams:
            raise ValueError(
                "FedNova takes momentum or a proximal term, not both, got momentum "
                f"{hparams['momentum']} and mu {self.proximal_strength}"
            )
        if self.proximal_strength and self.steps.gradient_clip_norm is not None:
            raise ValueError(
                "FedNova takes gradient clipping or a proximal term, not both, got "
                f"clip norm {self.steps.gradient_clip_norm} and mu "
                f"{self.proximal_strength}"
            )
        shrink = self.proximal_strength * float(hparams["learning_rate"])
        if shrink > 1:
            raise ValueError(
                "learning rate times proximal_strength must be at most 1 under "
                f"FedNova, got {shrink:g}"
            )

    def _norm(
        self, loop: clients.LocalLoop, tau: tf.Tensor, rate: tf.Tensor
    ) -> tf.Tensor:
        optimizer = self.steps.optimizer
        hparams = optimizer.get_hparams(optimizer.initialize(loop.model.weight_specs))
        if "momentum" in hparams:
            rho = tf.cast(hparams["momentum"], tf.float32)
            return (tau - rho * (1.0 - rho**tau) / (1.0 - rho)) / (1.0 - rho)
        if self.proximal_strength:
            shrink = rate * self.proximal_strength
            total = tf.math.divide_no_nan(1.0 - (1.0 - shrink) ** tau, shrink)
            # The limit for a schedule's rate of 0.
            return tf.where(shrink > 0, total, tau)
        return tau

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
            run = loop.run(
                start,
                batches,
                round_number,
                adjust=proximal(start, self.proximal_strength),
            )
            norm = self._norm(loop, run.num_steps, loop.learning_rate(round_number))
            result = result_of(run, start, batches, report=norm)
            return result._replace(
                update=[tf.math.divide_no_nan(u, norm) for u in result.update]
            )

        return client_function


@dataclasses.dataclass(frozen=True)
class FedNovaServer(ReportedStep):
    """x <- x + tau_eff sum_i p_i d_i with tau_eff = sum_i p_i ||a_i||_1.

    This is equation 8 of the paper (Wang et al. 2020, arXiv 2007.07481), with the
    tau_eff of local updates that are not normalised. If all clients take the same
    number of steps, this is FedAvg (with a proximal term, FedProx). The server
    optimizer takes the step.

    With a proximal term mu, the authors' code (JYWa/FedNova) has another tau_eff: the
    mean number of steps sum_i p_i tau_i. Their code divides updates by ||a_i||_1, as
    here. Since ||a_i||_1 = (1 - (1 - eta mu)^tau_i) / (eta mu) is at most tau_i, their
    step is longer by the factor sum_i p_i tau_i / sum_i p_i ||a_i||_1, even if all
    clients take the same number of steps. A server learning rate of this factor gives
    their step. Without a proximal term, both steps are the same.
    """

    def corrected(self, round_mean: Aggregated) -> Sequence[tf.Tensor]:
        return [round_mean.report * u for u in round_mean.update]


def build_fed_nova(
    steps: clients.LocalSteps,
    *,
    server: OptimizerStep = AVERAGING,
    proximal_strength: float = 0.0,
) -> Algorithm:
    """Builds FedNova: clients with more steps do not count more.

    Each update is divided by the client's number of steps, and the mean update is
    multiplied by the mean number of steps (Wang et al. 2020, arXiv 2007.07481, equation
    8). `FedNovaClient` says which norm stands for the number of steps if SGD has
    momentum or a proximal term.

    Args:
      steps: the local steps of each client in a round.
      server: the server's optimizer; it takes the mean update for a step by default.
      proximal_strength: the strength of FedProx's pull to the server's model; 0 is
        none.
    """
    return Algorithm(
        FedNovaClient(steps, proximal_strength),
        FedNovaServer(server),
        needs_mean=True,
    )
