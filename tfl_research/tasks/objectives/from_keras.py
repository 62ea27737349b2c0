"""Makes objectives of Keras' losses and metrics."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any, Union

import numpy as np
import tensorflow as tf

from tfl_research.data.arrays import structures
from tfl_research.tasks.metrics import Metric
from tfl_research.tasks.objectives.classification import ClassWeight
from tfl_research.tasks.objectives.keras_heads import Head, heads_of
from tfl_research.tasks.objectives.objective import Objective, Part, ratio


def from_keras(
    loss: Any,
    metrics: Any = (),
    *,
    weighted_metrics: Any = (),
    loss_weights: Any = None,
    class_weight: Union[ClassWeight, Mapping[str, ClassWeight], None] = None,
    higher_is_better: Mapping[str, bool] = {},
) -> Objective:
    """Makes an objective of the loss and the metrics that Keras' `compile` takes.

    The loss of an example is the mean over its outputs, so that the mean over a batch
    is the loss of Keras' `fit`. A metric's variables are summed over examples.
    "accuracy" has the meaning that Keras gives it, except that logits of a binary loss
    count as positive above 0. `AUC` without given thresholds is computed exactly from
    the ranks of all examples, and only in evaluations; `AUC` of a PR curve is the
    average precision.

    `from_logits` of the loss is respected. When the task's model is checked, a softmax
    or sigmoid head is refused if from_logits=True, and logits are refused if
    from_logits=False.

    Args:
      loss: a `tf.keras.losses.Loss`, its name, or a function of labels and predictions
        that returns the loss of each example. For a model with several outputs a dict
        by output, whose labels are the arrays `y/NAME`, or a list, whose labels are
        `y/0`, `y/1` and so on. For a model whose outputs are a list, a dict has the
        outputs in the model's order.
      metrics: a list of `tf.keras.metrics.Metric`, their names, functions of labels and
        predictions, or functions that return a new metric; by output like `loss`.
      weighted_metrics: further metrics, in which an example counts with its sample
        weight times the weight of its class; by output like `loss`.
      loss_weights: weight of each output's loss, by output like `loss`; 1 by default.
      class_weight: the loss of an example is multiplied by the weight of its class, as
        with Keras' `fit(class_weight=...)`. For several outputs, a dict of such weights
        by output, since each output has its own classes.
      higher_is_better: directions of your own metrics, by the metric's name, so that
        these metrics can choose the best model.

    Raises:
      ValueError: Keras does not have the loss or a metric; the loss is not a mean, or a
        metric not a sum, over examples; losses, metrics and weights are for different
        outputs; or two metrics have the same name.

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
    heads = heads_of(
        loss, metrics, weighted_metrics, loss_weights, class_weight, higher_is_better
    )
    declared: dict[str, Metric] = {"loss": Metric(higher_is_better=False)}
    for head in heads:
        if head.name:
            declared[head.named("loss")] = Metric(higher_is_better=False)
        for metric in (*head.metrics, *head.weighted):
            name = head.named(metric.name)
            if name in declared:
                raise ValueError(
                    f"two metrics have the name {name!r}; give one of them another name"
                )
            if not structures.is_argument(name):
                raise ValueError(
                    f"a metric has the name {name!r}, expected letters, digits, '_', "
                    "'.', '-' and '/' only; give it another name (a lambda has none, "
                    "and a function defined by def has its own)"
                )
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

    def weighted_sums(
        y: Any, predictions: Any, weights: tf.Tensor
    ) -> collections.OrderedDict[str, tf.Tensor]:
        sums = collections.OrderedDict()
        for head in heads:
            arguments = head.labels(y), head.pick(predictions)
            if head.name:
                losses = head.loss.of_examples(*arguments)
                sums[head.named("loss")] = weights * losses
            own = weights
            if head.loss.class_weights is not None:
                own = weights * head.loss.class_weights(*arguments)
            for metric in head.weighted:
                for index, value in enumerate(metric.sums(*arguments, own)):
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
            for metric in (*head.metrics, *head.weighted):
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
        weighted_sums=(
            weighted_sums if any(h.weighted or h.name for h in heads) else None
        ),
    )


def _check_examples(heads: Sequence[Head], y: Any, predictions: Any) -> None:
    """Checks that losses are means, and metrics sums, over examples."""
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
        weights = np.arange(1, len(labels) + 1, dtype=np.float32)
        for metric in head.weighted:
            metric.check(labels, found, weights)


def _of_head(head: Head, metric: Metric) -> Metric:
    compute = metric.of_examples
    if compute is None:
        return metric
    return Metric(
        metric.higher_is_better,
        metric.is_partial,
        lambda y, predictions: compute(head.labels(y), head.pick(predictions)),
    )
