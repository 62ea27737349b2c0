"""Local training, the client work of FedAvg and FedProx."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional, Union

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import autograph
from tfl_research.clients.client_work import (
    ClientFunction,
    ClientResult,
    ClientWork,
    PersonalFunction,
    PersonalModel,
)
from tfl_research.clients.local_loop import (
    Adjust,
    LocalRun,
    LocalSteps,
)
from tfl_research.models.functional_model import FunctionalModel
from tfl_research.tasks.objectives import Objective


@dataclasses.dataclass(frozen=True)
class LocalTraining(ClientWork):
    """Local minibatch optimisation from the server's weights.

    This is ClientUpdate (McMahan et al. 2017, arXiv 1602.05629, Algorithm 1) with any
    TFF optimizer. With a proximal term it is FedProx's inexact local solver (Li et al.
    2020, arXiv 1812.06127, Algorithm 2, equation 2): h_k(w; w_t) = F_k(w) + mu/2 ||w -
    w_t||^2.

    Attributes:
      steps: optimizer, clipping (of the gradient with the proximal term) and learning
        rate.
      proximal_strength: mu, at least 0; 0 for no proximal term.

    Raises:
      ValueError: the proximal strength is negative.
    """

    steps: LocalSteps
    proximal_strength: float = 0.0

    def __post_init__(self) -> None:
        if self.proximal_strength < 0:
            raise ValueError(
                f"proximal_strength must be at least 0, got {self.proximal_strength}"
            )

    def build(self, model: FunctionalModel, objective: Objective) -> ClientFunction:
        loop = self.steps.loop(model, objective)

        @autograph.function
        def client_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
        ) -> ClientResult:
            start = list(server_weights)
            run = loop.run(
                start,
                batches,
                round_number,
                adjust=proximal(start, self.proximal_strength),
            )
            return result_of(run, start, batches)

        return client_function

    def build_personal(
        self, model: FunctionalModel, objective: Objective
    ) -> PersonalFunction:
        """Builds fine-tuning: the client's local steps from the server's model."""
        loop = self.steps.loop(model, objective)

        def personal_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
        ) -> Union[list[tf.Tensor], PersonalModel]:
            start = list(server_weights)
            run = loop.run(
                start,
                batches,
                round_number,
                adjust=proximal(start, self.proximal_strength),
            )
            return personal_model(run, model)

        return personal_function


def proximal(center: Sequence[tf.Tensor], strength: float) -> Optional[Adjust]:
    """Adds the gradient of mu/2 ||w - center||^2; None for a strength of 0."""
    if not strength:
        return None
    return lambda gradient, weights, _: [
        g + strength * (w - c) for g, w, c in zip(gradient, weights, center)
    ]


def result_of(
    run: LocalRun,
    start: Sequence[tf.Tensor],
    batches: Mapping[str, tf.Tensor],
    **further: Any,
) -> ClientResult:
    """Builds the client's result; the update is the change by the local steps.

    Args:
      run: the local steps' result, from `start`.
      start: the server's weights.
      batches: the local steps.
      further: further fields of `ClientResult`, such as report and client state.
    """
    return ClientResult(
        update=[w - w_t for w, w_t in zip(run.weights, start)],
        num_examples=tf.cast(batches["num_examples"], tf.float32),
        sums=run.sums,
        model_state=run.model_state,
        **further,
    )


def personal_model(
    run: LocalRun, model: FunctionalModel
) -> Union[list[tf.Tensor], PersonalModel]:
    """The result of a `PersonalFunction` after these local steps."""
    if not model.changing:
        return run.weights
    return PersonalModel(run.weights, run.model_state)


def check_no_statistics(model: FunctionalModel, algorithm: str, reason: str) -> None:
    """Refuses a model whose non-trainable weights change, for an algorithm.

    Raises:
      ValueError: training changes the model's non-trainable weights.
    """
    if model.changing:
        raise ValueError(
            f"{algorithm} cannot train a model whose non-trainable weights "
            f"({model.state_names[model.changing[0]]}) are {model.non_trainable}: "
            f"{reason}; give non_trainable='frozen', or use GroupNormalization"
        )


def local_training(
    *,
    optimizer: tff.learning.optimizers.Optimizer,
    proximal_strength: float = 0.0,
    gradient_clip_norm: Optional[float] = None,
    learning_rate_schedule: Optional[Callable[[tf.Tensor], tf.Tensor]] = None,
) -> LocalTraining:
    """Makes the client work of FedAvg, or of FedProx with a proximal strength.

    See `LocalTraining` and `LocalSteps` for the arguments and the errors.
    """
    steps = LocalSteps(optimizer, gradient_clip_norm, learning_rate_schedule)
    return LocalTraining(steps, proximal_strength)
