"""Tables that can be read in several ways: refused with the choices, or declared."""

from __future__ import annotations

import json
import os
import re
import warnings

import numpy as np
import pandas as pd
import pytest

from tfl_research import tasks
from tfl_research.data.tables import files, silos
from tfl_research.data.tables.comparison import spellings
from tfl_research.experiment import Experiment
from tfl_research.experiment.configs import TaskChoice
from tfl_research.experiment.private import fingerprints

_V = {"minimum": 0, "maximum": 10}


def _folder(tmp_path, *contents, schema=None):
    for name, content in zip("abcdef", contents):
        (tmp_path / f"{name}.csv").write_text(content, encoding="utf-8")
    if schema is not None:
        (tmp_path / "schema.json").write_text(json.dumps(schema))
    return tmp_path


def _load(folder, **options):
    return silos.load(folder, label_column="y", test_fraction=0.0, **options)


def _refused(folder, *parts, **options):
    """The one line of the refusal, which has every part."""
    with pytest.raises(ValueError, match=re.escape(parts[0])) as caught:
        _load(folder, **options)
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text
    return text


def _declared(v=None, **label):
    return {"columns": {"v": v or _V}, "label": label}


def _column(folder, name="a"):
    return _load(folder).train.load(name)["x"][:, 0].tolist()


LABELS = ("v,y\n1,True\n2,False\n", "v,y\n1,TRUE\n2,FALSE\n")


def test_truth_values_of_two_cases_are_refused_with_the_choices(tmp_path):
    text = _refused(
        _folder(tmp_path, *LABELS), "label 'y'", "'True' (a.csv) and 'TRUE' (b.csv)"
    )
    assert '{"spellings": {' in text
    assert '"classes": ["FALSE", "False", "TRUE", "True"]' in text


@pytest.mark.parametrize(
    "label",
    [
        {
            "classes": ["False", "True"],
            "spellings": {"True": ["TRUE"], "False": ["FALSE"]},
        },
        {"type": "boolean"},
    ],
)
def test_truth_values_of_two_cases_are_two_classes_where_declared(tmp_path, label):
    data = _load(_folder(tmp_path, *LABELS, schema=_declared(**label)))
    assert len(data.classes) == 2
    for name in "ab":
        assert data.train.load(name)["y"].tolist() == [1, 0]


def test_truth_values_of_two_cases_are_four_classes_where_declared(tmp_path):
    label = {"classes": ["False", "True", "FALSE", "TRUE"]}
    data = _load(_folder(tmp_path, *LABELS, schema=_declared(**label)))
    assert data.train.load("b")["y"].tolist() == [3, 2]


def test_truth_values_of_parquet_and_of_text_are_compared(tmp_path):
    (tmp_path / "a.csv").write_text("v,y\n1,true\n2,false\n")
    frame = pd.DataFrame({"v": [1, 2], "y": [True, False]})
    frame.to_parquet(tmp_path / "b.parquet")
    _refused(tmp_path, "'true' (a.csv) and 'True' (b.parquet)")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Yes", "Yes "),
        ("Yes", "yess"),
        ("Yes", "YES"),
        ("Yes", "yes."),
        ("Yes", "Ye\u200bs"),
        ("Café", "Cafe"),
        ("Café", "Cafe\u0301"),
        ("Yes", "'Yes'"),
        ("Yes", "“yes”"),
        ("non smoker", "non-smoker"),
        ("non smoker", "non  smoker"),
        ("5.0", "5"),
        ("05", "5"),
        ("1,000", "1000"),
        ("ﬁne", "fine"),
    ],
)
def test_names_that_are_perhaps_the_same_are_named(tmp_path, one, two):
    is_number = one[0].isdigit()
    other = "7" if is_number else "other"
    rows = [f'v,y\n0,"{text}"\n1,{other}\n' for text in (one, two)]
    _refused(_folder(tmp_path, *rows), repr(one), repr(two))
    if not is_number:
        # The same in a feature.
        rows = [f'v,y\n"{text}",0\n{other},1\n' for text in (one, two)]
        _refused(_folder(tmp_path, *rows), repr(one), repr(two))


