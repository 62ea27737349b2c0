"""Functions that AutoGraph generates leave no file behind, and are found as before."""

from __future__ import annotations

import inspect
import tempfile

import pytest
import tensorflow as tf

# Replaces AutoGraph's loader.
from tfl_research import runtime  # noqa: F401


def even_numbers(n):
    total = tf.constant(0)
    for number in tf.range(n):
        if number % 2 == 0:
            total += number
    return total


def fails(x):
    for _ in tf.range(3):
        x = tf.reshape(x, [7])
    return x


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_converted_function_leaves_no_file(folder):
    assert int(tf.function(even_numbers)(tf.constant(10))) == 20
    assert list(folder.iterdir()) == []


def test_an_error_names_the_line_of_the_user(folder):
    with pytest.raises(ValueError, match=r"reshape\(x, \[7\]\)") as raised:
        tf.function(fails)(tf.ones([3]))
    assert "test_autograph_files.py" in str(raised.value)


def test_the_source_of_a_converted_function(folder):
    converted = tf.autograph.to_graph(even_numbers)
    assert "def tf__even_numbers(n)" in inspect.getsource(converted)
    assert int(converted(tf.constant(10))) == 20
    assert list(folder.iterdir()) == []
