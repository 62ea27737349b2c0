"""A run says so if a user's own part draws other numbers in each start."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import tensorflow as tf

import tfl_research as tfl
from tfl_research import aggregators, tasks
from tfl_research.registry import registered


@dataclasses.dataclass(frozen=True)
class OneRow(aggregators.RuleSettings):
    """The first row times a random number."""

    NAME, SUMMARY, SOURCE = "one_row", "the first row", "no robust rule"
    PER_BYZANTINE, AT_LEAST = 0, 1
    by_seed: bool = tfl.settings.switch(False, "Whether the number has a seed.")

    def apply(self, rows, *, center=None):
        if self.by_seed:
            return rows.values[0] * tf.random.stateless_uniform([], [1, 2])
        return rows.values[0] * tf.random.uniform([])


def build_model():
    return tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,))])


@pytest.mark.parametrize("by_seed", [False, True])
def test_a_rule_that_draws_numbers(tmp_path, by_seed):
    data = {"x": np.eye(3, dtype=np.float32), "y": np.array([0, 1, 0])}
    task = tasks.from_arrays({"a": data, "b": data}, model=build_model, test=0)
    with registered(aggregators.AGGREGATORS, "one_row", OneRow):
        experiment = tfl.Experiment(
            task,
            aggregator=OneRow(by_seed=by_seed),
            cohorts=tfl.Cohorts("full"),
            training=tfl.Training(rounds=1, report=False),
        )
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            results = [experiment.run(tmp_path / name) for name in ("one", "two")]
    said = [str(w.message) for w in found if "RandomUniform" in str(w.message)]
    one, two = (result.model().get_weights() for result in results)
    same = all(np.array_equal(a, b) for a, b in zip(one, two))
    assert same == by_seed
    assert len(said) == (0 if by_seed else 2)
    if said:
        assert "a run that is repeated or resumed draws other numbers" in said[0]
