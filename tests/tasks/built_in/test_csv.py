"""The csv task: encoding by hand, and every refusal naming file, row and column."""

from __future__ import annotations

import json
import re
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from tfl_research import tasks
from tfl_research.data import hold_out
from tfl_research.data.tables import files, silos

_MISSING = ("sex is missing",)
_A = "age,sex,ill\n10,F,no\n20,M,yes\n30,F,no\n40,F,yes\n"
_B = "sex,age,ill\nM,50,yes\n,60,no\nM,NA,no\n"
_SCHEMA = {
    "columns": {
        "age": {"minimum": 0, "maximum": 100},
        "sex": {"categories": ["F", "M", "X"]},
    },
    "label": {"classes": ["no", "yes"]},
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.csv").write_text(_A)
    (tmp_path / "b.csv").write_text(_B)
    return tmp_path


def _load(folder, **options):
    return silos.load(folder, label_column="ill", **options)


def _refused(folder, message, **options):
    """Checks for one error line that holds every part of `message`, in order."""
    pattern = ".*".join(re.escape(part) for part in message.split(" ... "))
    with pytest.raises(ValueError, match=pattern) as error:
        _load(folder, **options)
    assert "\n" not in str(error.value)
    assert error.value.__cause__ is None


def test_encoding_by_hand_from_pooled_statistics(folder):
    data = _load(folder, test_fraction=0.0)
    assert not data.declared
    assert data.classes == ("no", "yes")
    assert data.feature_names == (
        "age",
        "age is missing",
        "sex=F",
        "sex=M",
        "sex is missing",
    )
    # Ages 10 to 60: mean 35, population variance (625 + 225 + 25) * 2 / 6.
    scale = np.sqrt(2 * (625 + 225 + 25) / 6)
    expected = [
        [15 / scale, 0, 0, 1, 0],
        [25 / scale, 0, 0, 0, 1],
        [0, 1, 0, 1, 0],
    ]
    held = data.train.load("b")
    np.testing.assert_allclose(held["x"], expected, rtol=1e-6)
    assert held["x"].dtype == np.float32
    assert held["y"].tolist() == [1, 0, 0]
    assert held["y"].dtype == np.int32
    assert data.train.client_ids == ("a", "b")
    assert data.test.num_examples("a") == 0


def test_encoding_by_hand_from_declared_constants(folder):
    (folder / "schema.json").write_text(json.dumps(_SCHEMA))
    data = _load(folder, test_fraction=0.0)
    assert data.declared
    expected = [[0.0, 0, 0, 1, 0, 0], [0.2, 0, 0, 0, 0, 1], [0, 1, 0, 1, 0, 0]]
    np.testing.assert_allclose(data.train.load("b")["x"], expected, atol=1e-7)


def test_statistics_come_from_training_rows_of_training_clients_only(folder):
    before = _load(folder, held_out_clients=1, seed=3)
    (held_out,) = before.held_out.client_ids
    path = folder / f"{held_out}.csv"
    path.write_text(
        path.read_text() + f"{'1e6,X' if held_out == 'a' else 'X,1e6'},no\n"
    )
    after = _load(folder, held_out_clients=1, seed=3)
    (trained,) = after.train.client_ids
    width = before.train.specs["x"].shape[0]
    np.testing.assert_array_equal(
        before.train.load(trained)["x"], after.train.load(trained)["x"][:, :width]
    )
    assert "sex=X" not in after.feature_names


def test_parquet_and_csv_silos_agree(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("parquet")
    for name in ("a", "b"):
        pd.read_csv(folder / f"{name}.csv").to_parquet(other / f"{name}.parquet")
    ours, theirs = _load(folder, seed=1), _load(other, seed=1)
    for name in ("a", "b"):
        for split in ("train", "test"):
            one = getattr(ours, split).load(name)
            two = getattr(theirs, split).load(name)
            np.testing.assert_array_equal(one["x"], two["x"])
            np.testing.assert_array_equal(one["y"], two["y"])


def test_rows_are_split_by_seed_and_none_is_lost(folder):
    data = _load(folder, test_fraction=0.5, seed=2)
    assert data.train.num_examples("a") == data.test.num_examples("a") == 2
    labels = [data.train.load("a")["y"], data.test.load("a")["y"]]
    assert sorted(np.concatenate(labels).tolist()) == [0, 0, 1, 1]


def test_integer_labels_sort_as_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("v,ill\n1,10\n2,9\n3,2.0\n")
    data = _load(tmp_path, test_fraction=0.0)
    assert data.classes == ("2", "9", "10")
    assert data.train.load("a")["y"].tolist() == [2, 1, 0]


def test_a_constant_column_is_zero(tmp_path):
    (tmp_path / "a.csv").write_text("v,ill\n7,0\n7,1\n")
    assert _load(tmp_path, test_fraction=0.0).train.load("a")["x"].tolist() == [
        [0],
        [0],
    ]


def test_quoted_cells_may_hold_commas_and_line_ends(tmp_path):
    (tmp_path / "a.csv").write_text('s,v,ill\n"x, y",1,0\n"p\nq",2,1\nz,bad,1\nz,3,0\n')
    # The cell of two lines is on 3 and 4, so the bad number is on line 5.
    _refused(tmp_path, "a.csv: line 5, column 'v': 'bad' is not a number")


def test_a_delimiter_of_ones_own(tmp_path):
    (tmp_path / "a.csv").write_text("v;ill\n1;0\n2;1\n")
    data = _load(tmp_path, delimiter=";")
    assert data.feature_names == ("v",)
    _refused(tmp_path, "delimiter must be one character, got ';;'", delimiter=";;")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.csv", "sex,ill\nM,yes\n", "b.csv: column 'age' of a.csv is missing"),
        (
            "b.csv",
            "age,sex,ill,x\n1,M,yes,2\n",
            "b.csv: extra column 'x' that a.csv does not have",
        ),
        (
            "b.csv",
            "age,sex,ill\n1,M,yes\n2,M,no\nold,F,no\n",
            "b.csv: line 4, column 'age': 'old' is not a number",
        ),
        (
            "b.csv",
            "age,sex,ill\nyoung,M,yes\nold,M,no\n",
            "b.csv: line 2, column 'age': 'young' is text, but ... a.csv",
        ),
        (
            "b.csv",
            "age,sex,ill\n1,M,yes\ninf,M,no\n",
            "b.csv: line 3, column 'age': 'inf' is not finite",
        ),
        (
            "b.csv",
            "age,sex,ill\n1,M,yes\n2,M,\n",
            "b.csv: line 3, column 'ill': the label is missing",
        ),
        (
            "b.csv",
            "age,sex,ill\n1,M,yes\n\n2,M,3\n",
            "b.csv: line 4, column 'ill': '3' does not fit the other labels",
        ),
        ("b.csv", "age,sex,ill\n1,M\n", "b.csv: line 2: expected 3 cells ... got 2"),
        ("b.csv", "age,sex,ill\n", "b.csv: no rows below the header"),
        ("b.csv", "", "b.csv: the file is empty"),
        ("b.csv", "\n1,2\n", "b.csv: line 1: expected column names"),
        ("b.csv", "age,,ill\n", "b.csv: line 1: column 2 has no name"),
        ("b.csv", "age,age,ill\n", "b.csv: line 1: column 'age' occurs twice"),
        ("b.csv", 'age,sex,ill\n1,"M,yes\n', "b.csv: line 2: malformed CSV"),
        ("b.csv", b"age,sex,ill\n1,\xff,no\n", "b.csv: not UTF-8 text"),
        ("b.parquet", b"PAR1 no", "b.parquet: not a readable Parquet file"),
        ("b.tsv", "age\n", "b.tsv: neither a .csv nor a .parquet file"),
        ("a.parquet", b"", "a.parquet: the client 'a' already has the file a.csv"),
    ],
)
def test_a_file_that_does_not_fit(tmp_path, name, content, message):
    (tmp_path / "a.csv").write_text(_A)
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(content)
    _refused(tmp_path, message)


