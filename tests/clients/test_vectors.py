"""Lists of tensors, each as a whole."""

import numpy as np
import pytest
import tensorflow as tf

from tfl_research.clients.vectors import all_finite


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_one_entry_that_is_not_finite(bad, place):
    tensors = [np.ones([2, 3], np.float32), np.ones([], np.float32)]
    assert bool(all_finite([tf.constant(t) for t in tensors]))
    tensors[place] = np.where(np.arange(tensors[place].size) == 0, bad, 1.0)
    assert not bool(all_finite([tf.constant(t, tf.float32) for t in tensors]))


def test_a_tensor_without_entries_is_finite():
    assert bool(all_finite([tf.zeros([0, 2]), tf.ones([1])]))
