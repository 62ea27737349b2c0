import numpy as np
import pandas as pd
import pytest

from tfl_research.data.tables import (
    Binned,
    Categorical,
    Numeric,
    Schema,
    Standardised,
    by_client,
)


def test_numeric_is_scaled_to_its_public_range_and_clipped():
    column = Numeric("age", 20, 60)
    x = column.encode(pd.Series([20, 40, 50, 60, 100, 0]))
    assert x.dtype == np.float32
    assert x.tolist() == [[-1.0], [0.0], [0.5], [1.0], [1.0], [-1.0]]
    assert column.names() == ("age",)


def test_numeric_reads_text():
    x = Numeric("age", 0, 10).encode(pd.Series(["5", "7.5"]))
    assert x[:, 0].tolist() == [0.0, 0.5]


def test_logarithmic_scale_by_hand():
    # log(1+0)=0, log(1+3)=log 4, log(1+15)=2 log 4: -1, the middle, 1.
    x = Numeric("income", 0, 15, logarithmic=True).encode(pd.Series([0, 3, 15, 99]))
    np.testing.assert_allclose(x[:, 0], [-1.0, 0.0, 1.0, 1.0], atol=1e-7)


def test_missing_numbers_have_an_indicator_and_the_middle_value():
    column = Numeric("chol", 100, 300, may_be_missing=True, missing_values=(0,))
    x = column.encode(pd.Series([100.0, np.nan, 0.0, 300.0]))
    assert x.tolist() == [[-1, 0], [0, 1], [0, 1], [1, 0]]
    assert column.names() == ("chol", "chol is missing")


def test_a_missing_number_is_refused_where_none_may_be():
    with pytest.raises(ValueError, match="column 'age', row 1: has no value"):
        Numeric("age", 0, 1).encode(pd.Series([1.0, np.nan]))
    with pytest.raises(ValueError, match="row 0: has no value"):
        Numeric("age", 0, 1, missing_values=(0,)).encode(pd.Series([0.0]))


def test_text_where_a_number_belongs_is_refused():
    column = Numeric("age", 0, 1, may_be_missing=True)
    with pytest.raises(ValueError, match="'age', row 2: 'old' is not a number"):
        column.encode(pd.Series(["1", None, "old"]))


@pytest.mark.parametrize("low", [1.0, 2.0, float("nan")])
def test_an_empty_range_is_refused(low):
    with pytest.raises(ValueError, match="low must be below high"):
        Numeric("age", low, 1.0)


def test_a_logarithm_needs_a_range_above_minus_one():
    with pytest.raises(ValueError, match="a low above -1, got -1"):
        Numeric("age", -1, 1, logarithmic=True)


def test_categories_are_one_hot_in_the_declared_order():
    column = Categorical("month", ("Jan", "Feb"))
    x = column.encode(pd.Series(["Feb", "Jan"]))
    assert x.dtype == np.float32
    assert x.tolist() == [[0, 1], [1, 0]]
    assert column.names() == ("month=Jan", "month=Feb")


def test_other_and_missing_categories():
    column = Categorical("a", ("x", "y"), unknown="other", may_be_missing=True)
    x = column.encode(pd.Series(["y", "z", None, "x"]))
    assert x.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]]
    assert column.names() == ("a=x", "a=y", "a is other", "a is missing")


def test_numbers_as_categories():
    x = Categorical("term", ("36", "60")).encode(pd.Series([60, 36]))
    assert x.tolist() == [[0, 1], [1, 0]]


def test_unknown_and_missing_categories_are_refused_unless_declared():
    column = Categorical("a", ("x", "y"))
    with pytest.raises(ValueError, match=r"row 1: 'z' is not one of the 2 .*: x, y"):
        column.encode(pd.Series(["x", "z"]))
    with pytest.raises(ValueError, match="row 0: has no value"):
        column.encode(pd.Series([None, "x"], dtype=object))


@pytest.mark.parametrize("categories", [(), ("x", "x")])
def test_categories_must_be_distinct(categories):
    with pytest.raises(ValueError, match="expected distinct categories"):
        Categorical("a", categories)


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ({"a", "b"}, "city: categories must be a list, since the order counts"),
        ("ab", "city: categories must be a list, got 'ab'"),
        (["a", None], "city: a category has no value; leave it out"),
        (["a", float("nan")], "city: a category has no value; leave it out"),
    ],
)
def test_categories_must_be_a_list(categories, message):
    with pytest.raises(ValueError, match=message):
        Categorical("city", categories)


@pytest.mark.parametrize("categories", [[1, 2], np.array([1, 2]), (1.0, 2.0)])
def test_categories_may_be_numbers_that_are_compared_as_text(categories):
    column = Categorical("ward", categories, unknown="zeros")
    assert column.names() == ("ward=1", "ward=2")
    cells = pd.Series(["2", 1.0, 3], dtype=object)
    assert column.encode(cells).tolist() == [[0, 1], [1, 0], [0, 0]]