def test_parquet_rows_and_types_are_named(tmp_path):
    frame = pd.DataFrame({"v": [1.0, np.inf], "ill": [0, 1]})
    frame.to_parquet(tmp_path / "a.parquet")
    _refused(tmp_path, "a.parquet: row 2, column 'v': inf is not finite")
    frame["v"] = pd.to_datetime(["2020-01-01", "2020-01-02"])
    frame.to_parquet(tmp_path / "a.parquet")
    _refused(
        tmp_path, "a.parquet: column 'v' is of type timestamp ... expected numbers"
    )


def test_a_parquet_index_is_no_feature(tmp_path):
    frame = pd.DataFrame({"v": [1.0, 2.0], "ill": [0, 1]}, index=["x", "y"])
    frame.to_parquet(tmp_path / "a.parquet")
    assert _load(tmp_path).feature_names == ("v",)


def test_folders_without_data(tmp_path):
    _refused(tmp_path, "no .csv or .parquet file")
    _refused(tmp_path / "none", "none: no such folder")
    (tmp_path / "inner").mkdir()
    _refused(tmp_path, "inner: neither a .csv nor a .parquet file")


def test_files_that_are_no_clients_are_passed_over(folder):
    for name in (".hidden.csv", "README.md", "LICENSE"):
        (folder / name).write_text("x")
    assert _load(folder).train.client_ids == ("a", "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"columns": {"age": {"minimum": 0, "maximum": 35}}},
            "a.csv: line 5, column 'age': '40' is outside the declared range, 0 to 35",
        ),
        (
            {"columns": {"sex": {"categories": ["F"]}}},
            "a.csv: line 3, column 'sex': 'M' is not one of the 1 declared categories",
        ),
        (
            {"columns": {"age": {"minimum": 0, "maximum": 99, "missing": False}}},
            "b.csv: line 4, column 'age': has no value",
        ),
        (
            {"label": {"classes": ["no", "maybe"]}},
            "a.csv: line 3, column 'ill': unknown label 'yes' ... no, maybe",
        ),
        ({"columns": {"bmi": {"categories": ["a"]}}}, "column 'bmi' of schema.json"),
        ({"columns": {"age": {"minimum": 5, "maximum": 5}}}, "column 'age': minimum"),
        (
            {"columns": {"age": {"min": 5}}},
            "column 'age': expected minimum and maximum",
        ),
        ({"columns": {"age": {"categories": []}}}, "'age': categories must be a list"),
        ({"columns": {"age": 3}}, "'age': expected an object, got 3"),
        ({"columns": {"ill": {"categories": ["x"]}}}, "must stand under 'label'"),
        ({"label": {"classes": ["no"]}}, "two or more distinct names"),
        ({"more": 1}, "unknown entry 'more'"),
    ],
)
def test_a_declared_schema_is_checked(folder, change, message):
    schema = json.loads(json.dumps(_SCHEMA))
    for key, value in change.items():
        if isinstance(schema.get(key), dict):
            schema[key].update(value)
        else:
            schema[key] = value
    (folder / "schema.json").write_text(json.dumps(schema))
    _refused(folder, message)


