"""Arrays as users have them: types that models take, or one line that says why not."""

from __future__ import annotations

import doctest

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from tfl_research.data import conversion
from tfl_research.data.arrays import sequences
from tfl_research.data.arrays.sequences import Sequences

X = np.arange(6.0).reshape(3, 2)


def _converted(sequence=None, **arrays):
    return conversion.converted("a", arrays, sequence or {})


def test_examples_in_docstrings():
    for module in (conversion, sequences):
        done = doctest.testmod(module)
        assert done.attempted > 0
        assert done.failed == 0


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (X, np.float32),
        (X.astype(np.float16), np.float32),
        (X.astype(np.uint8), np.uint8),
        ([1, 2, 3], np.int64),
        ([True, False, True], np.bool_),
        (pd.Series([1.5, 2, 3]), np.float32),
        (pd.Series([1, 2, 3], dtype="Int64"), np.int64),
        (["a", "b", "ü"], object),
        (np.array([b"a", b"b", b"c"]), object),
        (pd.Series(["a", "b", "c"], dtype="category"), object),
    ],
)
def test_types_of_inputs(given, dtype):
    x = _converted(x=given)["x"]
    assert x.dtype == dtype
    assert len(x) == 3
    if dtype is object:
        assert all(isinstance(text, bytes) for text in x)


def test_types_of_labels_and_weights():
    flat = _converted(x=X, y=np.array([1, 2, 3], np.uint8), sample_weight=[1, 2, 0])
    assert [str(a.dtype) for a in flat.values()] == ["float32", "int32", "float32"]
    assert _converted(x=X, y=[0.5, 1, 2])["y"].dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X, "z": X}, "client 'a': unknown array 'z'; expected x"),
        ({"y": [1]}, "client 'a' has no 'x'; .* got 'y'"),
        ({"x": X, "x/b": X}, "client 'a' has both 'x' and 'x/b'"),
        ({"x": {"b": {"c": X}}}, "client 'a': x: 'b' is a dict in a dict"),
        ({"x/b": {"c": X}}, "client 'a': 'x/b' is a dict; expected an array"),
        ({"x": {"a": X, "b": X[:2]}}, "'a' has 3 rows of x/a but 2 of x/b"),
        ({"x": (X, X)}, "'a': x is a tuple of arrays; give a dict"),
        ({"x": 3}, "'a': x must be an array of numbers with an axis of examples"),
        ({"x": [1, "b", 2]}, r"'a': x, row 0: holds 1 \(int\), but other"),
        ({"x": ["a", None]}, "'a': x, row 1: no value"),
        ({"x": pd.Series([1, None], dtype="Int64")}, "x, row 1: nan is not finite"),
        ({"x": [[1.0], [None]]}, "'a': x, row 1: no value"),
        ({"x": ["a", "\ud800"]}, "'a': x, row 1: .* is not valid text"),
        ({"x": [2**70, 1]}, "'a': x holds numbers as Python objects"),
        ({"x": X, "y": [1, None, 2]}, "'a': y, row 1: no value"),
        ({"x/a/b": X}, "'a': x: the name 'a/b' must be letters"),
        ({"x/": X}, "'a': x: the name '' must be letters"),
        ({"x": np.array(["2020-01-01"], "M8[D]")}, "'a': x must be .* got datetime64"),
        ({"x": X * 1j}, "'a': x must be .* got complex128; convert it first"),
        ({"x": np.ma.masked_equal(X, 3)}, "'a': x, row 1: the value is masked"),
        (
            {"x": [np.ma.masked_array([1.0, 2], [0, 1]), np.ma.array([3.0, 4])]},
            "'a': x, row 0: the value is masked",
        ),
        ({"x": [[1.0], [np.ma.masked]]}, "'a': x, row 1: the value is masked"),
        (
            {"x": pd.DataFrame({"a": pd.Categorical([3, 1, 3]), "b": [0.5, 1, 2]})},
            r"'a': x: column 'a' holds numbers as categories; give the numbers",
        ),
        ({"x": X, "y": pd.Series([1, 0, 1], dtype="category")}, "y: column None hold"),
        ({"x": sparse.csr_matrix(X)}, "'a': x is a csr_matrix; give a dense array"),
        ({"x": np.where(X == 4, 1e300, X)}, "row 2: 1e.300 is not finite in float32"),
        ({"x": X, "y": ["a", "b", "c"]}, "'a': y must be .* number of each class"),
        ({"x": X, "y": [1, 2**40, 3]}, "'a': y, row 1: 1099511627776 does not fit"),
        ({"x": X, "sample_weight": X}, "'a': sample_weight must be one number for"),
        ({"x": X, "sample_weight": [1, 2, -1]}, "'a': sample_weight, row 2: -1 is neg"),
        (
            {"x": X, "sample_weight": [1, 2, np.nan]},
            "sample_weight, row 2: nan is not finite",
        ),
        (
            {"x": [[1, 2], [3]]},
            "'a': x has rows of different lengths, 1 to 2; give seq",
        ),
    ],
)
def test_what_is_refused_is_named_in_one_line(arrays, message):
    with pytest.raises(ValueError, match=message) as error:
        _converted(**arrays)
    assert "\n" not in str(error.value)


