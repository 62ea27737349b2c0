"""Evaluation of every client's personal model on the client's own test examples."""

from __future__ import annotations

import collections
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Optional, TextIO

import numpy as np
import tensorflow as tf
import tqdm

from tfl_research import autograph, models
from tfl_research.clients import PersonalModel
from tfl_research.clients.local_state import own_state
from tfl_research.data import ClientData, Examples, PoissonBatching, structures
from tfl_research.program.evaluation.client_metrics import Evaluation
from tfl_research.program.evaluation.evaluator import StateRows, joined
from tfl_research.program.evaluation.personal_metrics import PersonalEvaluation
from tfl_research.tasks.objectives import labels_of
from tfl_research.tasks.task import Task

# (server weights, local steps, round number[, shared]) -> personal weights.
PersonalFunction = Callable[..., Any]


class ClientModels(NamedTuple):
    """The models of a client, each with its non-trainable weights.

    Attributes:
      weights: the weights of the global model.
      state: the server's non-trainable weights, or those that the client keeps.
      own_weights: the weights of the personal model.
      own_state: non-trainable weights of the personal model.
      train_examples: distinct examples that the personal model was trained on.
    """

    weights: Sequence[tf.Tensor]
    state: Sequence[Any]
    own_weights: Sequence[tf.Tensor]
    own_state: Sequence[Any]
    train_examples: int


class _Sent(NamedTuple):
    """What the server sends to every client."""

    weights: list[tf.Tensor]
    state: tuple[tf.Tensor, ...]
    shared: tuple[Any, ...]


class _Result(NamedTuple):
    """A model's sums on a client's test examples, and their labels and predictions.

    There are no predictions if no metric needs them.
    """

    sums: Mapping[str, np.ndarray]
    y: Any
    predictions: Sequence[Any]