def test_a_schema_that_is_no_json_and_one_that_lacks_a_column(folder):
    (folder / "schema.json").write_text('{"columns":\n {,}}')
    _refused(folder, "schema.json: line 2: ")
    (folder / "schema.json").write_text('["columns"]')
    _refused(folder, "schema.json: expected an object with 'columns'")
    del (schema := json.loads(json.dumps(_SCHEMA)))["columns"]["sex"]
    (folder / "schema.json").write_text(json.dumps(schema))
    _refused(folder, "a.csv: extra column 'sex' that schema.json does not have")
    assert _load(folder, drop_columns=["sex"]).feature_names == (
        "age",
        "age is missing",
    )


def test_columns_and_options_that_do_not_fit(folder):
    with pytest.raises(ValueError, match=r"a.csv: label column 'sick' is missing"):
        silos.load(folder, label_column="sick")
    _refused(folder, "drop_columns: 'x' is not a feature", drop_columns=["x"])
    _refused(folder, "drop_columns: 'ill' is not", drop_columns=["ill"])
    _refused(folder, "no feature column", drop_columns=["age", "sex"])
    _refused(folder, "from 0 to 1 of 2 clients, got 2", held_out_clients=2)
    _refused(folder, "test_fraction must be at least 0", test_fraction=1.0)


