"""Evaluation of model weights on the examples of all clients, in one pass."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from tfl_research.clients.local_state import own_state
from tfl_research.program.evaluation.batch_programs import BatchPrograms, programs_for
from tfl_research.program.evaluation.client_metrics import Evaluation
from tfl_research.program.evaluation.client_sums import (
    ClientSums,
    StateRows,
    joined,
    rows_of,
    starts,
)
from tfl_research.program.evaluation.flat_examples import FlatExamples
from tfl_research.runtime import cores
from tfl_research.tasks.metrics import Metric
from tfl_research.tasks.objectives import labels_of
from tfl_research.tasks.task import Task

# Computes a batch: its sums and its predictions.
_Call = Callable[[], tuple[Mapping[str, tf.Tensor], Any]]


class Evaluator:
    """Evaluates model weights on a task's test splits and held-out clients.

    The task's functional model runs over batches of a fixed size. The batches hold the
    examples of all clients, one client after another, and the last batch has padding.
    If a model's predictions depend on the batch as a whole, each batch has examples of
    one client only, without padding. Each client's metrics then equal Keras' `evaluate`
    on the client's examples. A model with layers of the user's own gets no padding
    either.

    Each example's sums (`Objective.sums`) are added up by client in float64. If an
    operation takes one thread (`runtime.cores`), each core computes a batch. Memory
    holds the activations of these batches and one copy of the evaluated examples.
    Memory also holds the predictions if the objective has metrics of all examples
    (`Metric.of_examples`, as the AUC).

    Args:
      task: the task.
      batch_size: examples in a batch, at least 1.
      max_examples: largest number of evaluated examples of a split. A larger split is
        replaced by a random subset, which is drawn once and is the same at every
        evaluation. By default all examples are evaluated.
      seed: seed of the subset.
      client_weights: weight of a client in the weighted mean over the training
        clients' test splits, at least 0, by client id; 1 for other clients. Empty for
        no weighted mean.
      states: the clients' states, if clients keep the model's statistics
        (`Task.non_trainable` is "local"). Each client's examples are then evaluated
        with the client's own statistics.
      separately: whether a batch has the examples of one client alone, as at the sites
        of a federation, so that the sums are the same to the last bit.

    Raises:
      ValueError: a number is below its minimum.
    """

    def __init__(
        self,
        task: Task,
        *,
        batch_size: int = 512,
        max_examples: Optional[int] = None,
        seed: int = 0,
        client_weights: Optional[Mapping[str, float]] = None,
        states: Optional[StateRows] = None,
        separately: bool = False,
    ):
        for client_id, weight in (client_weights or {}).items():
            if not 0 <= weight < np.inf:
                raise ValueError(
                    f"weight of {client_id} must be at least 0 and finite, got {weight}"
                )
        self._client_weights = client_weights
        self._states = states
        self._separately = separately
        for name, value in (("batch_size", batch_size), ("max_examples", max_examples)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self._clients = {
            "eval": task.test,
            "held_out": task.held_out,
            **task.further_splits,
        }
        self._batch_size = batch_size
        self._max_examples = max_examples
        self._seed = seed
        self._objective = task.build_objective()
        self._fitting = task.fitting
        self._model = model = task.functional_model()
        self._flat: dict[str, FlatExamples] = {}

        self._of_each = separately or bool(model.local) or model.mixes_predictions
        programs = programs_for(
            *(task, model, self._objective, self._clients, batch_size),
            padded=not self._of_each and not model.predicts_no_padding,
        )
        self._prepared = programs.prepared
        self._finalize_each = programs.finalize_each

    @property
    def splits(self) -> Sequence[str]:
        """Names of the splits: "eval" (test splits), "held_out", and further splits."""
        return [name for name, clients in self._clients.items() if clients is not None]

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The declared metrics (direction and aggregation), by name."""
        return self._objective.metrics

    @property
    def of_examples(self) -> Sequence[str]:
        """Names of the metrics that need all predictions, as the AUC."""
        return list(self._objective.of_examples)

    def evaluate(self, weights: Any, split: str = "eval") -> Evaluation:
        """Returns the metrics of the model with these weights on a split.

        Args:
          weights: `trainable` and `non_trainable` arrays in the Keras model's
            order (`tff.learning.models.ModelWeights`).
          split: one of `splits`.

        Returns:
          Metrics over all examples and by client. Clients without examples have NaN
          and do not count in the overall metrics.

        Raises:
          ValueError: the split is unknown, the weights do not have the model's shapes,
            or there are no `states` although clients keep the model's statistics.
        """
        return self.evaluation(split, self.client_sums(weights, split))

    def client_sums(self, weights: Any, split: str = "eval") -> ClientSums:
        """Evaluates each client of a split; see `evaluate`."""
        clients = self._clients.get(split)
        if clients is None:
            raise ValueError(f"split {split!r} is not one of {list(self.splits)}")
        values = self._values(weights)
        if split not in self._flat:
            self._flat[split] = FlatExamples(
                clients,
                self._max_examples,
                self._seed,
                lambda client_id, examples: self._fitting.check(
                    client_id, examples, split
                ),
            )
        flat = self._flat[split]
        sums, predictions = self._sums(flat, clients.client_ids, *values)
        ends = [0, *np.cumsum(flat.counts)]
        y = labels_of(flat.arrays)
        overall, each = {}, {}
        for name, metric in self._objective.of_examples.items():
            overall[name] = float(metric(y, predictions))
            each[name] = np.array(
                [
                    metric(*(rows_of((y, predictions), start, end)))
                    for start, end in zip(ends, ends[1:])
                ]
            )
        return ClientSums(tuple(clients.client_ids), flat.counts, sums, each, overall)

    def evaluation(self, split: str, found: ClientSums) -> Evaluation:
        """Computes metrics from clients' sums.

        Args:
          split: one of `splits`.
          found: the result of `client_sums`, or the sums from the sites of a
            federation.
        """
        final = self._objective.finalize(
            {k: v.sum(axis=0) for k, v in found.sums.items()}
        )
        overall = collections.OrderedDict((k, float(v)) for k, v in final.items())
        finalized = self._finalize_each(
            {name: tf.constant(value) for name, value in found.sums.items()}
        )
        # The metrics get the order of `overall`, since tf.function sorts the keys.
        per_client = {name: np.asarray(finalized[name]) for name in overall}
        overall.update(found.of_all_examples)
        per_client.update(found.of_examples)
        clients = found.client_ids
        return Evaluation(
            overall,
            clients,
            found.counts,
            per_client,
            self._weights(clients) if split == "eval" else None,
            self.metrics,
        )

    def _values(self, weights: Any) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Returns trainable and non-trainable weights; checks their shapes."""
        found = []
        for kind, given, initial in (
            ("trainable", weights.trainable, self._model.initial_weights),
            ("non_trainable", weights.non_trainable, self._model.initial_state),
        ):
            shapes = [np.shape(value) for value in tf.nest.flatten(given)]
            expected = [np.shape(value) for value in initial]
            if shapes != expected:
                raise ValueError(
                    f"{kind} weights have shapes {shapes}, expected the model's "
                    f"{expected}"
                )
            found.append(
                [
                    tf.convert_to_tensor(value, dtype=held.dtype)
                    for value, held in zip(tf.nest.flatten(given), initial)
                ]
            )
        return found[0], found[1]

    def _own_state(
        self, client_id: str, common: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, ...]:
        if self._states is None:
            raise ValueError(
                "clients keep statistics of this model (non_trainable='local'), but "
                "their states are not known; give states"
            )
        return own_state(self._model, self._states([client_id])[0], common)

    def _weights(self, client_ids: Sequence[str]) -> Optional[np.ndarray]:
        weights = self._client_weights
        if not weights:
            return None
        return np.array([weights.get(i, 1.0) for i in client_ids], np.float64)

    def _sums(
        self,
        flat: FlatExamples,
        client_ids: Sequence[str],
        weights: Sequence[tf.Tensor],
        state: Sequence[tf.Tensor],
    ) -> tuple[dict[str, np.ndarray], Any]:
        """Computes all sums of the objective and the predictions.

        The sums are float64 `[clients, ...]`. The predictions are `[examples, ...]`, or
        None if no metric needs them.
        """
        size = self._batch_size
        # Segments are numbered within a batch, so that a batch's result has a row for
        # each client in the batch and not for every client. The last segment takes
        # the padding.
        present = np.flatnonzero(flat.counts)
        if not len(present):
            return self._no_sums(flat, weights, state)
        ranks = np.repeat(np.arange(len(present)), flat.counts[present])
        model = self._model
        bounds = starts(flat.counts[present], size, self._of_each)
        batches = [(i, ranks[i : min(i + size, end)]) for i, end in bounds]
        num_segments = 1 + max(int(np.ptp(b)) + 1 for _, b in batches)
        totals: dict[str, np.ndarray] = {}
        predictions: list[Any] = []

        def calls() -> Iterator[_Call]:
            for start, batch_ranks in batches:
                real = len(batch_ranks)
                used: Sequence[tf.Tensor] = state
                if model.local:
                    client_id = client_ids[present[batch_ranks[0]]]
                    used = self._own_state(client_id, state)
                rows = real if model.predicts_no_padding else size
                segments = np.full(rows, num_segments - 1, np.int32)
                segments[:real] = batch_ranks - batch_ranks[0]
                batch = flat.padded_batch(start, real, rows)
                yield self._prepared(weights, used, batch, segments, num_segments)

        # The results come in the order of the batches, so that sums round alike.
        results = cores.on_all_cores(calls())
        for (_, batch_ranks), (sums, found) in zip(batches, results):
            if self._objective.of_examples:
                predictions.append(rows_of(found, 0, len(batch_ranks)))
            batch_clients = np.unique(batch_ranks)
            for name, value in sums.items():
                array = value.numpy()
                if name not in totals:
                    totals[name] = np.zeros((len(flat.counts), *array.shape[1:]))
                totals[name][present[batch_clients]] += array[: len(batch_clients)]
        return totals, joined(predictions)

    def _no_sums(
        self,
        flat: FlatExamples,
        weights: Sequence[tf.Tensor],
        state: Sequence[tf.Tensor],
    ) -> tuple[dict[str, np.ndarray], Any]:
        """Makes the sums and predictions of clients that have no examples."""
        arguments = (
            weights,
            state,
            flat.padded_batch(0, 0, 1),
            np.zeros(1, np.int32),
            np.int32(1),
        )
        # Shared programs are for batches of another size.
        programs = BatchPrograms(self._model, self._objective)
        traced = programs.batch_sums.get_concrete_function(
            *tf.nest.map_structure(tf.convert_to_tensor, arguments)
        )
        outputs: Any = traced.structured_outputs
        sums, found = outputs

        def zeros(rows: int, spec: Any, dtype: Any) -> np.ndarray:
            return np.zeros([rows, *(size or 0 for size in spec.shape[1:])], dtype)

        clients = len(flat.counts)
        return (
            {name: zeros(clients, s, np.float64) for name, s in sums.items()},
            tf.nest.map_structure(lambda s: zeros(0, s, s.dtype.as_numpy_dtype), found),
        )
