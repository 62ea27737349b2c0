"""Mime and MimeLite: local steps with the server optimizer's statistics."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import autograph, clients, models
from tfl_research.algorithms.algorithm import Algorithm
from tfl_research.clients.local_loop import Minibatch
from tfl_research.clients.local_training import result_of
from tfl_research.processes.server_work import (
    AVERAGING,
    Aggregated,
    Nest,
    OptimizerStep,
    ServerWork,
)
from tfl_research.tasks.objectives import Objective

# Rounds of the process in one round of Mime.
_EXCHANGES = 2


def _trains(round_number: tf.Tensor) -> tf.Tensor:
    """Whether this round of the process, counted from 0, has the local steps.

    The server's state cannot count rounds: a skipped round does not change the state,
    but the sampler's pairs of rounds continue.
    """
    return tf.equal(tf.math.floormod(round_number, _EXCHANGES), 1)


def _paper_round(round_number: tf.Tensor) -> tf.Tensor:
    """Returns the paper's round, counted from 0; schedules count these rounds."""
    return tf.math.floordiv(round_number, _EXCHANGES)


def _limited(
    batches: Mapping[str, tf.Tensor], active: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Returns the local steps if `active` is true, otherwise no local steps."""
    limited = dict(batches)
    limited["num_steps"] = tf.where(active, batches["num_steps"], 0)
    limited["mask"] = batches["mask"] & active
    return limited


@dataclasses.dataclass(frozen=True)
class MimeLiteClient(clients.ClientWork):
    """MimeLite's client (Karimireddy et al. 2021, arXiv 2008.03606, Algorithm 1).

    Every local step is y <- y - eta U(g(y), s). The client does not change the
    optimizer statistics s that the server sent. U is the step that the optimizer takes
    from s, after it has updated its moments with g(y). So for Adam, U also updates the
    second moment with g(y)^2, as in TFF's MimeLite; the paper uses v as it is in s. The
    client sends y - x and reports the mean gradient of its examples at x. The server
    updates s with this gradient.

    Attributes:
      steps: the base optimizer and its learning rate.
    """

    steps: clients.LocalSteps

    def build(
        self, model: models.FunctionalModel, objective: Objective
    ) -> clients.ClientFunction:
        loop = self.steps.loop(model, objective)

        @autograph.function
        def client_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
            shared: Nest,
        ) -> clients.ClientResult:
            x = list(server_weights)
            s = loop.at_rate_of(shared, round_number)
            run = loop.run(x, batches, round_number, frozen_state=s)
            gradient, _ = loop.mean_gradient(x, batches)
            return result_of(run, x, batches, report=gradient)

        return client_function


@dataclasses.dataclass(frozen=True)
class MimeClient(clients.ClientWork):
    """Mime's client (Algorithm 1 of the same paper), in two exchanges.

    In the first exchange, clients report the mean gradient of their examples at x. The
    server averages these gradients to c. In the second exchange, with the same cohort,
    every local step is y <- y - eta U(g(y) - g(x) + c, s), where both gradients are of
    the same minibatch. The clients' data must have the same local steps in both
    exchanges (`data.ClientData.with_exchanges`), so that c is the mean gradient of the
    examples of the local steps, also if `max_examples` limits them. Schedules of
    learning rates count the rounds of the paper.

    Messages are the paper's: x, s and c to a client, and a gradient and an update from
    a client, in two exchanges. The bytes of an exchange are the mean over both.

    Attributes:
      steps: the base optimizer and its learning rate.
    """

    steps: clients.LocalSteps

    def encoded_bytes(self, model: models.FunctionalModel) -> int:
        """Bytes that a client sends in an exchange: a gradient or an update."""
        return _bytes_of(model.initial_weights)

    def reported_bytes(self, model: models.FunctionalModel) -> int:
        """0 bytes: `encoded_bytes` counts gradient and update; zeros are not sent."""
        return 0

    def received_bytes(self, model: models.FunctionalModel) -> int:
        """Half of the bytes of x, s and c, each of which is sent in one exchange."""
        state = self.steps.optimizer.initialize(model.weight_specs)
        s = [tf.convert_to_tensor(leaf).numpy() for leaf in tf.nest.flatten(state)]
        return (2 * _bytes_of(model.initial_weights) + _bytes_of(s)) // _EXCHANGES

    def build(
        self, model: models.FunctionalModel, objective: Objective
    ) -> clients.ClientFunction:
        loop = self.steps.loop(model, objective)

        @autograph.function
        def client_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
            shared: Nest,
        ) -> clients.ClientResult:
            x = list(server_weights)
            s, c = shared
            trains, round_number = _trains(round_number), _paper_round(round_number)
            s = loop.at_rate_of(s, round_number)

            def corrected(
                gradient: list[tf.Tensor], _: list[tf.Tensor], batch: Minibatch
            ) -> list[tf.Tensor]:
                at_x, _sums = loop.gradient_and_sums(x, batch)
                return [g - g_x + mean for g, g_x, mean in zip(gradient, at_x, c)]

            run = loop.run(
                x,
                _limited(batches, trains),
                round_number,
                adjust=corrected,
                frozen_state=s,
            )
            gradient, sums = loop.mean_gradient(
                x, _limited(batches, tf.logical_not(trains))
            )
            run = run._replace(sums=tf.nest.map_structure(tf.add, run.sums, sums))
            return result_of(run, x, batches, report=gradient)

        return client_function


@dataclasses.dataclass(frozen=True)
class MimeServer(ServerWork):
    """The server of Mime and MimeLite (Algorithm 1 of the same paper).

    x <- x + mean(y_i - x); s <- V(c, s), where c is the mean of the clients' gradients.

    Attributes:
      optimizer: the base optimizer, which the clients use too.
      step: step of the model; plain averaging in the paper.
      corrects: True for Mime, with two exchanges; False for MimeLite, with one
        exchange.
    """

    optimizer: tff.learning.optimizers.Optimizer
    step: OptimizerStep = AVERAGING
    corrects: bool = False

    def initial_state(self, weights: Sequence[tf.Tensor]) -> Nest:
        """Returns the state of the model's step, s and c."""
        specs = tuple(tf.TensorSpec(w.shape, w.dtype) for w in weights)
        s = tf.nest.map_structure(
            tf.convert_to_tensor, self.optimizer.initialize(specs)
        )
        c = [tf.zeros_like(w) for w in weights]
        return self.step.initial_state(weights), s, c

    def shared(self, weights: Sequence[tf.Tensor], state: Nest) -> Nest:
        """Sends s, and for Mime also c."""
        _, s, c = state
        return (s, list(c)) if self.corrects else s

    def apply(
        self, weights: Sequence[tf.Tensor], state: Nest, round_mean: Aggregated
    ) -> tuple[Sequence[tf.Tensor], Nest]:
        """Takes the server's step, in Mime after the second exchange of a round."""
        step_state, s, c = state
        trains, round_number = tf.constant(True), round_mean.round_number
        if self.corrects:
            trains, round_number = _trains(round_number), _paper_round(round_number)
            c = [tf.where(trains, old, new) for old, new in zip(c, round_mean.report)]
        else:
            c = list(round_mean.report)
        new_s, _ = self.optimizer.next(s, tuple(weights), tuple(c))
        new_weights, new_step = self.step.apply(
            weights, step_state, round_mean._replace(round_number=round_number)
        )

        def kept(new: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
            return tf.where(trains, new, old)

        return (
            tuple(kept(n, w) for n, w in zip(new_weights, weights)),
            (
                tf.nest.map_structure(kept, new_step, step_state),
                tf.nest.map_structure(kept, new_s, s),
                c,
            ),
        )


def _bytes_of(arrays: Sequence[np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays)


def build_mime_lite(
    steps: clients.LocalSteps, *, server: OptimizerStep = AVERAGING
) -> Algorithm:
    """Builds MimeLite: clients use the optimizer's statistics without changing them.

    The server updates the statistics with the gradients of the whole cohort
    (Karimireddy et al. 2021, arXiv 2008.03606, Algorithm 1).

    Args:
      steps: the local steps of each client in a round.
      server: the server's optimizer; it takes the mean update for a step by default.
    """
    return Algorithm(
        MimeLiteClient(steps), MimeServer(steps.optimizer, server), needs_mean=True
    )


def build_mime(
    steps: clients.LocalSteps, *, server: OptimizerStep = AVERAGING
) -> Algorithm:
    """Builds Mime: MimeLite with local gradients corrected by the cohort's gradient.

    The correction is the same as in SVRG (Karimireddy et al. 2021, arXiv 2008.03606,
    Algorithm 1).

    Args:
      steps: the local steps of each client in a round.
      server: the server's optimizer; it takes the mean update for a step by default.
    """
    return Algorithm(
        MimeClient(steps),
        MimeServer(steps.optimizer, server, corrects=True),
        exchanges=_EXCHANGES,
        needs_mean=True,
    )
