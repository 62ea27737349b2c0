"""IFCA: several global models; each client trains the model that fits it best."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfl_research import autograph, clients, models
from tfl_research.algorithms.algorithm import Algorithm
from tfl_research.clients.client_work import minibatch_of, without_padding
from tfl_research.clients.local_loop import LocalLoop
from tfl_research.clients.local_training import check_no_statistics, result_of
from tfl_research.data import derived_generator
from tfl_research.data.arrays import structures
from tfl_research.processes.server_work import Aggregated, Nest, ServerWork
from tfl_research.tasks.objectives import Objective
from tfl_research.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class IfcaClient(clients.ClientWork):
    """IFCA's client (Ghosh et al. 2020, arXiv 2006.04088, Algorithm 1, option II).

    The client computes the mean loss of the models theta_1..theta_k on its examples of
    the round. It picks the model with the least loss (the first, if several are equal)
    and trains this model. It reports its choice s_i, one-hot `[k]`, and for every model
    s_ij times the update, `[k, ...]`.

    Attributes:
      steps: steps of the local update (gamma is their learning rate, tau their number).
      clusters: k, the number of models.
    """

    steps: clients.LocalSteps
    clusters: int

    def reported_bytes(self, model: models.FunctionalModel) -> int:
        """Bytes of a client's choice; the update counts once, for the chosen model."""
        del model
        return 4

    def received_bytes(self, model: models.FunctionalModel) -> int:
        """Bytes of all models, which the server sends to every client."""
        return self.clusters * sum(w.nbytes for w in model.initial_weights)

    def build(
        self, model: models.FunctionalModel, objective: Objective
    ) -> clients.ClientFunction:
        check_no_statistics(
            model, "IFCA", "each of its models needs statistics of its own"
        )
        loop = self.steps.loop(model, objective)

        @autograph.function
        def client_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
            shared: Sequence[tf.Tensor],
        ) -> clients.ClientResult:
            del server_weights  # The mean of the models, which is not trained.
            models = list(shared)
            choice = best_model(loop, models, batches)
            start = [tf.gather(m, choice) for m in models]
            run = loop.run(start, batches, round_number)
            picked = tf.one_hot(choice, models[0].shape[0])
            result = result_of(run, start, batches)
            updates = [tf.tensordot(picked, u, 0) for u in result.update]
            return result._replace(report=(picked, updates))

        return client_function

    def build_personal(
        self, model: models.FunctionalModel, objective: Objective
    ) -> clients.PersonalFunction:
        """Builds the function that gives the model that a client picks, untrained.

        A client without examples cannot pick a model; it gets the mean of the models.
        """
        loop = self.steps.loop(model, objective)

        def personal_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
            shared: Sequence[tf.Tensor],
        ) -> list[tf.Tensor]:
            del round_number
            models, some = list(shared), batches["num_examples"] > 0
            choice = best_model(loop, models, batches)
            return [
                tf.where(some, tf.gather(m, choice), w)
                for m, w in zip(models, server_weights)
            ]

        return personal_function


def best_model(
    loop: LocalLoop, models: Sequence[tf.Tensor], batches: Mapping[str, tf.Tensor]
) -> tf.Tensor:
    """Finds the model with the least loss on the examples of the local steps.

    Args:
      loop: model and objective.
      models: weight tensors of all models, each `[k, ...]`.
      batches: see `clients.ClientFunction`.

    Returns:
      The index of the model, int32 `[]`; the first of several with the same loss.
    """
    count = int(models[0].shape[0])
    candidates = [[m[j] for m in models] for j in range(count)]

    state = loop.model_state(batches)

    def add_step(step: tf.Tensor, total: tf.Tensor) -> tuple:
        examples: Mapping[str, Any] = minibatch_of(batches, step)
        if loop.model.predicts_no_padding:
            examples = without_padding(examples)
        x = structures.packed(examples, "x")
        losses = [
            loop.objective.losses(examples, loop.model.predict(weights, state, x))
            for weights in candidates
        ]
        return step + 1, total + tf.stack(
            [clients.masked_sum(each, examples["mask"]) for each in losses]
        )

    _, total = tf.while_loop(
        lambda step, _: step < batches["num_steps"], add_step, (0, tf.zeros([count]))
    )
    # No client picks a model that diverged.
    total = tf.where(tf.math.is_nan(total), tf.constant(float("inf")), total)
    return tf.argmin(total, output_type=tf.int32)


