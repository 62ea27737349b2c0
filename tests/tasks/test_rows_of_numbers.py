"""Functions of one row, for many rows: at once, where that is the same to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfl_research.tasks import objectives
from tfl_research.tasks.objectives import by_row

_SUMS = ("loss", "examples", "correct", "predictions", "absolute_error")


def rows(count):
    """Sums of clients, some of them without examples."""
    generator = np.random.default_rng(count)
    return {
        name: tf.constant(
            generator.gamma(2.0, 30.0, count) * (generator.random(count) > 0.2)
        )
        for name in (*_SUMS, "squared_error")
    }


@pytest.fixture
def vectorised(monkeypatch):
    """The functions that TensorFlow vectorised."""
    found, whole = [], tf.vectorized_map

    def recorded(function, values):
        found.append(function)
        return whole(function, values)

    monkeypatch.setattr(tf, "vectorized_map", recorded)
    return found


def both(function, values):
    """What `mapped` gives, and what TensorFlow vectorises, for any number of rows."""
    specs = tf.nest.map_structure(
        lambda v: tf.TensorSpec([None, *v.shape[1:]], v.dtype), values
    )
    whole = tf.vectorized_map
    traced = [
        tf.function(
            lambda given, by=by: by(function, given),
            input_signature=[specs],
            autograph=False,
        )
        for by in (by_row.mapped, whole)
    ]
    return [tf.nest.map_structure(np.asarray, one(values)) for one in traced]


@pytest.mark.parametrize("objective", ["multiclass", "next_token", "regression"])
@pytest.mark.parametrize("count", [1, 3, 78, 714])
def test_ratios_are_taken_at_once(objective, count, vectorised):
    finalize = getattr(objectives, objective)().finalize
    found, expected = both(lambda sums: dict(finalize(sums)), rows(count))
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name].tobytes() == values.tobytes()
    # Once, for the comparison.
    assert len(vectorised) == 1


def _sum_of(number):
    return tf.reduce_sum(number)


def _of_rank(number):
    return number + 1.0 if number.shape.rank == 0 else number + 2.0


def _for_numbers_alone(number):
    number.shape.assert_has_rank(0)
    return number * 2.0


def _constant(number):
    del number
    return tf.constant(3.0)


_HELD = tf.range(4.0)


def _from_held(number):
    return number + _HELD[2]


@pytest.mark.parametrize(
    "function", [_sum_of, _of_rank, _for_numbers_alone, _constant, _from_held]
)
def test_what_is_another_thing_for_a_vector_is_vectorised(function, vectorised):
    values = tf.constant([1.0, 2.0, 4.0])
    found, expected = both(function, values)
    assert found.tobytes() == expected.tobytes()
    np.testing.assert_array_equal(found, [function(value) for value in values])
    assert len(vectorised) == 2


def test_rows_of_vectors_are_vectorised(vectorised):
    found, expected = both(lambda row: row / 3.0, tf.ones([4, 2]))
    assert found.tobytes() == expected.tobytes()
    assert len(vectorised) == 2
