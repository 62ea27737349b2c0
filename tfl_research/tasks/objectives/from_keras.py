"""Objectives of Keras' losses and metrics."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow as tf

from tfl_research.tasks.metrics import Metric
from tfl_research.tasks.objectives.classification import ClassWeight, itself
from tfl_research.tasks.objectives.keras_losses import ExampleLoss, example_loss
from tfl_research.tasks.objectives.keras_metrics import ExampleMetric, example_metric
from tfl_research.tasks.objectives.objective import Objective, Part, ratio


class _Head(NamedTuple):
    """An output of a model with its loss and metrics; no name for the only output."""

    name: str
    labels: Callable[[Any], Any]
    pick: Callable[[Any], Any]
    weight: float
    loss: ExampleLoss
    metrics: tuple[ExampleMetric, ...]

    def named(self, metric: str) -> str:
        """The metric's name among those of all outputs."""
        return f"{self.name}_{metric}" if self.name else metric


def from_keras(
    loss: Any,
    metrics: Any = (),
    *,
    loss_weights: Any = None,
    class_weight: Optional[ClassWeight] = None,
    higher_is_better: Mapping[str, bool] = {},
) -> Objective:
    """The objective of what one gives to Keras' `compile`.

    The loss of an example is the mean over its outputs, so that the mean over a batch
    is the loss of Keras' `fit`. Metrics are summed over examples by their variables;
    "accuracy" means what it means in Keras, but logits of a binary loss are positive
    above 0. `AUC` without thresholds of its own is computed exactly from the ranks of
    all examples, and in evaluations alone; its PR curve gives the average precision.

    `from_logits` of the loss is respected: where model and data meet, a softmax or
    sigmoid head under from_logits=True is refused, and logits under from_logits=False.

    Args:
      loss: a `tf.keras.losses.Loss`, its name, or a function of labels and predictions
        that returns the loss of each example. For a model with several outputs a dict
        by output, whose labels are the arrays `y/NAME`, or a list, whose labels are
        `y/0`, `y/1` and so on. For a model whose outputs are a list, a dict has the
        outputs in the model's order.
      metrics: a list of `tf.keras.metrics.Metric`, their names, functions of labels and
        predictions, or functions that return a new metric; by output like `loss`.
      loss_weights: weight of each output's loss, by output like `loss`; 1 by default.
      class_weight: the loss of an example is multiplied by the weight of its class, as
        with Keras' `fit(class_weight=...)`; for one output.
      higher_is_better: directions of metrics of one's own, by the metric's name, so
        that they can choose the best model.

    Raises:
      ValueError: a loss or metric that Keras does not have, or one that is no mean or
        no sum over examples; losses, metrics and weights of different outputs; two
        metrics of one name.

    Example:
      >>> import tensorflow as tf
      >>> from tfl_research.tasks import objectives
      >>> objective = objectives.from_keras(
      ...     tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
      ...     ["accuracy", tf.keras.metrics.SparseTopKCategoricalAccuracy(3)],
      ... )
      >>> list(objective.metrics)
      ['loss', 'accuracy', 'sparse_top_k_categorical_accuracy']
    """
    heads = _heads(loss, metrics, loss_weights, class_weight, higher_is_better)
    declared: dict[str, Metric] = {"loss": Metric(higher_is_better=False)}
    for head in heads:
        if head.name:
            declared[head.named("loss")] = Metric(higher_is_better=False)
        for metric in head.metrics:
            name = head.named(metric.name)
            if name in declared:
                raise ValueError(f"two metrics have the name {name!r}; give one a name")
            declared[name] = _of_head(head, metric.metric)

    def example_losses(y: Any, predictions: Any) -> tf.Tensor:
        return tf.add_n(
            [
                head.weight
                * head.loss.of_examples(head.labels(y), head.pick(predictions))
                for head in heads
            ]
        )

    def example_sums(
        y: Any, predictions: Any
    ) -> collections.OrderedDict[str, tf.Tensor]:
        losses = example_losses(y, predictions)
        sums = collections.OrderedDict(loss=losses, examples=tf.ones_like(losses))
        for head in heads:
            arguments = head.labels(y), head.pick(predictions)
            if head.name:
                sums[head.named("loss")] = head.loss.of_examples(*arguments)
            for metric in head.metrics:
                if metric.sums is not None:
                    for index, value in enumerate(metric.sums(*arguments)):
                        sums[f"{head.named(metric.name)}/{index}"] = value
        return sums

    def finalize(
        sums: Mapping[str, tf.Tensor],
    ) -> collections.OrderedDict[str, tf.Tensor]:
        count = tf.convert_to_tensor(sums["examples"])
        found = collections.OrderedDict(loss=ratio(sums["loss"], count))
        for head in heads:
            if head.name:
                found[head.named("loss")] = ratio(sums[head.named("loss")], count)
            for metric in head.metrics:
                if metric.result is None:
                    continue
                name = head.named(metric.name)
                variables = [n for n in sums if n.rpartition("/")[0] == name]
                ordered = sorted(variables, key=lambda n: int(n.rpartition("/")[2]))
                value = metric.result(*(sums[n] for n in ordered))
                nothing = tf.constant(float("nan"), value.dtype)
                found[name] = tf.where(count > 0, value, nothing)
        return found

    return Objective(
        example_losses,
        example_sums,
        finalize,
        declared,
        tuple(
            Part(f"y/{head.name}" if head.name else "y", head.pick, head.loss.rule)
            for head in heads
        ),
        check_examples=lambda y, predictions: _check_examples(heads, y, predictions),
        refuses_masks=True,
    )


