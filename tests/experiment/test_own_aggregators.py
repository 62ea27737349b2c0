"""What a user's own aggregation factory measures and returns."""

from __future__ import annotations

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tfl_research as tfl
from tfl_research.errors import TrainingDivergedError


class Measuring(tff.aggregators.UnweightedAggregationFactory):
    """The mean times a factor; measures a number, a vector and a text."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def create(self, value_type):
        @tff.tensorflow.computation(value_type)
        def finished(mean):
            result = tf.nest.map_structure(lambda part: part * self.factor, mean)
            said = collections.OrderedDict(
                size=tf.constant(3.0), vector=tf.constant([1, 2]), text="mean"
            )
            return result, said

        @tff.federated_computation
        def initialize():
            return tff.federated_value((), tff.SERVER)

        @tff.federated_computation(
            initialize.type_signature.result, tff.FederatedType(value_type, tff.CLIENTS)
        )
        def next_round(state, value):
            done = tff.federated_map(finished, tff.federated_mean(value))
            return tff.templates.MeasuredProcessOutput(state, done[0], done[1])

        return tff.templates.AggregationProcess(initialize, next_round)


def experiment(aggregator):
    return tfl.Experiment(
        "heart",
        cohorts=tfl.Cohorts("full"),
        aggregator=aggregator,
        training=tfl.Training(rounds=2, tensorboard=False, progress_bar=False),
    )


def test_numbers_are_columns_and_the_rest_is_in_the_measurements(tmp_path, capsys):
    result = experiment(Measuring()).run(tmp_path / "run")
    assert result.metrics["aggregator_size"].tolist() == [3, 3]
    assert not [name for name in result.metrics if "vector" in name or "text" in name]
    assert sorted(result.measurements) == [1, 2]
    for measured in result.measurements.values():
        np.testing.assert_array_equal(measured["aggregator_vector"], [1, 2])
        assert measured["aggregator_text"] == b"mean"
    # The run says where they are.
    assert str(tmp_path / "run" / "measurements.jsonl") in capsys.readouterr().out


def test_an_aggregator_that_returns_nan_is_named(tmp_path):
    with pytest.raises(TrainingDivergedError, match="Measuring returned"):
        experiment(Measuring(np.nan)).run(tmp_path / "run")


def test_tffs_own_factories_are_not(tmp_path):
    nothing = tff.aggregators.UnweightedMeanFactory()
    tried = experiment(nothing).with_settings(server_learning_rate=1e39)
    with pytest.raises(TrainingDivergedError) as error:
        tried.run(tmp_path / "run")
    assert "first check" not in str(error.value)