def test_words_for_true_and_false_are_compared(tmp_path):
    _refused(
        _folder(tmp_path, "v,y\n1,yes\n2,no\n", "v,y\n1,Y\n2,N\n"),
        "several words for true or false",
        '{"type": "boolean"',
    )


def test_quotation_marks_behind_a_space_are_no_level(tmp_path):
    rows = ("v,y\nyes,0\nother,1\n", 'v,y\n"yes",0\nother,1\n')
    assert len(_load(_folder(tmp_path, *rows)).schema.columns[0].categories) == 2
    rows = ("y,v\n0,yes\n1,other\n", 'y,v\n0, "yes"\n1,other\n')
    _refused(_folder(tmp_path, *rows), """'yes' (a.csv) and ' "yes"' (b.csv)""")


def test_letters_that_a_conversion_changed_are_said(tmp_path):
    rows = ("v,y\nné,0\nother,1\n", "v,y\nnÃ©,0\nother,1\n")
    (said,) = _load(_folder(tmp_path, *rows)).said
    assert "'nÃ©' (b.csv) is perhaps 'né': a conversion changed the letters" in said
    rows = ("v,y\n1,né\n2,other\n", "v,y\n1,n\ufffd\n2,other\n")
    (said,) = _load(_folder(tmp_path, *rows)).said
    assert "'n\ufffd' (b.csv) lost a letter: a conversion" in said


def test_names_of_columns_that_a_conversion_changed_are_said(tmp_path):
    (said,) = _load(_folder(tmp_path, *["n\ufffd,y\n1,0\n2,1\n"] * 2)).said
    assert said.startswith("column 'n\ufffd' lost a letter: a conversion")
    (said,) = _load(_folder(tmp_path, *["nÃ©,y\n1,0\n2,1\n"] * 2)).said
    assert said.startswith("column 'nÃ©' is perhaps 'né': a conversion changed")
    label = "v,y\ufffd\n1,0\n2,1\n"
    folder = _folder(tmp_path, label, label)
    (said,) = silos.load(folder, label_column="y\ufffd", test_fraction=0.0).said
    assert said.startswith("label 'y\ufffd' lost a letter")


def test_copies_of_a_file_are_said(tmp_path):
    rows = [f"{n},{n % 2}\n" for n in range(9)]
    texts = ["v,y\n" + "".join(r) for r in (rows, rows[::-1], [*rows[:8], "9,1\n"])]
    (said,) = _load(_folder(tmp_path, *texts)).said
    assert said.startswith("a.csv and b.csv have the same rows: test rows of one")
    few = ["v,y\n1,0\n2,1\n"] * 2
    for path in tmp_path.iterdir():
        path.unlink()
    assert _load(_folder(tmp_path, *few)).said == ()


def test_a_mistake_in_writing_is_said(tmp_path):
    rows = "married,0\n" * 9 + "single,1\n" * 9
    folder = _folder(tmp_path, f"v,y\n{rows}", f"v,y\n{rows}maried,0\nsungle,1\n")
    # A doubled letter is refused; another letter is said.
    _refused(folder, "'married' (a.csv, b.csv) and 'maried' (b.csv)")
    (tmp_path / "b.csv").write_text(f"v,y\n{rows}sungle,1\n")
    (said,) = _load(folder).said
    assert "'sungle' (1 rows; b.csv) is perhaps 'single' (18 rows)" in said
    with pytest.warns(UserWarning, match="'sungle'"):
        tasks.get("csv", data_dir=str(folder), label_column="y")


