"""Evaluation of every client's personal model on the client's own test examples."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Optional, TextIO

import numpy as np
import tensorflow as tf
import tqdm

from tfl_research import autograph, models
from tfl_research.data import Examples, PoissonBatching
from tfl_research.data.arrays import structures
from tfl_research.program.evaluation.client_metrics import Evaluation
from tfl_research.program.evaluation.client_sums import StateRows, joined
from tfl_research.program.evaluation.personal_metrics import PersonalEvaluation
from tfl_research.program.evaluation.personal_models import (
    ClientModels,
    PersonalFunction,
    PersonalModels,
    call_of,
)
from tfl_research.runtime import cores
from tfl_research.tasks.objectives import labels_of
from tfl_research.tasks.task import Task


class _Result(NamedTuple):
    """A model's sums on a client's test examples, and their labels and predictions.

    There are no predictions if no metric needs them.
    """

    sums: Mapping[str, np.ndarray]
    y: Any
    predictions: Sequence[Any]


class _Client(NamedTuple):
    """A client whose models are already made."""

    client_id: str
    test_examples: Examples
    models: ClientModels


# A client, and the results of the global and of the personal model.
_Tested = tuple[_Client, list[_Result]]


def _made(
    client_id: str, test_examples: Examples, make: Callable[[], ClientModels]
) -> _Client:
    return _Client(client_id, test_examples, make())


def _tested(client: _Client, tests: Sequence[Callable[[], _Result]]) -> _Tested:
    return client, [test() for test in tests]


class PersonalEvaluator:
    """Trains the clients' personal models and evaluates each model.

    A client takes the local steps of the round after the evaluated model's round. One
    graph serves clients of every size. One client is in memory at a time, or one for
    each core if an operation takes one thread (`runtime.cores`). All test examples are
    evaluated, also where `max_evaluation_examples` is set.

    Args:
      task: the task; its clients without test examples are ignored.
      personal: computes a client's personal weights.
      model: the task's functional model. A client's global model has the server's
        non-trainable weights, or the non-trainable weights that the client keeps. The
        personal model has the same non-trainable weights, unless `personal` returns a
        `clients.PersonalModel`.
      shared: (global weights, server state) -> the values that the server sends in
        addition to the model; None for no values.
      seed: seed of the clients' local steps.
      batch_size: test examples in a batch, at least 1.

    Raises:
      ValueError: local steps use Poisson sampling, or the batch size is below 1.
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
        self._models = PersonalModels(task, personal, model, shared, seed)
        self._batch_size = batch_size
        self._objective = task.build_objective()

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
          states: the clients' states; None if clients keep no state.
          stream: where the progress bar is drawn; standard output by default.
          progress_bar: whether a progress bar is drawn; by default on a terminal.
        """
        sent = self._models.sent(state)
        bar = tqdm.tqdm(
            self._task.test.items(),
            total=len(self._task.test),
            desc="personal models",
            unit="client",
            file=stream or sys.stdout,
            disable=None if progress_bar is None else not progress_bar,
            leave=False,
        )

        def training() -> Iterator[Callable[[], _Client]]:
            for client_id, test_examples in bar:
                if structures.num_examples(test_examples) == 0:
                    continue
                self._task.fitting.check(client_id, test_examples, "eval")
                make = self._models.making(client_id, sent, round_number, states)
                yield functools.partial(_made, client_id, test_examples, make)

        def testing() -> Iterator[Callable[[], _Tested]]:
            for client in cores.on_all_cores(training()):
                models = client.models
                of_both = (
                    self._testing(weights, kept, client.test_examples)
                    for weights, kept in (
                        (models.weights, models.state),
                        (models.own_weights, models.own_state),
                    )
                )
                yield functools.partial(_tested, client, list(of_both))

        model_results: list[list[_Result]] = [[], []]
        ids, examples, trained = [], [], []
        for client, found in cores.on_all_cores(testing()):
            for results, result in zip(model_results, found):
                results.append(result)
            ids.append(client.client_id)
            examples.append(structures.num_examples(client.test_examples))
            trained.append(client.models.train_examples)
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
          state, round_number, states: see `evaluate`.
        """
        return self._models.making(
            client_id, self._models.sent(state), round_number, states
        )()

    def _testing(
        self,
        weights: Sequence[tf.Tensor],
        state: Sequence[tf.Tensor],
        examples: Examples,
    ) -> Callable[[], _Result]:
        """Makes a function that tests a model; any thread may call the function."""
        arrays = structures.example_arrays(examples)
        calls = []
        for first in range(0, structures.num_examples(arrays), self._batch_size):
            rows = slice(first, first + self._batch_size)
            batch = {n: tf.constant(a[rows]) for n, a in arrays.items()}
            calls.append(call_of(self._batch_sums, list(weights), tuple(state), batch))

        def result() -> _Result:
            total: dict[str, np.ndarray] = {}
            predictions: list[Any] = []
            for call in calls:
                sums, found = call()
                for name, value in sums.items():
                    total[name] = total.get(name, 0.0) + value.numpy()
                if self._objective.of_examples:
                    predictions.append(tf.nest.map_structure(np.asarray, found))
            return _Result(total, labels_of(arrays), predictions)

        return result

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