@dataclasses.dataclass(frozen=True)
class IfcaServer(ServerWork):
    """IFCA's server: each model moves by the mean update of the clients that chose it.

    With client weights p_i, theta_j <- theta_j + sum_i p_i s_ij u_i / sum_i p_i s_ij.
    A model that no client chose does not change. The global model, which is evaluated
    and exported, is the mean of the models, weighted by the weights of the clients that
    chose each model in the last round. Before the first round it is theta_1.

    Attributes:
      initial_models: the initial theta_1..theta_k, each a list of arrays.

    Raises:
      ValueError: fewer than 2 models.
    """

    initial_models: Sequence[Sequence[np.ndarray]]

    def __post_init__(self) -> None:
        if len(self.initial_models) < 2:
            raise ValueError(
                f"expected at least 2 cluster models, got {len(self.initial_models)}"
            )

    def initial_state(self, weights: Sequence[tf.Tensor]) -> Nest:
        """Returns the models, tensors `[k, ...]`."""
        del weights
        return [tf.constant(np.stack(each)) for each in zip(*self.initial_models)]

    def shared(self, weights: Sequence[tf.Tensor], state: Nest) -> Nest:
        """Sends the models."""
        del weights
        return list(state)

    def apply(
        self, weights: Sequence[tf.Tensor], state: Nest, round_mean: Aggregated
    ) -> tuple[Sequence[tf.Tensor], Nest]:
        """Moves each model by the mean update of the clients that chose that model.

        Args:
          weights: the global model; not used.
          state: the models, tensors `[k, ...]`.
          round_mean: the report has the shares and the mean updates; the aggregator's
            own result is not used.

        Returns:
          The next global model, and the next models.
        """
        share, updates = round_mean.report
        models = [
            model + tf.math.divide_no_nan(update, _beside(share, update))
            for model, update in zip(state, updates)
        ]
        return tuple(tf.tensordot(share, model, 1) for model in models), models


def _beside(share: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Reshapes `[k]` to `[k, 1, ...]`, so that it scales tensors shaped like `like`."""
    return tf.reshape(share, [-1] + [1] * (len(like.shape) - 1))


def cluster_models(
    task: Task, clusters: int, seed: int = 0
) -> list[tuple[np.ndarray, ...]]:
    """Returns initial weights of a task's model for the seeds `seed`, `seed` + 1, ...

    If the initial weights do not depend on the seed (a linear model that begins at
    zero), all clients would stay in the first cluster. In this case normal noise of
    standard deviation 0.1 is added to every model except the first.
    """
    models = [task.functional_model(seed + j).initial_weights for j in range(clusters)]
    return [
        _moved(weights, derived_generator("cluster model", seed, j))
        if j and all(np.array_equal(w, f) for w, f in zip(weights, models[0]))
        else weights
        for j, weights in enumerate(models)
    ]


def _moved(
    weights: Sequence[np.ndarray], generator: np.random.Generator
) -> tuple[np.ndarray, ...]:
    return tuple(
        (w + 0.1 * generator.normal(size=w.shape)).astype(w.dtype) for w in weights
    )


def build_ifca(
    steps: clients.LocalSteps, initial_models: Sequence[Sequence[np.ndarray]]
) -> Algorithm:
    """Builds IFCA: several global models; each client trains the model that fits best.

    That model has the least loss on the client's examples (Ghosh et al. 2020, arXiv
    2006.04088, Algorithm 1, option II). Clients send their updates within their
    reports, which are always averaged. So an aggregator other than the mean would have
    no effect.

    Args:
      steps: the local steps of each client in a round.
      initial_models: initial weights of each cluster's model, see `cluster_models`.
    """
    return Algorithm(
        IfcaClient(steps, len(initial_models)),
        IfcaServer(tuple(initial_models)),
        needs_mean=True,
    )