@pytest.mark.parametrize(
    "levels",
    [
        ["Stage I", "Stage II", "Stage III"],
        ["NYHA_I", "NYHA_II", "NYHA_IV"],
        ["Type A", "Type AA", "Type B"],
        ["StageI", "StageII", "StageIII"],
        ["grade b", "grade bb", "grade c"],
        ["A", "AA", "B"],
    ],
)
def test_codes_with_repeated_letters_are_levels(tmp_path, levels):
    rows = "".join(f"{level},{n % 2}\n" for n, level in enumerate(levels * 4))
    data = _load(_folder(tmp_path, f"v,y\n{rows}", f"v,y\n{rows}"))
    assert set(data.schema.columns[0].categories) == set(levels)
    labels = "".join(f"{n},{level}\n" for n, level in enumerate(levels * 4))
    data = _load(_folder(tmp_path, f"v,y\n{labels}", f"v,y\n{labels}"))
    assert set(data.classes) == set(levels)


@pytest.mark.parametrize(
    ("cells", "entry", "values"),
    [
        (["1,5", "2,25"], {"decimal": ","}, [1.5, 2.25]),
        (["1,234", "2,500"], {"thousands": ","}, [1234, 2500]),
        (["1,234", "2,500"], {"decimal": ","}, [1.234, 2.5]),
        (["1.234,5", "2"], {"decimal": ",", "thousands": "."}, [1234.5, 2]),
        (["1 234", "2"], {"thousands": " "}, [1234, 2]),
        (["1\u202f234", "2"], {"thousands": " "}, [1234, 2]),
        (["1'234", "2"], {"thousands": "'"}, [1234, 2]),
        (["5%", "7 %"], {"unit": "%"}, [5, 7]),
        (["$5", "$7.5"], {"unit": "$"}, [5, 7.5]),
        (["5 €", "7 €"], {"unit": "€"}, [5, 7]),
        (["5kg", "7 kg"], {"unit": "kg"}, [5, 7]),
        (["007", "7"], {"type": "integer"}, [7, 7]),
        (["2020-01-31", "1970-01-02"], {"type": "date", "format": "%Y-%m-%d"}, 0),
        (["1/2/1970", "3/1/1970"], {"type": "date", "format": "%d/%m/%Y"}, [31, 2]),
        (["1/2/1970", "3/1/1970"], {"type": "date", "format": "%m/%d/%Y"}, [1, 59]),
        (["12:00", "18:00"], {"type": "date", "format": "%H:%M"}, [0.5, 0.75]),
    ],
)
def test_columns_that_look_like_numbers_are_refused_or_declared(
    tmp_path, cells, entry, values
):
    rows = "".join(f'"{cell}",{i}\n' for i, cell in enumerate(cells))
    folder = _folder(tmp_path, f"v,y\n{rows}")
    text = _refused(folder, "can be read in several ways", repr(cells[0]))
    shown = {"type": "number", **entry}
    assert json.dumps(shown, ensure_ascii=False) in text
    assert "drop_columns=v" in text
    entry = {**entry, "minimum": -20000, "maximum": 20000, "missing": False}
    (folder / "schema.json").write_text(
        json.dumps(_declared(entry, classes=["0", "1"]))
    )
    values = values or [18292, 1]
    expected = np.float32(np.array(values) / 20000)
    np.testing.assert_array_equal(_column(folder), expected)


@pytest.mark.parametrize("cell", ["−5", "5-", "(5)", "–5", "１２"])
def test_a_sign_is_no_unit(tmp_path, cell):
    """Without its sign the number would be another one."""
    folder = _folder(tmp_path, f"v,y\n{cell},0\n7,1\n")
    text = _refused(folder, repr(cell), '{"type": "text", "categories": [')
    assert '"number"' not in text


def test_amounts_are_categories_where_declared(tmp_path):
    entry = {"categories": ["1,5", "5%", "007"], "missing": False}
    folder = _folder(
        tmp_path,
        'v,y\n"1,5",0\n5%,1\n007,0\n',
        schema=_declared(entry, classes=["0", "1"]),
    )
    assert _load(folder).train.load("a")["x"].tolist() == np.eye(3).tolist()


