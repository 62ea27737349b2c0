"""Evaluation of every client's personal model on the client's own test examples."""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Optional, TextIO

import numpy as np
import tensorflow as tf
import tqdm

from tfl_research import models
from tfl_research.clients import PersonalModel
from tfl_research.clients.local_state import own_state
from tfl_research.data import ClientData, Examples, PoissonBatching, structures
from tfl_research.program.evaluation.client_metrics import Evaluation
from tfl_research.program.evaluation.evaluator import StateRows, joined
from tfl_research.tasks.metrics import metric as metric_of
from tfl_research.tasks.objectives import labels_of
from tfl_research.tasks.task import Task

# (server weights, local steps, round number[, shared]) -> personal weights.
PersonalFunction = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class PersonalEvaluation:
    """Metrics of the global and of the personal models, on the clients' test examples.

    Attributes:
      round_number: round of the global model.
      global_model: metrics of the global model.
      personal: metrics of the clients' personal models.
      train_examples: int64 `[clients]`, distinct examples that a personal model was
        trained on.
    """

    round_number: int
    global_model: Evaluation
    personal: Evaluation
    train_examples: np.ndarray

    def gains(self, metric: str) -> float:
        """Returns the share of clients whose personal model is strictly better.

        Clients without a value of both metrics are left out; NaN for no clients, and
        for a metric without a declared direction.
        """
        ours, theirs = (
            e.per_client[metric] for e in (self.personal, self.global_model)
        )
        known = ~(np.isnan(ours) | np.isnan(theirs))
        higher = metric_of(metric, self.personal.metrics).higher_is_better
        if higher is None or not known.any():
            return float("nan")
        better = ours > theirs if higher else ours < theirs
        return float(better[known].mean())

    def summary(self) -> dict[str, Any]:
        """Means, worst deciles and shares of gaining clients, for summary.json."""
        summary: dict[str, Any] = {
            "round": self.round_number,
            "clients": len(self.personal.client_ids),
        }
        for metric in self.personal.per_client:
            for name, evaluation in (
                ("global", self.global_model),
                ("personal", self.personal),
            ):
                spread = evaluation.spread(metric)
                summary[f"{name}_client_mean_{metric}"] = spread.mean
                summary[f"{name}_client_worst_decile_{metric}"] = spread.worst_decile
            summary[f"gain_share_{metric}"] = self.gains(metric)
        return summary

    def lines(self) -> list[str]:
        """Returns the lines that are printed when a run ends."""
        if not self.personal.client_ids:
            return ["personal models: no client has test examples"]
        lines = []
        for metric in self.personal.per_client:
            ours, theirs = (
                e.spread(metric) for e in (self.personal, self.global_model)
            )
            lines.append(
                f"personal models  {metric}: client mean {theirs.mean:.4g} -> "
                f"{ours.mean:.4g}  worst decile {theirs.worst_decile:.4g} -> "
                f"{ours.worst_decile:.4g}  better for {self.gains(metric):.1%} of "
                f"{len(self.personal.client_ids)} clients"
            )
        return lines

    def table(self) -> bytes:
        """personal_clients.csv: a row for each client that has test examples."""
        metrics = list(self.personal.per_client)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            ["client_id", "examples", "train_examples"]
            + [f"global_{m}" for m in metrics]
            + [f"personal_{m}" for m in metrics]
        )
        for row, client_id in enumerate(self.personal.client_ids):
            cells = [
                f"{e.per_client[m][row]:.6g}"
                for e in (self.global_model, self.personal)
                for m in metrics
            ]
            examples = int(self.personal.examples[row])
            writer.writerow(
                [client_id, examples, int(self.train_examples[row]), *cells]
            )
        return text.getvalue().encode()


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
      shared: (global weights, server state) -> the values that the server sends beside
        the model; None for no values.
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
                "personal models are not made of Poisson sampled steps; expected "
                "minibatches of a fixed size"
            )
        self._task = task
        self._train_ids = frozenset(task.train.client_ids)
        self._shared = shared
        self._seed = seed
        self._batch_size = batch_size
        self._objective = task.build_objective()
        self._model = model
        self._make = tf.function(personal, reduce_retracing=True)

        @tf.function(reduce_retracing=True)
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
        weights = [tf.constant(w) for w in state.global_model_weights.trainable]
        common_state = tuple(
            tf.constant(w) for w in state.global_model_weights.non_trainable
        )
        sent = self._shared(tuple(weights), state.finalizer)
        shared = () if sent is None else (tf.nest.map_structure(tf.constant, sent),)
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
            steps = self._steps(client_id, round_number + 1, states, common_state)
            own = self._make(weights, steps, tf.constant(round_number), *shared)
            kept_state: Sequence[Any] = common_state
            if self._model.local and states is not None:
                row = states([client_id])[0]
                kept_state = own_state(self._model, row, common_state)
            own_weights, personal_state = own, kept_state
            if isinstance(own, PersonalModel):
                own_weights, personal_state = own
            for results, *parts in zip(
                model_results, (weights, own_weights), (kept_state, personal_state)
            ):
                results.append(self._result(parts[0], parts[1], test_examples))
            ids.append(client_id)
            examples.append(count)
            trained.append(int(steps["num_examples"]))
        common, personal = (
            self._evaluation(ids, examples, results) for results in model_results
        )
        return PersonalEvaluation(
            round_number, common, personal, np.array(trained, np.int64)
        )

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
