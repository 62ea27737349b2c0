"""The outputs of a model, each with its loss and metrics of Keras."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tfl_research.tasks.objectives.classification import ClassWeight, itself
from tfl_research.tasks.objectives.keras_losses import ExampleLoss, example_loss
from tfl_research.tasks.objectives.keras_metrics import ExampleMetric, example_metric


class Head(NamedTuple):
    """A model's output with its loss and metrics; a single output has no name."""

    name: str
    labels: Callable[[Any], Any]
    pick: Callable[[Any], Any]
    weight: float
    loss: ExampleLoss
    metrics: tuple[ExampleMetric, ...]
    weighted: tuple[ExampleMetric, ...]

    def named(self, metric: str) -> str:
        """Returns the metric's name among the metrics of all outputs."""
        return f"{self.name}_{metric}" if self.name else metric


def heads_of(
    loss: Any,
    metrics: Any,
    weighted_metrics: Any,
    loss_weights: Any,
    class_weight: Any,
    higher_is_better: Mapping[str, bool],
) -> tuple[Head, ...]:
    """Makes the heads from the arguments of `from_keras`.

    Raises:
      ValueError: see `from_keras`.
    """
    if not isinstance(loss, (Mapping, list, tuple)):
        if loss_weights is not None:
            raise ValueError(
                "loss_weights: the model has only one output; leave loss_weights out"
            )
        one = example_loss(loss, class_weight)
        unweighted = _each(metrics, one, higher_is_better)
        weighted = _weighted(weighted_metrics, one, higher_is_better)
        return (Head("", itself, itself, 1.0, one, unweighted, weighted),)
    losses = _by_output("loss", loss)
    if not losses:
        raise ValueError("loss is empty; give a loss for each output")
    of_metrics = _by_output("metrics", metrics) if metrics else {}
    of_weighted = (
        _by_output("weighted_metrics", weighted_metrics) if weighted_metrics else {}
    )
    weights = _by_output("loss_weights", loss_weights) if loss_weights else {}
    of_classes = _class_weights(class_weight)
    for kind, given in (
        ("metrics", of_metrics),
        ("weighted_metrics", of_weighted),
        ("loss_weights", weights),
        ("class_weight", of_classes),
    ):
        for name in given:
            if name not in losses:
                raise ValueError(
                    f"{kind} of output {name!r}, expected outputs of "
                    f"{', '.join(losses)}"
                )
    heads = []
    for position, (name, given) in enumerate(losses.items()):
        one = example_loss(given, of_classes.get(name))
        directions = {
            metric: better
            for key, better in higher_is_better.items()
            for metric in {key, key[len(name) + 1 :] if key.startswith(name) else key}
        }
        heads.append(
            Head(
                name,
                _labels(name),
                _output(name, position, len(losses)),
                float(weights.get(name, 1.0)),
                one,
                _each(of_metrics.get(name, ()), one, directions),
                _weighted(of_weighted.get(name, ()), one, directions),
            )
        )
    return tuple(heads)


def _class_weights(class_weight: Any) -> dict[str, ClassWeight]:
    """Returns the weights of classes by output.

    Raises:
      ValueError: the weights of classes do not say which output they are for.
    """
    if class_weight is None:
        return {}
    if not isinstance(class_weight, Mapping) or not all(
        each is None or isinstance(each, (Mapping, list, tuple))
        for each in class_weight.values()
    ):
        raise ValueError(
            "class_weight: the model has several outputs; give the weights by output, "
            "as {'OUTPUT': {0: 1.0, 1: 2.0}}"
        )
    return {str(name): each for name, each in class_weight.items() if each is not None}


def _by_output(kind: str, given: Any) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return {str(name): value for name, value in given.items()}
    if isinstance(given, (list, tuple)):
        return {str(index): value for index, value in enumerate(given)}
    raise ValueError(f"{kind} must be given by output, like the loss, got {given!r}")


def _each(
    metrics: Any, loss: ExampleLoss, higher_is_better: Mapping[str, bool]
) -> tuple[ExampleMetric, ...]:
    if isinstance(metrics, Mapping):
        raise ValueError(
            "metrics are given by output, but the loss is not; give both in the same "
            "way"
        )
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
            # Keras numbers metrics over all models; this numbers them per objective.
            while f"{made.name}_{number}" in names:
                number += 1
            made = dataclasses.replace(made, name=f"{made.name}_{number}")
        found.append(made)
    return tuple(found)


def _weighted(
    metrics: Any, loss: ExampleLoss, higher_is_better: Mapping[str, bool]
) -> tuple[ExampleMetric, ...]:
    found = _each(metrics, loss, higher_is_better)
    for metric in found:
        if metric.sums is None:
            raise ValueError(
                f"weighted_metrics: {metric.name!r} is computed from the ranks of all "
                "examples, which takes no weights; give it in metrics, or give AUC "
                "thresholds of its own"
            )
    return found


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
                f"the model has {held} outputs, but {count} losses are given; give a "
                "loss for each output"
            )
        return predictions[position]

    return output
