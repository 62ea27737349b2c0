"""The type of an objective: a loss for each example, and metrics as sums."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Optional

import tensorflow as tf

from tfl_research.data.arrays import structures
from tfl_research.tasks.metrics import Metric
from tfl_research.tasks.objectives.rules import Rule


@dataclasses.dataclass(frozen=True)
class Part:
    """A rule for the labels and the outputs of one head of a model.

    Attributes:
      label: the array with the labels, "y" or "y/NAME".
      pick: returns the head's outputs from the model's predictions.
      rule: the rule for labels and outputs.
    """

    label: str
    pick: Callable[[Any], Any]
    rule: Rule


@dataclasses.dataclass(frozen=True)
class Objective:
    """The loss that trains a model, and the metrics that measure it.

    Metrics are functions of sums over examples, so that they can be aggregated over
    minibatches, clients and chunks in any grouping. A metric that is not such a sum
    (`Metric.of_examples`) is measured only in evaluations.

    Attributes:
      example_losses: (y `[batch, ...]`, predictions `[batch, ...]`) -> float32
        `[batch]`; y and predictions may be structures.
      example_sums: (y, predictions) -> `{name: float32 [batch, ...]}`, each example's
        contribution to every sum; must contain "loss" and "examples".
      finalize: `{name: summed over examples}` -> `{metric: scalar}`; metrics of
        no examples are NaN. It consists of TensorFlow operations, so that it runs
        inside a computation and on NumPy arrays.
      metrics: the metrics' directions and aggregation, by name. Without an entry, a
        name that ends in a known word ("accuracy", "loss", "error", ...) has its usual
        direction, and other names have no direction.
      parts: rules for the labels and outputs of each head, which `tasks.fit_checks`
        checks; empty for no checks.
      check_examples: a function of (y, predictions) of a few real examples. It raises
        ValueError if a loss is not a mean, or a metric not a sum, over examples. None
        without such a check.
      weighted_sums: (y, predictions, sample weights `[batch]`) -> the sums of weighted
        metrics other than "loss"; `finalize` takes them too. These sums replace the
        sums of `example_sums`. None without such metrics.
      is_assumed: whether the objective is the default. A model with its own loss must
        then agree with the objective.
      refuses_masks: whether a Keras model is refused whose output has a mask of padded
        steps.

    Example, your own metric:
      >>> import tensorflow as tf
      >>> from tfl_research.tasks import metrics, objectives
      >>> def losses(y, predictions):
      ...     return tf.abs(y - predictions[:, 0])
      >>> def sums(y, predictions):
      ...     off = tf.cast(losses(y, predictions) > 1.0, tf.float32)
      ...     return dict(loss=losses(y, predictions), examples=off * 0 + 1, far=off)
      >>> def finalize(sums):
      ...     far = sums["far"] / sums["examples"]
      ...     return dict(loss=sums["loss"] / sums["examples"], far_off=far)
      >>> objective = objectives.Objective(
      ...     losses, sums, finalize, metrics={"far_off": metrics.Metric(False)}
      ... )
    """

    example_losses: Callable[[Any, Any], tf.Tensor]
    example_sums: Callable[[Any, Any], Mapping[str, tf.Tensor]]
    finalize: Callable[[Mapping[str, tf.Tensor]], Mapping[str, tf.Tensor]]
    metrics: Mapping[str, Metric] = dataclasses.field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    check_examples: Optional[Callable[[Any, Any], None]] = None
    refuses_masks: bool = False
    weighted_sums: Optional[
        Callable[[Any, Any, tf.Tensor], Mapping[str, tf.Tensor]]
    ] = None
    is_assumed: bool = False

    def losses(self, examples: Mapping[str, tf.Tensor], predictions: Any) -> tf.Tensor:
        """Computes the loss of each example, times its sample weight if it has one.

        Args:
          examples: flat arrays by name (`data.arrays.structures`): y, and sample_weight
            if examples have weights.
          predictions: the model's output for the examples.

        Returns:
          float32 `[batch]`.
        """
        losses = self.example_losses(labels_of(examples), predictions)
        return _times_weights(losses, examples)

    def sums(
        self, examples: Mapping[str, tf.Tensor], predictions: Any
    ) -> collections.OrderedDict[str, tf.Tensor]:
        """Computes each example's contribution to every sum.

        The arguments are those of `losses`. The sum "loss" is weighted, as in `losses`.
        The metrics are not weighted, as with Keras' `compile(metrics=...)`, except for
        the metrics of `weighted_sums`.
        """
        y = labels_of(examples)
        sums = collections.OrderedDict(self.example_sums(y, predictions))
        if self.weighted_sums is not None:
            ones = tf.ones_like(sums["loss"])
            weights = _times_weights(ones, examples)
            sums.update(self.weighted_sums(y, predictions, weights))
        sums["loss"] = _times_weights(sums["loss"], examples)
        return sums

    def check_keras_model(self, model: tf.keras.Model, x: Any) -> None:
        """Checks the order of a Keras model's outputs, and its output masks.

        Args:
          model: the model.
          x: a few examples.

        Raises:
          ValueError: the outputs have another order than the losses, or the output has
            a mask and `refuses_masks` is set.
        """
        predictions = model(x, training=False)
        outputs = tf.nest.flatten(predictions)
        masks = [getattr(output, "_keras_mask", None) for output in outputs]
        if self.refuses_masks and any(mask is not None for mask in masks):
            raise ValueError(
                "the model's output has a mask of padded steps, and Keras averages "
                "the loss over the steps of the whole batch; take "
                "objectives.next_token(pad_id), which leaves padding out of each "
                "example's mean, or leave mask_zero out"
            )
        names = [p.label.partition("/")[2] for p in self.parts]
        if isinstance(predictions, (list, tuple)) and len(names) == len(outputs):
            own = list(model.output_names or [])
            if own and names != own and not all(n.isdigit() for n in names):
                raise ValueError(
                    f"the model's outputs are {', '.join(own)}, but the losses are of "
                    f"{', '.join(names)}; give the losses in the model's order and "
                    "with its names"
                )

    @property
    def of_examples(self) -> dict[str, Callable[[Any, Any], float]]:
        """The metrics that are computed from all examples, by name."""
        return {
            name: metric.of_examples
            for name, metric in self.metrics.items()
            if metric.of_examples is not None
        }


def labels_of(examples: Mapping[str, Any]) -> Any:
    """Returns the labels of flat arrays: an array, a dict, or None without labels."""
    if any(name == "y" or name.startswith("y/") for name in examples):
        return structures.packed(examples, "y")
    return None


def _times_weights(losses: tf.Tensor, examples: Mapping[str, tf.Tensor]) -> tf.Tensor:
    weights = examples.get(structures.SAMPLE_WEIGHT)
    if weights is None:
        return losses
    return losses * tf.reshape(tf.cast(weights, losses.dtype), tf.shape(losses))


def ratio(numerator: tf.Tensor, denominator: tf.Tensor) -> tf.Tensor:
    """Divides; the quotient is NaN where the denominator is zero."""
    found = tf.math.divide_no_nan(numerator, denominator)
    return tf.where(denominator > 0, found, tf.constant(float("nan"), found.dtype))