def test_bins_are_closed_above():
    column = Binned("miles", (0, 2.5))
    x = column.encode(pd.Series([-1, 0, 0.1, 2.5, 2.6, 1e9]))
    assert x.dtype == np.float32
    assert x.argmax(axis=1).tolist() == [0, 0, 1, 1, 2, 2]
    assert (x.sum(axis=1) == 1).all()
    assert column.names() == ("miles<=0", "miles<=2.5", "miles>2.5")


def test_bins_refuse_missing_values_and_bad_edges():
    with pytest.raises(ValueError, match="row 1: has no value"):
        Binned("a", (0,)).encode(pd.Series([1.0, np.nan]))
    with pytest.raises(ValueError, match="row 0: 'far' is not a number"):
        Binned("a", (0,)).encode(pd.Series(["far"]))
    for edges in ((), (1, 1), (2, 1)):
        with pytest.raises(ValueError, match="expected ascending edges"):
            Binned("a", edges)


def test_a_table_is_encoded_column_by_column():
    table = pd.DataFrame({"b": ["y", "x"], "a": [0.0, 4.0]})
    columns = (Numeric("a", 0, 4), Categorical("b", ("x", "y")))
    assert Schema(columns).feature_names == ("a", "b=x", "b=y")
    assert Schema(columns).encode(table).tolist() == [[-1, 0, 1], [1, 1, 0]]
    assert Schema(columns).encode(table[:0]).shape == (0, 3)


def test_an_absent_column_is_named():
    with pytest.raises(ValueError, match="no column 'c'; it has a"):
        Schema((Numeric("c", 0, 1),)).encode(pd.DataFrame({"a": [1]}))


def _clients():
    x = np.arange(12, dtype=np.float32).reshape(12, 1)
    y = np.array([0, 1] * 6)
    return by_client(x, y, pd.Series(["b", "a", "a"] * 4))


def test_rows_are_grouped_by_client():
    clients = _clients()
    assert list(clients) == ["a", "b"]
    assert clients["b"]["x"][:, 0].tolist() == [0, 3, 6, 9]
    assert clients["b"]["y"].tolist() == [0, 1, 0, 1]
    assert clients["a"]["y"].dtype == np.int32


def test_a_row_without_a_client_is_refused():
    with pytest.raises(ValueError, match="row 1 has no client"):
        by_client(np.zeros((2, 1)), np.zeros(2), pd.Series(["a", None], dtype=object))


def test_infinite_numbers_are_refused():
    with pytest.raises(ValueError, match="'age', row 1: inf is not finite"):
        Numeric("age", 0, 1).encode(pd.Series([0.5, np.inf]))


def test_a_number_outside_of_its_range_can_be_refused():
    column = Numeric("age", 20, 60, may_be_missing=True, outside="refuse")
    assert column.encode(pd.Series([20, None, 60])).tolist() == [
        [-1, 0],
        [0, 1],
        [1, 0],
    ]
    with pytest.raises(ValueError, match=r"row 1: 61.* outside .* range, 20 to 60"):
        column.encode(pd.Series([20, 61]))
    with pytest.raises(ValueError, match="outside must be clip or refuse, got 'keep'"):
        Numeric("age", 20, 60, outside="keep")


def test_standardised_numbers_by_hand():
    column = Standardised("age", 30, 10, may_be_missing=True)
    assert column.names() == ("age", "age is missing")
    assert column.encode(pd.Series(["45", None])).tolist() == [[1.5, 0], [0, 1]]
    with pytest.raises(ValueError, match="deviation must be above 0, got 0"):
        Standardised("age", 30, 0)


def test_unknown_categories_can_be_zeros():
    column = Categorical("a", ("x",), unknown="zeros")
    assert column.encode(pd.Series(["x", "y"])).tolist() == [[1], [0]]
    nothing = Categorical("a", (), unknown="zeros", may_be_missing=True)
    assert nothing.encode(pd.Series(["x", None])).tolist() == [[0], [1]]
    with pytest.raises(ValueError, match="unknown must be one of refuse, other, zeros"):
        Categorical("a", ("x",), unknown="drop")


def test_whole_numbers_are_one_category_however_written():
    column = Categorical("a", ("3", "3.5"))
    cells = pd.Series([3, 3.0, "3", 3.5], dtype=object)
    assert column.encode(cells).tolist() == [[1, 0], [1, 0], [1, 0], [0, 1]]


def test_errors_name_a_cell_as_they_are_told_to():
    schema = Schema((Numeric("age", 0, 1),))
    with pytest.raises(ValueError, match=r"^age of patient 1: 'x' is not a number"):
        schema.encode(
            pd.DataFrame({"age": ["0", "x"]}),
            lambda row, column: f"{column} of patient {row}",
        )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["age"], "columns must be declared, as by Numeric.*, got 'age'"),
        (Numeric("age", 0, 1), "columns must be a list, got Numeric"),
        ({Numeric("age", 0, 1)}, "columns must be a list, since the order counts"),
    ],
)
def test_a_schema_has_a_list_of_declared_columns(columns, message):
    with pytest.raises(ValueError, match=message):
        Schema(columns)


def test_a_schema_has_columns_of_distinct_names():
    for columns in ((), (Numeric("a", 0, 1), Binned("a", (0,)))):
        with pytest.raises(ValueError, match="expected columns of distinct names"):
            Schema(columns)
