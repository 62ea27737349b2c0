"""Tasks of DataFrames, Parquet files and saved Hugging Face data sets."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf
from pyarrow import ipc, parquet as pq

from tfl_research import tasks
from tfl_research.data.tables import Categorical, Numeric, Schema
from tfl_research.data.tables.dataframes import arrow
from tfl_research.data.tables.notation import Notation


def _model():
    return tf.keras.Sequential([tf.keras.layers.Input([2]), tf.keras.layers.Dense(2)])


def _frame():
    return pd.DataFrame(
        {
            "ward": ["b", "a", "a", "b", "a"],
            "age": [30, 40, 50, 60, 70],
            "city": ["Oslo", "Rome", "Oslo", "Bern", "Rome"],
            "dose": [0.5, 1.5, 2.5, 3.5, 4.5],
            "fell": [0, 1, 0, 1, 1],
            "trust": [1.0, 0.5, 0.0, 2.0, 1.0],
        },
        index=[10, 11, 12, 13, 14],
    )


NUMBERS = {"features": ["age", "dose"], "label": "fell"}


def _made(df=None, **options):
    given = {"client": "ward", "model": _model, "test": 0, **NUMBERS, **options}
    return tasks.from_dataframe(_frame() if df is None else df, **given)


def test_columns_become_arrays():
    task = _made(weight="trust")
    assert task.train.client_ids == ("a", "b")
    examples = task.train.load("a")
    assert examples["x"].tolist() == [[40, 1.5], [50, 2.5], [70, 4.5]]
    assert examples["x"].dtype == np.float32
    assert examples["y"].tolist() == [1, 0, 1]
    assert examples["y"].dtype == np.int32
    assert examples["sample_weight"].tolist() == [0.5, 0, 1]
    assert task.pooled == ()
    assert task.card.public_knowledge == ()


def test_all_other_columns_are_features():
    df = _frame().drop(columns=["city", "trust"])
    assert _made(df, features=None).train.load("b")["x"].tolist() == [
        [30, 0.5],
        [60, 3.5],
    ]
    with pytest.raises(ValueError, match=r"client 'a', column 'city', row 11: 'Rome' "):
        _made(features=None)
    with pytest.raises(ValueError, match="features: no column is left"):
        _made(df[["ward", "fell"]], features=None)


def test_inputs_and_labels_by_name():
    df = _frame()
    df["words"] = [[1, 2], [3], [4, 5, 6], [7], [8, 9]]
    task = _made(
        df,
        features={
            "age": "age",
            "city": "city",
            "both": ["age", "dose"],
            "coded": Schema((Numeric("trust", 0, 2),)),
            "words": "words",
        },
        sequences={"x/words": tasks.Sequences(3)},
    )
    b = task.train.load("b")
    assert list(b) == ["x/age", "x/both", "x/city", "x/coded", "x/words", "y"]
    assert b["x/age"].tolist() == [30, 60]
    assert b["x/age"].dtype == np.int64
    assert b["x/city"].tolist() == [b"Oslo", b"Bern"]
    assert b["x/both"].tolist() == [[30, 0.5], [60, 3.5]]
    assert b["x/coded"].tolist() == [[0.0], [1.0]]
    assert b["x/words"].tolist() == [[1, 2, 0], [7, 0, 0]]
    assert task.card.public_knowledge == (
        "the columns, ranges and categories of the schema",
    )


def test_labels_by_name_and_no_labels():
    objective = tasks.objectives.regression()
    label = {"kind": "fell", "amounts": ["dose", "trust"]}
    task = _made(features=["age"], label=label, objective=objective)
    a = task.train.load("a")
    assert a["y/kind"].tolist() == [1, 0, 1]
    assert a["y/amounts"].tolist() == [[1.5, 0.5], [2.5, 0], [4.5, 1]]
    assert set(_made(label=None, objective=objective).train.specs) == {"x"}
    with pytest.raises(ValueError, match=r"client 'a' has no 'y'; .*'classification'"):
        _made(label=None)
    with pytest.raises(
        ValueError, match="expects one array of labels, got y/amounts, y"
    ):
        _made(features=["age"], label=label)


def test_declared_categories_and_classes():
    df = _frame().assign(fell=["no", "yes", "no", "yes", "yes"])
    schema = Schema(
        (Categorical("city", ("Bern", "Oslo", "Rome")), Numeric("age", 0, 100))
    )
    task = _made(df, features=schema, classes=["no", "yes"])
    assert task.train.load("b")["x"].round(6).tolist() == [
        [0, 1, 0, np.float32(-0.4).round(6)],
        [1, 0, 0, np.float32(0.2).round(6)],
    ]
    assert task.train.load("b")["y"].tolist() == [0, 1]
    assert task.card.label_names == ("no", "yes")
    assert task.card.public_knowledge[1] == "the classes of the label"
    assert task.pooled == ()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"client": "room"}, "client='room' is no column; the columns are ward, "),
        ({}, {"features": ["age", "room"]}, "the DataFrame has no column 'room'; it"),
        ({}, {"features": "age"}, r"features='age' must be a list .*; give \['age'\]"),
        ({}, {"features": ["age", "fell"]}, "column 'fell' is used twice"),
        (
            {},
            {"features": ["age", "ward"]},
            "client column 'ward' cannot also be a feature",
        ),
        ({}, {"label": "city"}, "'a', column 'city', row 11: 'Rome' is not a number"),
        (
            {},
            {"classes": ["x", "y"]},
            "row 11: 1 is not one of the declared classes: x",
        ),
        ({}, {"classes": ["x"]}, "classes must be two or more distinct names"),
        ({}, {"size": 3}, "unknown option 'size'; expected one of objective, test"),
        ({}, {"test": {"a": {}}}, "test must be a share of at least 0 and below 1"),
        ({"age": [1, 2, None, 4, 5]}, {}, "client 'a', column 'age', row 12: no value"),
        (
            {"age": [1, 2, np.inf, 4, 5]},
            {},
            "'age', row 12: inf is not finite in float",
        ),
        (
            {"age": [1, 2, 2**24 + 1, 4, 5]},
            {},
            "row 12: 16777217 is not exact in float",
        ),
        (
            {"age": pd.Timestamp("2020")},
            {},
            "'a', column 'age', row 11: .* not a number",
        ),
        (
            {"age": pd.Timestamp("2020")},
            {"features": {"age": "age"}},
            "column 'age', row 11: .* is neither a number, nor text, nor a sequence",
        ),
        ({"fell": [0, 1, 2**40, 1, 1]}, {}, "'fell', row .*: 1099511627776 does not"),
        ({"age": [1, 2, 2**60 + 1, 4, 5]}, {}, "row 12: .* is not exact in float"),
        (
            {"age": np.array([1, 2**63, -1, 1, 1], object)},
            {},
            "'age', row 11: 9223372036854775808 does not fit into int64",
        ),
        (
            {"age": np.array([np.complex64(1j), 1, 1, 1, 1], object)},
            {},
            "'age', row 10: 1j is not a number",
        ),
        *(
            (
                {"age": pd.Series([value] * 5).to_numpy()},
                {"features": Schema((Numeric("age", 0, 10),))},
                "'age', row 11: .* is not a number; convert it first",
            )
            for value in (pd.Timestamp("2020"), pd.Timedelta(1), 1j)
        ),
        (
            {"city": [1, True, 1, 1, 1]},
            {"features": Schema((Categorical("city", ("1",)),))},
            "'city', row 11: True is not one of the 1 declared categories",
        ),
        ({"ward": [1, True, 1, 1, 1]}, {}, "'ward', row 11: the client True is nei"),
        ({"ward": ["1", 1, 1, 1, 1]}, {}, "'ward', row 11: the client 1 is a number"),
        ({"ward": [1, 2.5, 1, 1, 1]}, {}, "'ward', row 11: the client 2.5 is neither"),
        ({}, {"classes": "ny"}, "classes must be a list, got 'ny'"),
        ({}, {"classes": {"n", "y"}}, "classes must be a list, since the order counts"),
        ({}, {"features": {"age", "dose"}}, "features must be a list, since the order"),
        ({}, {"features": {"a": {"age"}}}, "features 'a' must be a list, since the or"),
        ({}, {"features": ["age", "age"]}, "column 'age' is listed twice"),
        ({}, {"label": {"fell"}}, "label must be a list, since the order counts"),
        (
            {},
            {"label_names": {"n", "y"}},
            "label_names must be a list, since the order",
        ),
        ({}, {"client": ["ward"]}, "client must be the name of a column, as text, got"),
        ({}, {"public_data": "no"}, "public_data must be True or False, got 'no'"),
        ({}, {"seed": "a"}, "seed must be a whole number"),
        ({}, {"pooled": "the scale"}, "pooled must be a list of tasks.Pooled"),
        ({}, {"batching": 3}, "batching must be a Batching or a Poisson"),
        (
            {"ward": ["a", None, "b", "a", "a"]},
            {},
            "column 'ward', row 11: has no client",
        ),
        (
            {"ward": ["a", " ", "b", "a", "a"]},
            {},
            "column 'ward', row 11: has no client",
        ),
        ({"fell": [0, 1, None, 1, 1]}, {}, "'a', column 'fell', row 12: no value"),
        ({"fell": [0, 1, -1, 1, 1]}, {}, "client 'a', column 'fell', row 12: -1, but"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(change, options, message):
    with pytest.raises(ValueError, match=message) as error:
        _made(_frame().assign(**change), **options)
    assert "\n" not in str(error.value)


def test_what_is_no_frame_is_refused():
    with pytest.raises(ValueError, match="df must be a pandas DataFrame, got dict"):
        tasks.from_dataframe({}, client="a", label="b", model=_model)


def test_columns_with_numbers_as_names_are_refused_in_one_line():
    frame = pd.DataFrame({0: ["a", "a"], 1: [1.0, 2], 2: [0, 1]})
    with pytest.raises(ValueError, match=r"has the column 0, .*rename\(columns=str\)"):
        tasks.from_dataframe(frame, client=0, label=2, model=_model)


def test_one_client_more_moves_no_other_example():
    rows = pd.DataFrame(
        {
            "who": np.repeat(["a", "b", "c"], 50),
            "v": np.arange(150.0),
            "w": 1.0,
            "y": 0,
        }
    )
    kwargs = {"client": "who", "label": "y", "features": ["v", "w"], "test": 0.5}
    one = _made(rows, **kwargs)
    for other in (rows[rows.who != "b"], rows.sample(frac=1, random_state=0)):
        two = _made(other, **kwargs)
        for client_id in two.train.client_ids:
            assert set(two.train.load(client_id)["x"][:, 0]) == set(
                one.train.load(client_id)["x"][:, 0]
            )
    assert 10 < one.train.num_examples("a") < 40


def test_the_longest_sequence_of_all_clients_is_declared():
    df = _frame().assign(words=[[1], [1, 2], [3], [4, 5, 6, 7], [8]])
    task = _made(
        df,
        features={"words": "words"},
        sequences={"x/words": tasks.Sequences("longest")},
    )
    assert task.train.specs["x/words"].shape == (4,)
    (fact,) = task.pooled
    assert (fact.what, fact.unit) == ("the length of x/words", "client")


class TestParquet:
    def test_a_file_with_a_column_of_clients(self, tmp_path):
        _frame().to_parquet(tmp_path / "all.parquet")
        task = tasks.from_parquet(
            tmp_path / "all.parquet", client="ward", model=_model, test=0, **NUMBERS
        )
        expected = _made()
        assert task.train.client_ids == ("a", "b")
        for client_id in ("a", "b"):
            for name, array in expected.train.load(client_id).items():
                assert np.array_equal(task.train.load(client_id)[name], array)
        assert task.train.specs == expected.train.specs
        assert task.card.source == str(tmp_path / "all.parquet")

    def test_several_files_with_a_column_of_clients(self, tmp_path):
        _frame()[:2].to_parquet(tmp_path / "1.parquet")
        _frame()[2:].to_parquet(tmp_path / "2.parquet")
        task = tasks.from_parquet(
            tmp_path, client="ward", model=_model, test=0, **NUMBERS
        )
        assert task.train.load("a")["x"][:, 0].tolist() == [40, 50, 70]

    def test_a_file_for_each_client_is_read_when_it_is_needed(self, tmp_path):
        for ward, rows in _frame().groupby("ward"):
            rows.to_parquet(tmp_path / f"{ward}.parquet")
        _frame()[:0].to_parquet(tmp_path / "c.parquet")
        task = tasks.from_parquet(
            tmp_path, client=None, model=_model, test=0, **NUMBERS
        )
        assert task.train.client_ids == ("a", "b", "c")
        assert task.train.num_examples("c") == 0
        (tmp_path / "b.parquet").unlink()
        assert task.train.load("a")["x"][:, 0].tolist() == [40, 50, 70]
        with pytest.raises(ValueError, match=r"b.parquet: not a readable Parquet file"):
            task.train.load("b")

    def test_what_does_not_fit(self, tmp_path):
        (tmp_path / "a").mkdir()
        _frame().to_parquet(tmp_path / "a" / "a.parquet")

        def made(path=tmp_path / "a", **options):
            given = {"client": None, "model": _model, "test": 0, **NUMBERS, **options}
            return tasks.from_parquet(path, **given)

        with pytest.raises(ValueError, match="is one file; client= must name"):
            made(tmp_path / "a" / "a.parquet")
        with pytest.raises(ValueError, match="no such folder"):
            made(tmp_path / "none")
        with pytest.raises(ValueError, match=r"a.parquet has no column 'room'"):
            made(features=["room"])
        with pytest.raises(
            ValueError, match="length='longest', but rows are read only when"
        ):
            made(sequences=tasks.Sequences("longest"))
        _frame().astype({"age": float}).to_parquet(tmp_path / "a" / "b.parquet")
        with pytest.raises(
            ValueError, match=r"b.parquet: column 'age' is of double, bu"
        ):
            made()
        (tmp_path / "a" / "b.parquet").unlink()
        (tmp_path / "a" / "schema.json").write_text("{}")
        with pytest.raises(
            ValueError, match=r"schema.json is read by the task csv only"
        ):
            made()
        (tmp_path / "a" / "schema.json").unlink()
        (tmp_path / "a" / "c.csv").write_text("a\n1\n")
        with pytest.raises(ValueError, match=r"c.csv: no .parquet file; the task csv"):
            made()

    def test_columns_that_no_other_file_has(self, tmp_path):
        rows = _frame()[["ward", "age", "fell"]]
        rows.to_parquet(tmp_path / "a.parquet")
        rows.assign(dose=1.0).to_parquet(tmp_path / "b.parquet")

        def made(**options):
            return tasks.from_parquet(
                tmp_path, client="ward", label="fell", model=_model, **options
            )

        made(features=["age"])
        with pytest.raises(ValueError, match=r"b.parquet: column 'dose', which a.par"):
            made()
        (tmp_path / "b.parquet").unlink()
        rows.rename_axis("key").to_parquet(tmp_path / "a.parquet")
        assert made(test=0).train.load("b")["x"].tolist() == [[30.0], [60.0]]
        twice = pa.table([[1.0], [2.0]], names=["age", "age"])
        pq.write_table(twice, tmp_path / "a.parquet")
        with pytest.raises(ValueError, match=r"a.parquet: 2 columns are called 'age'"):
            made()


def _saved(folder, table, features, files=1):
    """What `datasets.Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True)
    step = -(-len(table) // files)
    names = [f"data-{i:05d}-of-{files:05d}.arrow" for i in range(files)]
    for number, name in enumerate(names):
        with ipc.new_stream(folder / name, table.schema) as file:
            file.write_table(table.slice(number * step, step))
    state = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": "0",
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    (folder / "state.json").write_text(json.dumps(state))
    info = {"citation": "", "features": features}
    (folder / "dataset_info.json").write_text(json.dumps(info))


SAVED = pa.table(
    {
        "who": ["b", "a", "a"],
        "ids": pa.array([[1, 2, 3], [4], []], pa.list_(pa.int32())),
        "text": ["good", "bad", "fine"],
        "picture": [b"", b"", b""],
        "label": [1, 0, 1],
    }
)
FEATURES = {
    "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
    "picture": {"_type": "Image"},
    "who": {"dtype": "string", "_type": "Value"},
}


OTHER = pa.table({"user": ["c"]})


def test_files_within_lists_are_no_values():
    feature = {"feature": {"_type": "Image"}, "_type": "Sequence"}
    for kind in (feature, [{"_type": "Image"}]):
        with pytest.raises(ValueError, match="'v' is of Image"):
            arrow.check_features({"v": kind}, ["v"])


class TestHuggingFace:
    def _made(self, path, **options):
        given = {
            "client": "who",
            "label": "label",
            "features": {"ids": "ids", "text": "text"},
            "model": _model,
            "test": 0,
            "sequences": {"x/ids": tasks.Sequences(3)},
            **options,
        }
        return tasks.from_huggingface(path, **given)

    def test_a_data_set(self, tmp_path):
        _saved(tmp_path / "d", SAVED, FEATURES, files=2)
        task = self._made(tmp_path / "d")
        assert task.train.client_ids == ("a", "b")
        a = task.train.load("a")
        assert a["x/ids"].tolist() == [[4, 0, 0], [0, 0, 0]]
        assert a["x/ids"].dtype == np.int32
        assert a["x/text"].tolist() == [b"bad", b"fine"]
        assert a["y"].tolist() == [0, 1]
        assert task.card.label_names == ("neg", "pos")

    def test_a_split_of_several(self, tmp_path):
        _saved(tmp_path / "d" / "train", SAVED, FEATURES)
        (tmp_path / "d" / "dataset_dict.json").write_text(
            '{"splits": ["train", "dev"]}'
        )
        assert len(self._made(tmp_path / "d", split="train").train) == 2
        with pytest.raises(
            ValueError, match="split must be one of train, dev, got None"
        ):
            self._made(tmp_path / "d")
        with pytest.raises(ValueError, match="has no splits; leave split='x' out"):
            self._made(tmp_path / "d" / "train", split="x")

    def test_what_does_not_fit(self, tmp_path):
        _saved(tmp_path / "d", SAVED, FEATURES)
        with pytest.raises(
            ValueError, match="column 'picture' is of Image, whose cells"
        ):
            self._made(tmp_path / "d", features={"p": "picture"}, sequences=None)
        task = self._made(tmp_path / "d", sequences={"x/ids": tasks.Sequences(2)})
        with pytest.raises(
            ValueError, match=r"'b', column 'ids', row .: 3 elements, above"
        ):
            task.train.load("b")
        state = tmp_path / "d" / "state.json"
        names = state.read_text()
        state.write_text('{"_data_files": [{}]}')
        with pytest.raises(ValueError, match="_data_files must be a list"):
            self._made(tmp_path / "d")
        other = {"filename": "other.arrow"}
        content = json.loads(names)
        state.write_text(json.dumps({"_data_files": [*content["_data_files"], other]}))
        with ipc.new_stream(tmp_path / "d" / "other.arrow", OTHER.schema) as file:
            file.write_table(OTHER)
        with pytest.raises(ValueError, match=r"other.arrow has the columns user \(str"):
            self._made(tmp_path / "d")
        state.write_text(names)
        (tmp_path / "d" / "data-00000-of-00001.arrow").write_bytes(b"no arrow")
        with pytest.raises(
            ValueError, match=r"of-00001.arrow: not a readable Arrow fil"
        ):
            self._made(tmp_path / "d")
        (tmp_path / "d" / "state.json").unlink()
        with pytest.raises(
            ValueError, match=r"has no state.json; expected a folder that"
        ):
            self._made(tmp_path / "d")


class TestCellsThatFloatsWouldChange:
    """Labels and categories keep all digits, and numbers do not become 0."""

    @staticmethod
    def _task(v, y, **options):
        rows = pd.DataFrame({"c": ["a"] * len(v), "v": v, "y": y})
        task = tasks.from_dataframe(
            rows, client="c", label="y", model=_model, test=0, **options
        )
        return task.train.load("a")

    def test_long_classes_are_told_apart(self):
        one, two = 123456789012345678, 123456789012345679
        for classes in ([one, two], [str(one), str(two)]):
            found = self._task([1.0, 2.0], [two, one], classes=classes)
            assert found["y"].tolist() == [1, 0]
        with pytest.raises(ValueError, match=r"row 0: .* may stand for several"):
            self._task([1.0, 2.0], [float(one), 1.0], classes=["1", "2"])
        named = Schema((Categorical("v", ("1", "2")),))
        with pytest.raises(ValueError, match=r"row 0: .* may stand for several"):
            self._task([float(one), 1.0], [0, 1], features=named)

    def test_classes_may_be_floats(self):
        found = self._task([1.0, 2.0], [2.0, 1.0], classes=[1.0, 2.0])
        assert found["y"].tolist() == [1, 0]

    def test_small_numbers_are_refused_where_they_become_zeros(self):
        with pytest.raises(ValueError, match="row 0: 1e-50 is too small for float32"):
            self._task([1e-50, 2e-50], [0, 1])
        assert self._task([1e-50, 1.0], [0, 1])["x"].tolist() == [[0], [1]]
        scaled = Schema((Numeric("v", 0, 4),))
        with pytest.raises(ValueError, match="'1e-400' is too small for float64"):
            self._task(["1e-400", "1"], [0, 1], features=scaled)

    def test_a_schema_says_how_cells_are_written(self):
        notation = Notation("number", decimal=",", unit="kg")
        scaled = Schema((Numeric("v", 0, 4, notation=notation),))
        found = self._task(["1,5 kg", "2"], [0, 1], features=scaled)
        assert found["x"].tolist() == [[-0.25], [0]]


def test_lists_of_lists_are_matrices_in_every_kind_of_table(tmp_path):
    frame = pd.DataFrame(
        {"ward": ["a", "b"], "fell": [0, 1], "image": [[[1, 2], [3, 4]], [[5, 6]] * 2]}
    )
    frame.to_parquet(tmp_path / "images.parquet")
    options = {"client": "ward", "label": "fell", "model": _model, "test": 0}
    options["features"] = {"image": "image"}
    for task in (
        tasks.from_dataframe(frame, **options),
        tasks.from_parquet(tmp_path, **options),
    ):
        assert task.train.load("a")["x/image"].tolist() == [[[1, 2], [3, 4]]]
        assert task.train.load("b")["x/image"].tolist() == [[[5, 6], [5, 6]]]
