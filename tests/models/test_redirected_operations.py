"""Random operations are redirected only in the thread that traces a model."""

import threading

import numpy as np
import tensorflow as tf

from tfl_research import _tff_compat


class Constant:
    """In the place of random numbers."""

    def __init__(self, value):
        self._value = value

    def random_standard_normal(self, shape, dtype, seed=0, seed2=0, name=None):
        return tf.fill(shape, tf.cast(self._value, dtype))


def drawn():
    return tf.random.normal([3]).numpy()


def is_redirected(value):
    return (drawn() == value).all()


def test_threads_that_overlap_have_their_own():
    entered, left = threading.Event(), threading.Event()
    found = {}

    def other():
        with _tff_compat.redirected_random_operations(Constant(2)):
            entered.set()
            assert left.wait(30)
            found["inside"] = is_redirected(2)
        found["outside"] = is_redirected(2)

    thread = threading.Thread(target=other)
    with _tff_compat.redirected_random_operations(Constant(1)):
        thread.start()
        assert entered.wait(30)
        assert is_redirected(1)
    # The other thread is still inside.
    assert len(np.unique(drawn())) == 3
    left.set()
    thread.join()
    assert found == {"inside": True, "outside": False}
    assert len(np.unique(drawn())) == 3


def test_the_inner_one_counts_and_ends_with_an_error():
    with _tff_compat.redirected_random_operations(Constant(1)):
        try:
            with _tff_compat.redirected_random_operations(Constant(2)):
                assert is_redirected(2)
                raise KeyError
        except KeyError:
            assert is_redirected(1)
    assert not is_redirected(1)