def test_labels_that_are_no_classes(tmp_path):
    rows = "".join(f"{i},{i}\n" for i in range(30))
    (tmp_path / "a.csv").write_text("v,ill\n" + rows)
    _refused(tmp_path, "label column 'ill' holds 30 distinct values in 30 rows")
    (tmp_path / "a.csv").write_text("v,ill\n1,0.5\n2,1\n")
    _refused(tmp_path, "a.csv: line 2, column 'ill': '0.5' is not a class")
    (tmp_path / "a.csv").write_text("v,ill\n1,0\n2,0\n")
    _refused(tmp_path, "label column 'ill' holds only '0'")


def test_columns_that_are_no_features(tmp_path):
    rows = "".join(f"n{i},,{i % 2}\n" for i in range(300))
    (tmp_path / "a.csv").write_text("name,empty,ill\n" + rows)
    _refused(tmp_path, "column 'name' has 300 categories; at most 100", test_fraction=0)
    _refused(tmp_path, "column 'empty' has no value in any file", drop_columns=["name"])


def test_the_task(folder):
    task = tasks.get(
        "csv", data_dir=str(folder), label_column="ill", drop_columns="sex", seed=1
    )
    assert task.name == "csv"
    assert task.held_out is None
    assert task.selection_metric == "auc"
    assert task.card.label_names == ("no", "yes")
    assert "outside of any differential-privacy guarantee" in task.card.source
    assert task.build_model().output_shape == (None, 1)
    objective = task.build_objective()
    sums = objective.example_sums(
        np.array([0, 1]), np.array([[0.0], [1.0]], np.float32)
    )
    assert list(sums) == ["loss", "examples", "correct", "predictions"]


def test_three_classes_and_a_linear_model(tmp_path):
    (tmp_path / "a.csv").write_text("v,w,ill\n1,1,0\n2,1,1\n3,5,2\n")
    options = {"data_dir": str(tmp_path), "label_column": "ill"}
    task = tasks.get("csv", model="linear", **options)
    assert task.build_model().count_params() == 2 * 3 + 3
    assert tasks.get("csv", hidden_units=4, **options).build_model().count_params() == (
        2 * 4 + 4 + 4 * 3 + 3
    )
    assert task.selection_metric == "accuracy"
    with pytest.raises(ValueError, match="model must be one of mlp, linear, got 'cnn'"):
        tasks.get("csv", model="cnn", **options)
    with pytest.raises(ValueError, match="hidden_units must be at least 1, got 0"):
        tasks.get("csv", hidden_units=0, **options)
    with pytest.raises(ValueError, match="task 'csv' needs the option 'data_dir'"):
        tasks.get("csv", label_column="ill")


def test_the_content_hash_is_of_names_and_contents(folder):
    first = files.content_hash(folder)
    assert len(first) == 64
    (folder / "README.md").write_text("not data")
    assert files.content_hash(folder) == first
    seen = {first}

    def changed():
        seen.add(files.content_hash(folder))
        return len(seen)

    (folder / "a.csv").write_text(_A.replace("10,F", "11,F"))
    assert changed() == 2
    (folder / "a.csv").write_text(_A)
    assert changed() == 2
    (folder / "a.csv").rename(folder / "c.csv")
    assert changed() == 3
    (folder / "c.csv").rename(folder / "a.csv")
    (folder / "schema.json").write_text(json.dumps(_SCHEMA))
    assert changed() == 4
    (folder / "schema.json").unlink()
    assert files.content_hash(folder) == first


def test_held_out_clients_are_drawn_by_the_names_of_files(tmp_path):
    names = ("site", "site-2", "site 3", "site.x", "site_4", "a", "z!")
    for name in names:
        (tmp_path / f"{name}.csv").write_text("v,ill\n1,0\n2,1\n")
    data = _load(tmp_path, held_out_clients=3, seed=1)
    _, drawn = hold_out.clients(names, count=3, seed=1)
    assert set(data.held_out.client_ids) == set(drawn)
    # The file of a training client more or less moves nobody.
    left_out = data.train.client_ids[0]
    (tmp_path / f"{left_out}.csv").unlink()
    fewer = _load(tmp_path, held_out_clients=3, seed=1)
    assert fewer.held_out.client_ids == data.held_out.client_ids


