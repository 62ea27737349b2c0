"""The aggregation process of a round, created from a TFF aggregation factory."""

from __future__ import annotations

import collections
from typing import Union

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.aggregators import declarations
from tfl_research.processes.weighting import ClientWeighting

Aggregator = Union[
    tff.aggregators.WeightedAggregationFactory,
    tff.aggregators.UnweightedAggregationFactory,
]


def may_skip(aggregation: tff.templates.AggregationProcess) -> bool:
    """Whether the aggregator may skip rounds: its measurements have `skipped`.

    `skipped` is 1 in a round that does not change the model.
    """
    measurements = aggregation.next.type_signature.result.measurements.member
    return isinstance(measurements, tff.StructType) and any(
        name == "skipped" for name, _ in tff.structure.iter_elements(measurements)
    )


def create_aggregation(
    aggregator: Aggregator,
    update_type: tff.Type,
    weighting: ClientWeighting,
    client_data_type: tff.StructWithPythonType,
) -> tuple[tff.templates.AggregationProcess, bool]:
    """Creates the aggregation process for updates of a type.

    Args:
      aggregator: the TFF aggregation factory.
      update_type: the type of a client's update.
      weighting: how much a client counts.
      client_data_type: the type of a client's value in the cohort; an aggregator can
        use further members of the value, in addition to the weight.

    Returns:
      The process, and whether clients send a weight to the process.

    Raises:
      ValueError: `aggregator` is not an aggregation factory, or the factory takes no
        weights although the weighting is not uniform.
    """
    if isinstance(aggregator, tff.aggregators.WeightedAggregationFactory):
        weight_type: tff.Type = tff.TensorType(tf.float32.as_numpy_dtype)
        members = declarations(aggregator).client_members
        if members:
            weight_type = tff.StructWithPythonType(
                [("weight", weight_type)]
                + [(name, client_data_type[name]) for name in members],
                collections.OrderedDict,
            )
        return aggregator.create(update_type, weight_type), True
    if isinstance(aggregator, tff.aggregators.UnweightedAggregationFactory):
        if weighting.kind != "uniform":
            raise ValueError(
                f"{type(aggregator).__name__} takes no weights, so client weighting "
                f"must be 'uniform', got {weighting.kind!r}"
            )
        return aggregator.create(update_type), False
    raise ValueError(
        f"aggregator must be a TFF aggregation factory, got {type(aggregator).__name__}"
    )
