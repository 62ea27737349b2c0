"""Data of one's own that would become something else: refused by name, or kept."""

from __future__ import annotations

import decimal

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tfl_research import tasks
from tfl_research.errors import UserError

X, LARGE, HUGE = np.zeros((2, 3)), 2**24 + 1, 2**53 + 1
WEIGHTS = {"sample_weight": [1, LARGE]}
TOKENS = {"objective": "next_token", "sequences": tasks.Sequences(6)}


def no_model():
    raise AssertionError


def arrays(x, y=(0, 1), clients=(), **options):
    held = dict(clients) or {"a": {"x": x, "y": y}}
    task = tasks.from_arrays(held, model=no_model, test=0, **options)
    return task.train.load("a")


def frame(index=None, client="a", **columns):
    named = ("features", "classes", "label")
    options = {"label": "y", **{k: columns.pop(k) for k in named if k in columns}}
    rows = {"c": ["a", "a"], "v": [1.0, 2.0], "y": [0, 1], **columns}
    df = pd.DataFrame(rows)
    df = df if index is None else df.set_index(index)
    task = tasks.from_dataframe(df, client="c", model=no_model, test=0, **options)
    return task.train.load(client)


def cells(values, **options):
    """A column as an input of its own."""
    return frame(v=values, features={"v": "v"}, **options)