class TestOneRowMoreOrLess:
    """With a declared schema nothing but the row itself changes."""

    @pytest.mark.parametrize("row", [0, 3, 39])
    def test_moves_no_other_row_in_any_order(self, tmp_path, row):
        schema = {
            "columns": {"v": {"minimum": 0, "maximum": 10}},
            "label": {"classes": ["0", "1"]},
        }
        (tmp_path / "schema.json").write_text(json.dumps(schema))
        # Every row occurs twice.
        rows = [f"{i % 20 / 2},{i % 2}" for i in range(40)]
        path = tmp_path / "a.csv"

        def loaded(lines):
            path.write_text("\n".join(["v,ill", *lines]) + "\n")
            data = _load(tmp_path, test_fraction=0.3, seed=2)
            return [
                sorted(part.load("a")["x"][:, 0].tolist())
                for part in (data.train, data.test)
            ]

        whole = loaded(rows)
        assert loaded(rows[::-1]) == whole
        fewer = loaded(rows[:row] + rows[row + 1 :])
        gone = np.float32(float(rows[row].split(",")[0]) / 5 - 1)
        longer = [len(a) > len(b) for a, b in zip(whole, fewer)]
        assert sum(longer) == 1
        changed = longer.index(True)
        assert fewer[1 - changed] == whole[1 - changed]
        assert sorted([*fewer[changed], gone]) == pytest.approx(whole[changed])

    def test_the_scale_of_the_columns_does_not_move_rows(self, tmp_path):
        """Rows are split by their cells, and not by features of pooled statistics."""
        rows = "".join(f"{i},{i % 2}\n" for i in range(40))
        (tmp_path / "a.csv").write_text("v,ill\n" + rows)
        (tmp_path / "b.csv").write_text("v,ill\n1,0\n2,1\n")
        before = _load(tmp_path).train.load("a")
        (tmp_path / "b.csv").write_text("v,ill\n1000000,0\n2,1\n")
        after = _load(tmp_path).train.load("a")
        assert before["y"].tolist() == after["y"].tolist()
        assert not np.allclose(before["x"], after["x"])


class TestValuesThatTheSchemaDoesNotList:
    """Encoded within their own row where the schema says so."""

    SCHEMA: ClassVar = {
        "columns": {
            "age": {"minimum": 0, "maximum": 100, "outside": "clip"},
            "sex": {"categories": ["F", "M"], "unknown": "other"},
        },
        "label": {"classes": ["no", "yes"]},
    }

    def test_are_clipped_or_other(self, folder):
        (folder / "schema.json").write_text(json.dumps(self.SCHEMA))
        (folder / "b.csv").write_text("age,sex,ill\n1e6,X,no\n50,M,yes\n")
        data = _load(folder, test_fraction=0.0)
        assert data.feature_names[2:] == ("sex=F", "sex=M", "sex is other", *_MISSING)
        assert data.train.load("b")["x"].tolist() == [
            [1, 0, 0, 0, 1, 0],
            [0, 0, 0, 1, 0, 0],
        ]

    @pytest.mark.parametrize(
        ("column", "entry", "message"),
        [
            (
                "age",
                {"minimum": 0, "maximum": 1, "outside": "drop"},
                "column 'age': outside must be clip or refuse, got 'drop'",
            ),
            (
                "sex",
                {"categories": ["F"], "unknown": 3},
                "column 'sex': unknown must be refuse or other or zeros, got 3",
            ),
            (
                "sex",
                {"categories": ["F"], "outside": "clip"},
                "got categories, outside",
            ),
        ],
    )
    def test_by_known_words_only(self, folder, column, entry, message):
        schema = {**self.SCHEMA, "columns": {**self.SCHEMA["columns"], column: entry}}
        (folder / "schema.json").write_text(json.dumps(schema))
        _refused(folder, message)