def test_numbers_and_texts_are_refused_with_the_choices(tmp_path):
    folder = _folder(tmp_path, "v,y\n1,0\n2,1\n3,0\n3+,1\n")
    _refused(folder, "line 5, column 'v': '3+' is not a number", '["", "3+"]')
    # What is no value today stays so.
    folder = _folder(tmp_path, "v,y\n1,0\n2,1\nNA,0\n3+,1\n")
    _refused(folder, "line 5, column 'v': '3+' is not a number", '["", "3+", "NA"]')
    folder = _folder(tmp_path, "v,y\nlow,0\nhigh,1\n7,0\n")
    _refused(folder, "'7' is a number, but most cells are text")
    folder = _folder(tmp_path, "v,y\n1,0\n0,1\n", "v,y\nTrue,0\nFalse,1\n")
    _refused(folder, "'True' is text", '{"type": "boolean", "spellings"')


def _integers(folder, *texts):
    rows = "".join(f"{i},{text}\n" for i, text in enumerate(texts))
    return _folder(folder, f"v,y\n{rows}")


def test_integer_labels_keep_all_digits(tmp_path):
    one, two = "123456789012345678", "123456789012345679"
    data = _load(_integers(tmp_path, two, one))
    assert data.classes == (one, two)
    assert data.train.load("a")["y"].tolist() == [1, 0]
    frame = pd.DataFrame({"v": [0, 1], "y": [int(two), int(one)]})
    (tmp_path / "a.csv").unlink()
    frame.to_parquet(tmp_path / "a.parquet")
    data = _load(tmp_path)
    assert data.classes == (one, two)
    assert data.train.load("a")["y"].tolist() == [1, 0]


def test_a_float_that_may_be_several_integers_is_no_label(tmp_path):
    frame = pd.DataFrame({"v": [0, 1], "y": [123456789012345678.0, 1.0]})
    frame.to_parquet(tmp_path / "a.parquet")
    _refused(tmp_path, "row 1, column 'y'", "is not a class")


def test_leading_zeros_are_kept_and_not_merged(tmp_path):
    data = _load(_integers(tmp_path, "007", "8", "007"))
    assert data.classes == ("007", "8")
    _refused(_integers(tmp_path, "01", "001", "1"), "'01'", "'001'", "'1'")
    declared = {"classes": ["01", "001", "1"], "type": "text"}
    (tmp_path / "schema.json").write_text(json.dumps(_declared(**declared)))
    assert _load(tmp_path).train.load("a")["y"].tolist() == [0, 1, 2]
    declared = {"classes": [1, 2], "type": "integer"}
    (tmp_path / "schema.json").write_text(json.dumps(_declared(**declared)))
    assert _load(tmp_path).train.load("a")["y"].tolist() == [0, 0, 0]
    (tmp_path / "schema.json").write_text(json.dumps(_declared(classes=["1", "2"])))
    _refused(tmp_path, "unknown label '01'", 'declare "type": "integer"')


def test_integers_beyond_float64_are_no_numbers(tmp_path):
    folder = _folder(tmp_path, "v,y\n123456789012345678,0\n123456789012345679,1\n")
    _refused(folder, "beyond 2^53", "drop_columns=v")
    entry = {"categories": ["123456789012345678", "123456789012345679"]}
    (folder / "schema.json").write_text(
        json.dumps(_declared(entry, classes=["0", "1"]))
    )
    assert _load(folder).train.load("a")["x"].tolist() == [[1, 0, 0], [0, 1, 0]]
    entry = {**_V, "type": "number"}
    (folder / "schema.json").write_text(
        json.dumps(_declared(entry, classes=["0", "1"]))
    )
    _refused(folder, "is not a number that double holds exactly")


REGIONS = ("region,y\nEU,none\nNA,none\n", "region,y\nAS,mild\n,none\n")