REFUSED = {
    # Integers as floats, which float32 rounds.
    "ids as floats": (lambda: arrays([[LARGE * 1.0], [1]]), "x, row 0: 16777217 would"),
    "labels": (
        lambda: arrays(X, [LARGE, 1], objective="regression"),
        "y, row 0: 16777217 would be rounded in float32, and the loss",
    ),
    "float labels": (
        lambda: arrays(X, [1.0, LARGE], objective="regression"),
        "y, row 1: 16777217 would be rounded",
    ),
    "labels above int32": (
        lambda: arrays(X, [2**31, 1], objective="regression"),
        "y, row 0: 2147483648 does not fit into int32",
    ),
    "ids in a matrix": (
        lambda: frame(v=[1, LARGE]),
        "client 'a', column 'v', row 1: 16777217 is not exact in float32",
    ),
    "floats in a matrix": (
        lambda: frame(v=[1, LARGE * 1.0]),
        "client 'a', column 'v', row 1: 16777217.0 is not exact in float32",
    ),
    # A column of identifiers next to a column of measurements.
    "ids next to measurements": (
        lambda: arrays([[LARGE * 1.0, LARGE + 0.5], [1, 2]]),
        "x, row 0: 16777217 would",
    ),
    # NumPy makes floats of all columns.
    "ids in a frame as x": (
        lambda: arrays(pd.DataFrame({"id": [2, HUGE], "v": [0.5, 1]})),
        f"client 'a': x, row 1: {HUGE} would be rounded, because other numbers",
    ),
    "ids in a list": (
        lambda: arrays([[HUGE, 0.5], [1, 2]]),
        f"client 'a': x, row 0: {HUGE} would be rounded, because",
    ),
    "ids of two types of integers": (
        lambda: arrays([[np.uint64(2**63 + 1)], [np.int64(-1)]]),
        f"client 'a': x, row 0: {2**63 + 1} would be rounded, because",
    ),
    "ids in a row of a sequence": (
        lambda: arrays([[HUGE], [0.5, 1]], sequences=tasks.Sequences(2)),
        f"client 'a': x, row 0: {HUGE} would be rounded, because",
    ),
    "ids in a column of objects": (
        lambda: frame(v=pd.Series([0.5, HUGE], dtype=object)),
        f"client 'a', column 'v', row 1: {HUGE} would be rounded, because",
    ),
    "ids in a label of several columns": (
        lambda: frame(w=[0.5, 1], y=[1, HUGE], label=["y", "w"], features=["v"]),
        f"client 'a', column 'y', row 1: {HUGE} would be rounded, because",
    ),
    "large weights": (
        lambda: arrays(X, clients={"a": {"x": X, "y": [0, 1], **WEIGHTS}}),
        "sample_weight, row 1: 16777217 would be rounded",
    ),
    # Numbers that float32 makes 0.
    "tiny numbers": (
        lambda: arrays([[1.0, 1e-60], [2.0, 0.0]]),
        "x, row 0: 1e-60 is too small for float32, which makes all of the column 0",
    ),
    "tiny labels": (
        lambda: arrays(X, [0.0, 1e-50], objective="regression"),
        "y, row 1: 1e-50 is too small for float32",
    ),
    "tiny numbers of an input": (
        lambda: cells([1e-50, 2e-50]),
        "client 'a', column 'v', row 0: 1e-50 is too small for float32",
    ),
    # Values that are missing, and labels that are none.
    "a label that is NaN": (lambda: arrays(X, [np.nan, 1]), "y, row 0: nan is not fin"),
    "a missing label": (lambda: frame(y=[None, 1]), "column 'y', row 0: no value"),
    "half a class": (lambda: arrays(X, [0.5, 1]), "y, row 0: 0.5, but objective 'clas"),
    "categories": (
        lambda: frame(y=pd.Categorical(["n", "y"])),
        "column 'y', row 0: 'n' is not a number",
    ),
    "categories of numbers": (
        lambda: frame(v=pd.Categorical([5, 7])),
        "column 'v', row 0: 5 is not a number",
    ),
    # Types that are no numbers.
    "times": (
        lambda: cells(pd.to_datetime(["2020", "2021"])),
        "column 'v', row 0: Timestamp.* is neither a number",
    ),
    "times in an array": (
        lambda: arrays(np.array(["2020-01-01", "2020-01-02"], "M8[D]")),
        r"x must be an array of numbers or text, got datetime64\[D\]",
    ),
    "decimals": (
        lambda: frame(v=[decimal.Decimal("1.5")] * 2),
        r"row 0: Decimal\('1.5'\) is not a number",
    ),
    "text and numbers": (
        lambda: cells(pd.Series(["p", 1], dtype=object)),
        "row 1: 1 is not text, but other cells are",
    ),
    "objects": (lambda: cells([{"q": 1}, {"q": 2}]), "row 0: {'q': 1} is neither"),
    # Clients that are one, or none.
    "ids of two types": (
        lambda: arrays(X, clients={1: {"x": X, "y": [0, 1]}, "1": {}}),
        "client ids must be text, got 1; give '1'",
    ),
    "clients of two types": (
        lambda: frame(c=pd.Series([1, "1"], dtype=object)),
        "row 0: the client 1 is a number, but other clients are text",
    ),
    "clients that were rounded": (
        lambda: frame(c=[2.0**60, 2.0**60 + 1]),
        "row 0: the client 1.15.* is a float that may stand for several integers",
    ),
    "a client in no row": (lambda: frame(c=["a", None]), "row 1: has no client"),
    "clients of other types": (
        lambda: arrays(
            X,
            clients={
                "a": {"x": X.astype("int32"), "y": [0, 1]},
                "b": {"x": X.astype("int64"), "y": [0, 1]},
            },
        ),
        r"client 'b' has x of int64 \[3\], expected int32 \[3\]",
    ),
    # Columns that are left out, or taken by mistake.
    "a further array": (
        lambda: arrays(X, clients={"a": {"x": X, "y": [0, 1], "z": [0, 1]}}),
        "client 'a': unknown array 'z'",
    ),
    "clients in the index": (
        lambda: frame(index="c"),
        r"'c' is the index of the DataFrame, not a column; give df.reset_index\(\)",
    ),
    "a column of row numbers": (
        lambda: frame(**{"Unnamed: 0": [0, 1]}),
        "column 'Unnamed: 0' has the numbers of the rows",
    ),
    # Labels without a token.
    "labels behind the tokens": (
        lambda: arrays([[1, 2, 3]], [[2, 3, 4, 5]], objective="next_token"),
        "y, row 0: 4 labels for the 3 tokens of x; each token needs one label",
    ),
    "labels behind one row's tokens": (
        lambda: arrays([[1, 2, 3], [1]], [[2, 3], [2, 3]], **TOKENS),
        "y, row 1: 2 labels for the 1 tokens of x",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_in_one_line(name):
    build, match = REFUSED[name]
    with pytest.raises(ValueError, match=match) as error:
        build()
    assert "\n" not in str(error.value)


KEPT = {
    "large integers": (lambda: arrays([[2**40], [1]])["x"], [[2**40], [1]]),
    "large measurements": (
        lambda: arrays([[LARGE + 0.5], [LARGE * 1.0]])["x"],
        [[2.0**24 + 2], [2.0**24]],
    ),
    "whole numbers among large measurements": (
        lambda: arrays([[LARGE + 0.5, 2.0**25], [LARGE * 1.0, 1.0]])["x"],
        [[2.0**24 + 2, 2.0**25], [2.0**24, 1]],
    ),
    "numbers that are tiny beside others": (
        lambda: arrays([[1e-60], [2.0]])["x"],
        [[0], [2]],
    ),
    "large integers that floats represent": (
        lambda: arrays([[2**60, 0.5], [1, 2]])["x"],
        [[2.0**60, 0.5], [1, 2]],
    ),
    "rounding that is asked for": (
        lambda: arrays(np.array([[LARGE], [1]]).astype(np.float32))["x"],
        [[2.0**24], [1]],
    ),
    "truth values": (lambda: arrays(X, [True, False])["y"], [1, 0]),
    "whole floats": (lambda: arrays(X, [0.0, 1.0])["y"], [0, 1]),
    "categories' values": (lambda: cells(pd.Categorical([7, 5]))["x/v"], [7, 5]),
    "declared classes": (
        lambda: frame(y=pd.Categorical(["n", "y"]), classes=["y", "n"])["y"],
        [1, 0],
    ),
    "a client 1 and 1.0": (
        lambda: frame(c=pd.Series([1, 1.0], dtype=object), client="1")["y"],
        [0, 1],
    ),
    "a client with a space": (lambda: frame(c=["a", " a"])["y"], [0]),
    "fewer labels than tokens": (
        lambda: arrays([[1, 2, 3], [4]], [[2, 3], [5]], **TOKENS)["y"],
        [[2, 3, 0, 0, 0, 0], [5, 0, 0, 0, 0, 0]],
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_is_kept(name):
    build, expected = KEPT[name]
    found = build()
    assert found.tolist() == expected


def test_a_client_without_examples_stays():
    nothing = {"x": [], "y": []}
    held = {"a": {"x": X, "y": [0, 1]}, "b": nothing}
    task = tasks.from_arrays(held, model=no_model, test=0)
    assert task.train.load("b")["x"].shape == (0, 3)


@pytest.mark.parametrize("part", [None, "id"])
def test_large_integers_that_a_model_takes_as_floats_are_refused(part):
    def model(dtype="float32"):
        ids = tf.keras.layers.Input([1], dtype=dtype, name="id")
        floats = tf.cast(ids, tf.float32)
        return tf.keras.Model(ids, tf.keras.layers.Dense(2)(floats))

    x = np.array([[1], [LARGE]])
    held = {"a": {"x": x if part is None else {part: x}, "y": [0, 1]}}
    task = tasks.from_arrays(held, model=model, test=0)
    with pytest.raises(UserError, match=r"'a', x row 1: 16777217 of x.*dtype='int64'"):
        task.functional_model()
    fine = tasks.from_arrays(held, model=lambda: model("int64"), test=0)
    fine.functional_model()


def test_tokens_that_an_embedding_would_cut_are_refused():
    def model():
        layers = [tf.keras.layers.Embedding(5, 2), tf.keras.layers.Flatten()]
        return tf.keras.Sequential([tf.keras.layers.Input([1]), *layers])

    held = {"a": {"x": np.array([[1.0], [1.5]]), "y": [0, 1]}}
    task = tasks.from_arrays(held, model=model, test=0)
    with pytest.raises(UserError, match=r"'a', x row 1: token 1\.5 in Embedding"):
        task.functional_model()
