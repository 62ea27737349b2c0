"""Flat names of inputs, labels and weights."""

from __future__ import annotations

import doctest

import pytest

from tfl_research.data.arrays import structures


def test_examples_in_docstrings():
    done = doctest.testmod(structures)
    assert done.attempted > 8
    assert done.failed == 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "x is an empty dict"),
        ({"my age": 1}, "x: the name 'my age' must be letters, digits"),
        ({3: 1}, "x: the name 3 must be letters"),
        ({"a/b": 1}, "x: the name 'a/b' must be"),
        ({"a": {"b": 1}}, "x: 'a' is a dict in a dict; .* one level, as a_b"),
    ],
)
def test_names_that_no_array_can_have(value, message):
    with pytest.raises(ValueError, match=message):
        structures.flattened("x", value)


def test_no_array_where_one_is_needed():
    with pytest.raises(
        ValueError, match="a plot needs one array y; the data have no y"
    ):
        structures.single({"x": 1}, "y", "a plot")