def test_words_for_no_value_are_values_where_declared(tmp_path):
    schema = {
        "columns": {"region": {"categories": ["AS", "EU", "NA"]}},
        "label": {"classes": ["none", "mild"]},
    }
    data = _load(_folder(tmp_path, *REGIONS, schema=schema))
    assert data.train.load("a")["x"].tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]
    assert data.train.load("a")["y"].tolist() == [0, 0]
    assert data.train.load("b")["x"].tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    schema["columns"]["region"] = {
        "type": "text",
        "categories": ["AS", "EU", "-"],
        "missing_values": ["NA"],
    }
    (tmp_path / "b.csv").write_text("region,y\nAS,mild\n-,none\n")
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    data = _load(tmp_path)
    assert data.train.load("a")["x"].tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]
    assert data.train.load("b")["x"].tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]


def test_words_for_no_value_are_refused_or_said_elsewhere(tmp_path):
    folder = _folder(tmp_path, *REGIONS)
    _refused(folder, "'NA' may be a level, or no value", "and 1 more")
    for name in "ab":
        text = (folder / f"{name}.csv").read_text().replace(",none", ",mild")
        (folder / f"{name}.csv").write_text(text.replace("EU,mild", "EU,hard"))
    _refused(folder, "(NA is a level)", "(NA is no value)")
    (folder / "a.csv").write_text("region,y\nEurope,hard\nNA,mild\n")
    (said,) = _load(folder).said
    assert "line 3, column 'region': NA is read as a missing value in 1 rows" in said
    (folder / "b.csv").write_text("region,y\nAsia,mild\n#N/A,mild\n")
    assert "#N/A is a level of its own" in _load(folder).said[0]
    (folder / "b.csv").write_text("region,y\nAsia,mild\nAsia,none\n")
    _refused(folder, "the label 'none' may be a class")


def test_the_digest_changes_where_words_became_values(tmp_path):
    schema = {"columns": {"v": {"categories": ["NA", "a"]}}}
    folder = _folder(tmp_path, "v,y\nNA,0\na,1\n", schema=schema)
    listed = files.content_hash(folder)
    (folder / "schema.json").write_text(json.dumps(schema) + " ")
    assert files.content_hash(folder) != listed


def test_constant_columns_have_no_scale(tmp_path):
    rows = "0.1,0\n0.1,1\n" * 7
    data = _load(_folder(tmp_path, f"v,y\n{rows}"))
    assert set(data.train.load("a")["x"][:, 0].tolist()) == {0.0}
    # It was scaled by the rounding of its mean before: runs of then are other runs.
    assert "['v']" in data.changed
    assert not _load(_folder(tmp_path, "v,y\n0.5,0\n0.5,1\n")).changed
    _folder(tmp_path, f"v,y\n{rows}")
    almost = "0.1,0\n0.1000000000000002,1\n" * 7
    _refused(
        _folder(tmp_path, f"v,y\n{almost}"),
        "column 'v': the numbers of the training rows, 0.1 to 0.1000000000000002",
        "declare a minimum and maximum",
    )


def test_a_constant_column_does_not_blow_up_held_out_clients(tmp_path):
    constant = "v,y\n" + "0.1,0\n0.1,1\n" * 7
    folder = _folder(tmp_path, constant, constant, "v,y\n3,0\n5,1\n")
    for seed in range(20):
        data = _load(folder, held_out_clients=1, seed=seed)
        if data.held_out.client_ids == ("c",):
            break
    assert data.held_out.client_ids == ("c",)
    x = data.held_out.load("c")["x"][:, 0]
    np.testing.assert_allclose(x, [2.9, 4.9], rtol=1e-6)
    (said,) = data.said
    assert "column 'v' is constant, 0.1, in the training rows, but not at" in said


@pytest.mark.parametrize("cell", ["1e308", "-1e308", "4e38", "1e400", "1e-400"])
def test_numbers_that_features_cannot_hold_do_not_become_zeros(tmp_path, cell):
    folder = _folder(tmp_path, f"v,y\n{cell},0\n1,1\n2,0\n")
    _refused(folder, "line 2, column 'v'", repr(cell))
    for entry in (
        {"minimum": -1e308, "maximum": 1e308},
        {"mean": 0, "deviation": 1e-300},
    ):
        (folder / "schema.json").write_text(
            json.dumps(_declared(entry, classes=["0", "1"]))
        )
        _refused(folder, "v")


