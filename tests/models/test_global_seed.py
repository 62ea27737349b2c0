"""When TensorFlow's global seed is set."""

from __future__ import annotations

import random

import pytest
import tensorflow as tf

from tfl_research import models
from tfl_research.models import global_seed


def drawn_after(seed):
    tf.random.set_seed(seed)
    return float(tf.random.uniform([]))


class TestLeftSeeds:
    def test_other_code_finds_the_seed_that_a_model_would_leave(self):
        expected = drawn_after(3)
        global_seed.leave(3)
        assert float(tf.random.uniform([])) == expected

    def test_the_toolkits_own_code_alone_leaves_it_until_other_code_runs(self):
        expected, other = drawn_after(3), drawn_after(5)
        tf.random.set_seed(5)
        with global_seed.own_code_alone():
            global_seed.leave(2)
            global_seed.leave(3)
            assert float(tf.random.uniform([])) == other
        global_seed.settle()
        assert float(tf.random.uniform([])) == expected
        # It is set once.
        assert float(tf.random.uniform([])) != expected
        global_seed.settle()
        assert float(tf.random.uniform([])) != expected

    def test_a_model_that_is_built_later_sets_its_own(self):
        expected = drawn_after(4)
        with global_seed.own_code_alone():
            global_seed.leave(3)
            models.initialized(lambda: None, 4)
        global_seed.settle()
        assert float(tf.random.uniform([])) == expected

    def test_a_model_whose_weights_nobody_uses_leaves_it_too(self):
        expected, other = drawn_after(3), drawn_after(5)
        tf.random.set_seed(5)
        state = random.getstate()
        with global_seed.own_code_alone(), global_seed.left(3):
            random.random()
            assert float(tf.random.uniform([])) == other
        assert random.getstate() == state
        global_seed.settle()
        assert float(tf.random.uniform([])) == expected
        tf.random.set_seed(5)
        # Beside other code, it sets the seed at once.
        with global_seed.left(3):
            assert float(tf.random.uniform([])) == expected

    def test_an_error_ends_it(self):
        expected = drawn_after(3)
        with (
            pytest.raises(ValueError, match="fails"),
            global_seed.own_code_alone(),
        ):
            raise ValueError("fails")
        global_seed.leave(3)
        assert float(tf.random.uniform([])) == expected