class PersonalEvaluator:
    """Trains the clients' personal models one after another and evaluates each.

    A client takes the local steps of the round after the evaluated model's round. One
    graph serves clients of every size, and one client is in memory at a time. All test
    examples are evaluated, also where `max_evaluation_examples` is set.

    Args:
      task: the task; its clients without test examples are left out.
      personal: computes a client's personal weights.
      model: the task's functional model. The global model has the server's
        non-trainable weights, or those that the client keeps. So has a personal model,
        unless `personal` returns a `clients.PersonalModel`.
      shared: (global weights, server state) -> the values that the server sends in
        addition to the model; None for no values.
      seed: seed of the clients' local steps.
      batch_size: test examples in a batch, at least 1.

    Raises:
      ValueError: Poisson sampling of local steps, or a batch size below 1.
    """

    def __init__(
        self,
        task: Task,
        personal: PersonalFunction,
        model: models.FunctionalModel,
        *,
        shared: Callable[[Any, Any], Any] = lambda weights, state: None,
        seed: int = 0,
        batch_size: int = 512,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if isinstance(task.train.batching, PoissonBatching):
            raise ValueError(
                "personal models need minibatches of a fixed size, got steps of "
                "Poisson sampling; give the task plain batching"
            )
        self._task = task
        self._train_ids = frozenset(task.train.client_ids)
        self._shared = shared
        self._seed = seed
        self._batch_size = batch_size
        self._objective = task.build_objective()
        self._model = model
        self._make = autograph.function(personal, reduce_retracing=True)

        @autograph.function(reduce_retracing=True)
        def batch_sums(
            weights: Sequence[tf.Tensor],
            state: Sequence[tf.Tensor],
            examples: Mapping[str, tf.Tensor],
        ) -> tuple[Mapping[str, tf.Tensor], Any]:
            x = structures.packed(examples, "x")
            predictions = model.predict(weights, state, x)
            sums = {
                name: tf.reduce_sum(tf.cast(value, tf.float64), axis=0)
                for name, value in self._objective.sums(examples, predictions).items()
            }
            return sums, predictions if self._objective.of_examples else ()

        self._batch_sums = batch_sums

    def evaluate(
        self,
        state: Any,
        round_number: int,
        *,
        states: Optional[StateRows] = None,
        stream: Optional[TextIO] = None,
        progress_bar: Optional[bool] = None,
    ) -> PersonalEvaluation:
        """Evaluates the global model and all personal models.

        Args:
          state: the process state, a `LearningAlgorithmState`.
          round_number: number of completed rounds.
          states: the clients' states; None where clients keep no state.
          stream: where the progress bar is drawn; standard output by default.
          progress_bar: whether a progress bar is drawn; by default on a terminal.
        """
        sent = self._sent(state)
        model_results: list[list[_Result]] = [[], []]
        ids, examples, trained = [], [], []
        bar = tqdm.tqdm(
            self._task.test.items(),
            total=len(self._task.test),
            desc="personal models",
            unit="client",
            file=stream or sys.stdout,
            disable=None if progress_bar is None else not progress_bar,
            leave=False,
        )
        for client_id, test_examples in bar:
            count = structures.num_examples(test_examples)
            if count == 0:
                continue
            self._task.fitting.check(client_id, test_examples, "eval")
            made = self._models(client_id, sent, round_number, states)
            for results, *parts in zip(
                model_results,
                (made.weights, made.own_weights),
                (made.state, made.own_state),
            ):
                results.append(self._result(parts[0], parts[1], test_examples))
            ids.append(client_id)
            examples.append(count)
            trained.append(made.train_examples)
        common, personal = (
            self._evaluation(ids, examples, results) for results in model_results
        )
        return PersonalEvaluation(
            round_number, common, personal, np.array(trained, np.int64)
        )

    def models_of(
        self,
        client_id: str,
        state: Any,
        round_number: int,
        *,
        states: Optional[StateRows] = None,
    ) -> ClientModels:
        """Makes a client's personal model.

        Args:
          client_id: the client.
          state: see `evaluate`, as `round_number` and `states`.
        """
        return self._models(client_id, self._sent(state), round_number, states)

    def _sent(self, state: Any) -> _Sent:
        weights = [tf.constant(w) for w in state.global_model_weights.trainable]
        common_state = tuple(
            tf.constant(w) for w in state.global_model_weights.non_trainable
        )
        sent = self._shared(tuple(weights), state.finalizer)
        shared = () if sent is None else (tf.nest.map_structure(tf.constant, sent),)
        return _Sent(weights, common_state, shared)

    def _models(
        self,
        client_id: str,
        sent: _Sent,
        round_number: int,
        states: Optional[StateRows],
    ) -> ClientModels:
        steps = self._steps(client_id, round_number + 1, states, sent.state)
        own = self._make(sent.weights, steps, tf.constant(round_number), *sent.shared)
        kept: Sequence[Any] = sent.state
        if self._model.local and states is not None:
            kept = own_state(self._model, states([client_id])[0], sent.state)
        own_weights, personal_state = own, kept
        if isinstance(own, PersonalModel):
            own_weights, personal_state = own
        count = int(steps["num_examples"])
        return ClientModels(sent.weights, kept, own_weights, personal_state, count)

    def _steps(
        self,
        client_id: str,
        round_number: int,
        states: Optional[StateRows],
        model_state: Sequence[tf.Tensor],
    ) -> Mapping[str, Any]:
        """The client's local steps; no steps for a client that is not trained on."""
        train: ClientData = self._task.train
        if client_id in self._train_ids:
            cohort = train.cohort(
                [client_id], seed=self._seed, round_number=round_number
            )
            steps = cohort.batches(0)
        else:
            nobody = train.cohort([], seed=self._seed, round_number=round_number)
            stacked = nobody.stacked(num_clients=1, num_steps=0)
            steps = collections.OrderedDict((n, v[0]) for n, v in stacked.items())
        if states is not None:
            steps["client_state"] = states([client_id])[0]
        tensors: dict[str, Any] = {n: tf.constant(v) for n, v in steps.items()}
        if model_state:
            tensors["model_state"] = tuple(model_state)
        return tensors

    def _result(
        self,
        weights: Sequence[tf.Tensor],
        state: Sequence[tf.Tensor],
        examples: Examples,
    ) -> _Result:
        total: dict[str, np.ndarray] = {}
        predictions: list[Any] = []
        arrays = structures.example_arrays(examples)
        for first in range(0, structures.num_examples(arrays), self._batch_size):
            rows = slice(first, first + self._batch_size)
            sums, found = self._batch_sums(
                list(weights), tuple(state), {n: a[rows] for n, a in arrays.items()}
            )
            for name, value in sums.items():
                total[name] = total.get(name, 0.0) + value.numpy()
            if self._objective.of_examples:
                predictions.append(tf.nest.map_structure(np.asarray, found))
        return _Result(total, labels_of(arrays), predictions)

    def _evaluation(
        self,
        ids: Sequence[str],
        examples: Sequence[int],
        results: Sequence[_Result],
    ) -> Evaluation:
        each = [self._objective.finalize(result.sums) for result in results]
        overall: dict[str, float] = {}
        if results:
            total = {
                name: np.sum([result.sums[name] for result in results], axis=0)
                for name in results[0].sums
            }
            final = self._objective.finalize(total)
            overall = {name: float(value) for name, value in final.items()}
        per_client = {
            name: np.array([float(metrics[name]) for metrics in each])
            for name in overall
        }
        if results:
            labels = [result.y for result in results]
            found = [joined(result.predictions) for result in results]
            for name, metric in self._objective.of_examples.items():
                overall[name] = float(metric(joined(labels), joined(found)))
                per_client[name] = np.array(
                    [metric(y, own) for y, own in zip(labels, found)]
                )
        return Evaluation(
            overall,
            tuple(ids),
            np.array(examples, np.int64),
            per_client,
            metrics=self._objective.metrics,
        )