@pytest.mark.parametrize(
    "name", [b"\xff.csv", b"a\nb.csv", b"a\x1b[31m.csv", b"\xc3\xa9.csv"]
)
def test_names_of_files_are_texts_that_can_be_printed(tmp_path, name):
    (tmp_path / "a.csv").write_text("v,y\n1,0\n2,1\n")
    # With an accent of its own, the second name of "é.csv".
    (tmp_path / "e\u0301.csv").write_text("v,y\n1,0\n2,1\n")
    with open(os.path.join(os.fsencode(tmp_path), name), "w", encoding="utf-8") as file:
        file.write("v,y\n1,0\n2,1\n")
    _refused(tmp_path, "rename")
    with pytest.raises(ValueError, match="rename"):
        files.content_hash(tmp_path)


def test_scales_and_looks_are_said(tmp_path):
    rng = np.random.default_rng(0)
    contents = []
    for unit in (1.0, 100.0):
        rows = rng.uniform(1.5, 2.0, 30) * unit
        contents.append(
            "id,day,height,y\n"
            + "".join(
                f"{int(unit) * 1000 + i},202001{i % 28 + 1:02},{h:.3f},{i % 2}\n"
                for i, h in enumerate(rows)
            )
        )
    said = "\n".join(_load(_folder(tmp_path, *contents)).said)
    assert "column 'height': half of the values are beyond" in said
    assert "column 'day' looks like dates" in said
    assert "column 'id' has a different whole number in each of 60 rows" in said


