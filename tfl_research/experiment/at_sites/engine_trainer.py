"""Trains at a site for a job of FLARE or Flower, in which the engine averages."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import runtime
from tfl_research.errors import SettingError
from tfl_research.experiment import setup as setups
from tfl_research.experiment.configs import Cohorts, Runtime
from tfl_research.experiment.description import Description
from tfl_research.experiment.running import building
from tfl_research.experiment.running.noise_keys import PUBLIC_SEED
from tfl_research.federation.engines.training_socket import Trained
from tfl_research.federation.wire.handler import Refused
from tfl_research.program import Evaluator
from tfl_research.tasks import Task

_WEIGHTS = ("examples", "uniform")


class EngineTrainer:
    """Executes rounds of an experiment on a site's own clients, for FLARE or Flower.

    All clients of the site train from the weights that the engine sends, and the site
    returns the mean of the clients' models. The engine averages the sites by the
    clients' weights, so that all sites together make a round of FedAvg with every
    client.

    Args:
      experiment: the experiment.
      own: the task with the site's examples.

    Raises:
      SettingError: the engine's average cannot execute the experiment.
    """

    def __init__(self, experiment: Description, own: Task):
        check(experiment)
        runtime.prepare("none")
        # Every round has all clients of this site, and no other clients.
        experiment = dataclasses.replace(
            experiment,
            cohorts=Cohorts("full"),
            runtime=Runtime("in_process"),
        )
        setup = setups.prepare(experiment, source=own)
        process = building.process(setup, noise_seed=PUBLIC_SEED)
        if process.client_states is not None:
            raise SettingError(
                f"--algorithm={experiment.chosen_algorithm.NAME}: clients keep a "
                "state, but the engine's average covers only weights; take part in our "
                "rounds (scripts/run --runtime=federation) instead"
            )
        self._task, self._setup = own, setup
        self._seed = experiment.training.seed
        self._engine = runtime.in_process(process)
        self._first = self._engine.initialize()
        self._uniform = experiment.resolved_weighting.client_weighting == "uniform"
        self._evaluator = Evaluator(own)

    def train(self, weights: Sequence[np.ndarray], round_number: int) -> Trained:
        """Computes the mean of the clients' models after their local steps.

        Args:
          weights: the trainable arrays, then the other arrays, in the model's order.
          round_number: the number of the round, from 1.

        Returns:
          The mean, the sum of the clients' weights, and the loss and metrics of the
          received model on the site's test examples.

        Raises:
          Refused: the arrays do not have the shapes of this model.
        """
        model = self._model(weights)
        ids = list(self._setup.task.train.client_ids)
        cohort = self._setup.task.train.cohort(
            ids, seed=self._seed, round_number=round_number
        )
        state = self._first._replace(
            global_model_weights=model,
            client_work=tf.constant(round_number - 1, tf.int32),
        )
        after, _ = self._engine.next(state, cohort)
        trained = after.global_model_weights
        counts = [self._setup.task.train.num_examples(client_id) for client_id in ids]
        return Trained(
            [np.asarray(w) for w in (*trained.trainable, *trained.non_trainable)],
            sum(count > 0 for count in counts) if self._uniform else sum(counts),
            self._metrics(model)[0],
        )

    def evaluate(self, weights: Sequence[np.ndarray]) -> Trained:
        """Computes loss and metrics of the model on the site's test examples."""
        metrics, examples = self._metrics(self._model(weights))
        return Trained([], examples, metrics)

    def _metrics(self, model: Any) -> tuple[dict[str, float], int]:
        found = self._evaluator.evaluate(model)
        finite = {k: float(v) for k, v in found.overall.items() if np.isfinite(v)}
        return finite, int(np.sum(found.examples))

    def _model(self, weights: Sequence[np.ndarray]) -> tff.learning.models.ModelWeights:
        held = self._first.global_model_weights
        expected = [*held.trainable, *held.non_trainable]
        shapes = [tuple(w.shape) for w in weights]
        if shapes != [tuple(np.shape(w)) for w in expected]:
            raise Refused(
                f"the engine sent arrays of shapes {shapes}, but the model has "
                f"{[tuple(np.shape(w)) for w in expected]}; export the job again"
            )
        values = [
            tf.constant(w, np.asarray(e).dtype) for w, e in zip(weights, expected)
        ]
        count = len(held.trainable)
        return tff.learning.models.ModelWeights(
            type(held.trainable)(values[:count]),
            type(held.non_trainable)(values[count:]),
        )


def first_weights(experiment: Description, task: Task) -> list[np.ndarray]:
    """Returns the first model of an experiment as arrays for a job.

    Args:
      experiment: the experiment, whose seed draws the model.
      task: the task that builds the model; its rows are not used.
    """
    model = task.functional_model(experiment.training.seed)
    return [np.asarray(w) for w in (*model.initial_weights, *model.initial_state)]


def check(experiment: Description) -> None:
    """Refuses settings that do not work if FLARE or Flower averages.

    Raises:
      SettingError: a setting does not work; the message says the fix.
    """
    chosen = experiment.chosen_aggregator
    weighting = experiment.resolved_weighting.client_weighting
    server = experiment.server_optimizer
    takes_mean = (
        server.optimizer == "sgd"
        and server.learning_rate == 1.0
        and not server.momentum
        and not server.scheduled
    )
    needless = {
        "privacy": experiment.privacy is not None,
        f"aggregator={experiment.aggregator_name}": (
            chosen is None or chosen.NAME != "mean"
        ),
        f"server_optimizer={server.optimizer}": not takes_mean,
        f"client_weighting={weighting}": weighting not in _WEIGHTS,
        "devices": experiment.devices.devices is not None,
        "attack": not experiment.attack.is_none,
        "audit": experiment.audit is not None,
        "train_on": experiment.baseline.train_on is not None,
    }
    for name, given in needless.items():
        if given:
            raise SettingError(
                f"--{name}: FLARE and Flower average the sites' models themselves and "
                "do not know this setting; leave it out, or take part in our rounds "
                "over the same engine (scripts/run --runtime=federation)"
            )