def _check_examples(heads: Sequence[_Head], y: Any, predictions: Any) -> None:
    """Refuses a loss that is no mean, and a metric that is no sum, over examples."""
    for head in heads:
        labels, found = np.asarray(head.labels(y)), np.asarray(head.pick(predictions))
        together = np.asarray(head.loss.of_examples(labels, found))
        singly = [
            np.asarray(head.loss.of_examples(labels[i : i + 1], found[i : i + 1]))
            for i in range(len(labels))
        ]
        if not np.allclose(together, np.concatenate(singly), 1e-4, 1e-5, True):
            raise ValueError(
                "the loss of an example depends on the other examples of its batch; "
                "expected the loss of each example by itself"
            )
        for metric in head.metrics:
            if metric.sums is not None:
                metric.check(labels, found)


def _of_head(head: _Head, metric: Metric) -> Metric:
    compute = metric.of_examples
    if compute is None:
        return metric
    return Metric(
        metric.higher_is_better,
        metric.is_partial,
        lambda y, predictions: compute(head.labels(y), head.pick(predictions)),
    )


def _heads(
    loss: Any,
    metrics: Any,
    loss_weights: Any,
    class_weight: Optional[ClassWeight],
    higher_is_better: Mapping[str, bool],
) -> tuple[_Head, ...]:
    if not isinstance(loss, (Mapping, list, tuple)):
        if loss_weights is not None:
            raise ValueError("loss_weights: the model has one output; leave them out")
        one = example_loss(loss, class_weight)
        return (
            _Head("", itself, itself, 1.0, one, _each(metrics, one, higher_is_better)),
        )
    if class_weight is not None:
        raise ValueError(
            "class_weight: the model has several outputs; give sample_weight with the "
            "examples"
        )
    losses = _by_output("loss", loss)
    if not losses:
        raise ValueError("loss has no outputs; give a loss for each output")
    of_metrics = _by_output("metrics", metrics) if metrics else {}
    weights = _by_output("loss_weights", loss_weights) if loss_weights else {}
    for kind, given in (("metrics", of_metrics), ("loss_weights", weights)):
        for name in given:
            if name not in losses:
                raise ValueError(
                    f"{kind} of output {name!r}, expected outputs of "
                    f"{', '.join(losses)}"
                )
    heads = []
    for position, (name, given) in enumerate(losses.items()):
        one = example_loss(given)
        own = of_metrics.get(name, ())
        directions = {
            metric: better
            for key, better in higher_is_better.items()
            for metric in {key, key[len(name) + 1 :] if key.startswith(name) else key}
        }
        heads.append(
            _Head(
                name,
                _labels(name),
                _output(name, position, len(losses)),
                float(weights.get(name, 1.0)),
                one,
                _each(own, one, directions),
            )
        )
    return tuple(heads)


def _by_output(kind: str, given: Any) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return {str(name): value for name, value in given.items()}
    if isinstance(given, (list, tuple)):
        return {str(index): value for index, value in enumerate(given)}
    raise ValueError(f"{kind} must be by output, as the loss is, got {given!r}")


def _each(
    metrics: Any, loss: ExampleLoss, higher_is_better: Mapping[str, bool]
) -> tuple[ExampleMetric, ...]:
    if isinstance(metrics, Mapping):
        raise ValueError("metrics are by output, but the loss is not; give both alike")
    if metrics is None:
        return ()
    listed = metrics if isinstance(metrics, Sequence) else [metrics]
    if isinstance(listed, str):
        listed = [listed]
    found: list[ExampleMetric] = []
    for metric in listed:
        made = example_metric(metric, loss.rule, higher_is_better)
        names, number = {other.name for other in found}, 1
        if made.is_usual and made.name in names:
            # As Keras numbers metrics of a kind, but from this objective's first on.
            while f"{made.name}_{number}" in names:
                number += 1
            made = dataclasses.replace(made, name=f"{made.name}_{number}")
        found.append(made)
    return tuple(found)


def _labels(name: str) -> Callable[[Any], Any]:
    def labels(y: Any) -> Any:
        if not isinstance(y, Mapping) or name not in y:
            held = ", ".join(f"y/{n}" for n in y) if isinstance(y, Mapping) else "y"
            raise ValueError(
                f"the loss of output {name!r} needs labels y/{name}, got {held}"
            )
        return y[name]

    return labels


def _output(name: str, position: int, count: int) -> Callable[[Any], Any]:
    def output(predictions: Any) -> Any:
        if isinstance(predictions, Mapping):
            if name not in predictions:
                raise ValueError(
                    f"the model has no output {name!r}; its outputs are "
                    f"{', '.join(predictions)}"
                )
            return predictions[name]
        if not isinstance(predictions, (list, tuple)) or len(predictions) != count:
            held = len(predictions) if isinstance(predictions, (list, tuple)) else 1
            raise ValueError(
                f"the model has {held} outputs, but there are losses of {count}"
            )
        return predictions[position]

    return output