def test_clean_tables_say_nothing(tmp_path):
    folder = _folder(
        tmp_path,
        "age,sex,y\n10,F,no\n20,M,yes\n,F,no\n40.5,F,yes\n",
        "sex,age,y\nM,50,yes\nF,60,no\n,NA,no\n",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _load(folder)
        tasks.get("csv", data_dir=str(folder), label_column="y", test_fraction=0.0)


def test_levels_that_no_training_row_has_are_said(tmp_path):
    one = "v,y\n" + "a,0\nb,1\n" * 3
    folder = _folder(tmp_path, one, one, "v,y\nc,0\na,1\n")
    for seed in range(20):
        data = _load(folder, held_out_clients=1, seed=seed)
        if data.held_out.client_ids == ("c",):
            break
    (said,) = data.said
    assert said.endswith(
        "c.csv: line 2, column 'v': no training row has c: all features of the level "
        "are 0; declare the column's categories in schema.json"
    )


def test_numbers_that_stand_for_no_value_are_said_or_refused(tmp_path):
    rows = "".join(f"{20 + i},{i % 2}\n" for i in range(9))
    (said,) = _load(_folder(tmp_path, f"v,y\n{rows}-999,0\n")).said
    assert "column 'v': -999 is far from all other numbers" in said
    folder = _folder(tmp_path, f"v,y\n{rows}1e20,0\n")
    _refused(folder, "1e+20 is so far from the other numbers that most of them become")
    entry = {**_V, "maximum": 50, "missing_values": ["", "1e20"]}
    (folder / "schema.json").write_text(
        json.dumps(_declared(entry, classes=["0", "1"]))
    )
    assert _load(folder).train.load("a")["x"][-1].tolist() == [0, 1]


def test_columns_that_are_left_out_may_be_anything(tmp_path):
    frame = pd.DataFrame({"v": [1, 2], "w": [[1], [2, 3]], "y": [0, 1]})
    frame.to_parquet(tmp_path / "a.parquet")
    _refused(tmp_path, "column 'w' is of type list", "drop_columns")
    assert _load(tmp_path, drop_columns=["w"]).feature_names == ("v",)


def test_a_number_is_predicted(tmp_path):
    folder = _folder(tmp_path, "v,y\n1,0.5\n2,7\n", "v,y\n3,-1e3\n4,2\n")
    data = _load(folder, label_kind="number")
    assert data.train.load("a")["y"].tolist() == [0.5, 7]
    assert data.train.load("a")["y"].dtype == np.float32
    _refused(folder, "'0.5' is not a class", "label_type=number")
    options = {"data_dir": str(folder), "label_column": "y", "label_type": "number"}
    task = tasks.get("csv", **options)
    assert task.card.target == "column 'y', a number"
    assert task.selection_metric == "loss"
    assert [part.what for part in task.pooled] == [
        "the names, kinds, scales, categories and missing-value indicators of the "
        "columns"
    ]
    (folder / "b.csv").write_text('v,y\n3,"1,5"\n4,2\n')
    _refused(folder, "'1,5'", "several ways", label_kind="number")
    (folder / "a.csv").write_text('v,y\n1,"0,5"\n2,7\n')
    _refused(folder, "'0,5'", "declare the label", label_kind="number")
    label = {"type": "number", "decimal": ",", "minimum": 0, "maximum": 10}
    (folder / "schema.json").write_text(json.dumps(_declared(**label)))
    data = _load(folder, label_kind="number")
    assert data.train.load("b")["y"].tolist() == [1.5, 2]
    assert data.declared_classes
    _refused(folder, "declares a label of the kind 'number'", "label_type=number")
    (folder / "b.csv").write_text("v,y\n3,11\n4,2\n")
    _refused(folder, "outside the declared range", label_kind="number")


def test_several_labels_are_predicted(tmp_path):
    folder = _folder(tmp_path, "v,y,z\n1,0,yes\n2,1,no\n", "v,z,y\n3,no,1\n4,yes,1\n")
    options = {
        "data_dir": str(folder),
        "label_column": "y, z",
        "label_type": "multi_label",
        "test_fraction": 0.0,
    }
    task = tasks.get("csv", **options)
    assert task.train.load("a")["y"].tolist() == [[0, 1], [1, 0]]
    assert task.train.load("b")["y"].tolist() == [[1, 0], [1, 1]]
    assert task.build_model().output_shape == (None, 2)
    (folder / "b.csv").write_text("v,z,y\n3,N,1\n4,yes,1\n")
    with pytest.raises(ValueError, match="words for true or false"):
        tasks.get("csv", **options)
    truth = {"type": "boolean", "spellings": {"false": ["N", "no"], "true": ["yes"]}}
    numbers = {"type": "boolean", "spellings": {"false": ["0"], "true": ["1"]}}
    schema = {"columns": {"v": _V}, "label": {"columns": {"y": numbers, "z": truth}}}
    (folder / "schema.json").write_text(json.dumps(schema))
    task = tasks.get("csv", **options)
    assert task.train.load("b")["y"].tolist() == [[1, 0], [1, 1]]
    assert task.pooled == ()


def test_spellings_do_not_join_codes():
    names = ["A", "AA", "AAA", "A+", "A-", "1-2", "12", "I", "II", "10-19", "1019"]
    assert spellings.alike(names) == []
    big = ["123456789012345678", "123456789012345679"]
    assert spellings.alike(big) == []
    assert spellings.differ_by_a_letter("single", "sungle")
    assert spellings.differ_by_a_letter("single", "sinlge")
    assert not spellings.differ_by_a_letter("grade 1", "grade 2")
    assert not spellings.differ_by_a_letter("cat", "bat")


def test_a_run_of_another_encoding_is_another_run(tmp_path):
    rows = "0.1,0\n0.1,1\n" * 7
    folder = _folder(tmp_path, f"v,y\n{rows}")
    options = ("test_fraction=0",)
    choice = TaskChoice(
        "csv", data_dir=str(folder), label_column="y", task_option=options
    )
    experiment = Experiment(choice)
    digest = fingerprints.own_data_digest(experiment, choice.build(0))
    assert digest != choice.files_digest()
    (folder / "a.csv").write_text("v,y\n1,0\n2,1\n")
    digest = fingerprints.own_data_digest(experiment, choice.build(0))
    assert digest == choice.files_digest()