def test_client_ids_are_text():
    with pytest.raises(ValueError, match="client ids must be text, got 3; give '3'"):
        conversion.converted(3, {"x": X})
    with pytest.raises(ValueError, match="not valid text"):
        conversion.converted("\ud800", {"x": X})


@pytest.mark.parametrize(
    ("given", "sequence", "expected"),
    [
        ([[1, 2], [3], []], Sequences(3), [[1, 2, 0], [3, 0, 0], [0, 0, 0]]),
        ([[1, 2], [3]], Sequences(2, pad=9), [[1, 2], [3, 9]]),
        ([[1, 2, 3], [4]], Sequences(2, longer="cut"), [[1, 2], [4, 0]]),
        ([[1, 2], [3, 4]], Sequences(3), [[1, 2, 0], [3, 4, 0]]),
        ([[0.5], [0.0, 1.0]], Sequences(2), [[0.5, 0], [0, 1]]),
        ([["a"], ["b", "c"]], Sequences(2), [[b"a", b""], [b"b", b"c"]]),
        (
            [[[1, 2]], [[3, 4], [5, 6]]],
            Sequences(2),
            [[[1, 2], [0, 0]], [[3, 4], [5, 6]]],
        ),
        ([np.array([], np.int32)], Sequences(2), [[0, 0]]),
    ],
)
def test_rows_are_padded_at_their_ends(given, sequence, expected):
    x = _converted({"x": sequence}, x=given)["x"]
    assert x.tolist() == expected


def test_an_empty_row_has_the_type_of_the_others():
    assert _converted({"x": Sequences(2)}, x=[[], [1.5]])["x"].dtype == np.float32
    rows = [np.array([], np.int32), np.array([1, 2], np.int32)]
    assert _converted({"x": Sequences(2)}, x=rows)["x"].dtype == np.int32


@pytest.mark.parametrize(
    ("given", "sequence", "message"),
    [
        ([[1], [1, 2, 3]], Sequences(2), "'a': x, row 1: 3 elements, above .* of 2"),
        ([[1], [2, 0]], Sequences(2), "'a': x, row 1: holds 0, which is the padding"),
        ([[["a"]], [["b"]]], Sequences(2, pad="a"), "'a': x, row 0: holds 'a', which"),
        (
            [[1], ["b", "c"]],
            Sequences(2),
            "'a': x, row 0: holds numbers, but other rows",
        ),
        (
            [[1]],
            Sequences(2, pad="p"),
            "'a': x: pad='p' is text, but the rows hold num",
        ),
        (np.uint8([[1]]), Sequences(2, pad=300), "pad=300 does not fit .* uint8, 0 to"),
        (np.uint8([[1]]), Sequences(2, pad=-1.0), "pad=-1.0 does not fit .* uint8"),
        ([[1]], Sequences(2, pad=0.5), "'a': x: pad=0.5 is not a whole number"),
        ([1, 2], Sequences(2), "'a': x, row 0: expected a sequence of .* one value"),
        ([[[1, 2]], [[1]]], Sequences(2), r"'a': x, row 1: elements of shape \(1,\)"),
    ],
)
def test_rows_that_cannot_be_padded(given, sequence, message):
    with pytest.raises(ValueError, match=message):
        _converted({"x": sequence}, x=given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 0}, "length must be a whole number of at least 1 or 'longest'"),
        ({"length": "short"}, "length must be .* got 'short'"),
        ({"length": 2.5}, "length must be .* got 2.5"),
        ({"length": True}, "length must be .* got True"),
        ({"length": 2, "pad": None}, "pad must be a number or text, got None"),
        ({"length": 2, "longer": "drop"}, "longer must be refuse or cut, got 'drop'"),
        ({"length": 2, "pad": float("nan")}, "pad must be finite, got nan"),
    ],
)
def test_settings_of_sequences(arguments, message):
    with pytest.raises(ValueError, match=message):
        Sequences(**arguments)


def test_sequences_of_an_array_that_is_not_there():
    with pytest.raises(ValueError, match="client 'a' has no array 'x/b'; it has x"):
        _converted({"x/b": Sequences(2)}, x=X)
    for wrong, message in (
        ({"sample_weight": Sequences(2)}, "'sample_weight' is not an array of inputs"),
        (80, r"sequences must be Sequences\(...\)"),
    ):
        with pytest.raises(ValueError, match=message):
            sequences.by_array(wrong, ["x"])
