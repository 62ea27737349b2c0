"""How cells are written: what is plain, what a notation reads, and which is refused."""

from __future__ import annotations

import datetime
import json
import re

import pandas as pd
import pytest

from tfl_research.data.tables import schema_file, written
from tfl_research.data.tables.notation import Notation


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (written.INTEGER, "7 -7 +7 0"),
        (written.PADDED, "007 00 -01"),
        (written.DECIMAL, "1.5 .5 5. 1e3 -2.5E-3"),
        (written.NOT_FINITE, "inf -Infinity"),
        (written.GROUPED, "1,5 1,234 1.234,5 1'234 1_000 12,34,567 ,5 1.234.567"),
        (written.PERCENT, "5% 1,5% 5‰"),
        (written.MONEY, "$5 5€ EUR5 -£1,000.50"),
        (written.QUANTITY, "5kg 1,5mg/dl 37°C"),
        (written.DATE, "2020-01-31 31.1.2020 1/2/20 2020-01 2020-01-31T12:30:00Z"),
        (written.TIME, "12:30 9:05:59"),
        (written.ODD_NUMBER, "−5 (5) 5- １２ ٣"),
        (written.TRUTH, "True NO t off"),
        (written.MISSING_WORD, "NA n/a NaN none NULL ?"),
        (written.TEXT, "a 1.2.3 10-20 <5 3+ 1/2 555-1234 1st 0x10 5a 1,2,3 36months"),
    ],
)
def test_what_a_text_is_written_like(kind, texts):
    for text in texts.split():
        assert written.kind(text) == kind, text


def _read(notation, *cells):
    return notation.read("v", pd.Series(cells, dtype=object)).tolist()


def test_values_by_hand():
    german = Notation("number", decimal=",", thousands=".", unit="€")
    assert _read(german, "-1.234.567,5 €", "€ 7", 7, 7.5, " 8 ", None) == [
        *(-1234567.5, 7.0, 7.0, 7.5, 8.0, None),
    ]
    assert _read(Notation("integer"), "123456789012345678", "007", "2.0", 3.0) == [
        *(123456789012345678, 7, 2, 3),
    ]
    assert _read(Notation("text"), "007", 7, 7.0, True, " a ") == [
        *("007", "7", "7", "True", "a"),
    ]
    yes = Notation("boolean", spellings={"j": "true", "n": "false"})
    assert _read(yes, "j", "n", "TRUE", False) == ["true", "false", "true", "false"]
    words = Notation("text", missing_values=("-",))
    assert _read(words, "NA", "-", "none", "") == ["NA", None, "none", ""]
    listed = Notation("text", levels=("NA",))
    assert _read(listed, "NA", "na", "none") == ["NA", None, None]


def test_days_and_times_by_hand():
    days = Notation("date", date_format="%d.%m.%Y %H:%M")
    assert _read(days, "02.01.1970 12:00", "31.12.1969 00:00") == [1.5, -1.0]
    zone = datetime.timezone(datetime.timedelta(hours=2))
    noon = datetime.datetime(1970, 1, 2, 12, tzinfo=zone)
    assert _read(days, noon, datetime.date(1970, 1, 3)) == [1 + 10 / 24, 2.0]
    assert _read(Notation("date", date_format="%H:%M"), "06:00") == [0.25]


@pytest.mark.parametrize(
    ("notation", "cell", "problem"),
    [
        (Notation("number"), "1,5", "is not a number as the schema declares"),
        (Notation("number", thousands=","), "1,23", "thousands sign ','"),
        (Notation("number", unit="kg"), "5 g", "unit 'kg'"),
        (Notation("number"), True, "is not a number"),
        (Notation("number"), "123456789012345678", "double holds exactly"),
        (Notation("number"), 2**60 + 1, "double holds exactly"),
        (Notation("number"), "1e400", "is not finite"),
        (Notation("number"), "1e-400", "is too small for float64"),
        (Notation("integer"), "2.5", "is not an integer"),
        (Notation("integer"), "9" * 20, "int64 holds exactly"),
        (Notation("integer"), 1e300, "int64 holds exactly"),
        (Notation("text"), 2.0**60, "may stand for several integers"),
        (Notation("boolean"), "yes", "is neither true nor false"),
        (Notation("date", date_format="%d.%m.%Y"), "31.02.2020", "is not a date"),
        (Notation("date", date_format="%Y%m%d"), "2020111", "is not a date"),
        # A thousands sign that nobody declared.
        (Notation("number", decimal=","), "1.234", "decimal sign ','"),
        (Notation("integer", decimal=","), "1.000", "decimal sign ','"),
        (Notation("number", decimal=",", thousands=" "), "1.234,5", "thousands sign"),
    ],
)
def test_a_cell_that_is_written_otherwise_is_named(notation, cell, problem):
    pattern = re.escape(f"column 'v', row 1: {cell!r} ") + ".*" + re.escape(problem)
    with pytest.raises(ValueError, match=pattern):
        _read(notation, None, cell)


COLUMN = {"minimum": 0, "maximum": 1}


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (
            {**COLUMN, "type": "float"},
            "type must be one of number, integer, text, boolean, date",
        ),
        ({**COLUMN, "type": 3}, "type must be text, got 3"),
        ({**COLUMN, "type": "text"}, "minimum and maximum go with the type number"),
        ({**COLUMN, "decimal": ";"}, "decimal must be one of '.' ','"),
        ({**COLUMN, "decimal": ",", "thousands": ","}, "must be different signs"),
        ({**COLUMN, "type": "date"}, "a date needs a format"),
        ({**COLUMN, "format": "%Y"}, "other types have no format"),
        ({**COLUMN, "missing_values": "NA"}, "missing_values must be a list of texts"),
        ({**COLUMN, "minimum": "2020-01-31"}, "minimum and maximum must be numbers"),
        ({**COLUMN, "maximum": 10**400}, "minimum and maximum must be numbers"),
        ({"minimum": -1e308, "maximum": 1e308}, "wider than float64 holds"),
        ({**COLUMN, "unit": "−"}, "without digits and signs"),
        ({**COLUMN, "unit": "10 kg"}, "without digits and signs"),
        ({"choices": [COLUMN]}, "has choices; replace the whole entry"),
        ({"categories": ["a"], "unit": "kg"}, "unit go with numbers only"),
        ({"categories": ["01"], "type": "integer"}, "written as 1, not as 01"),
        (
            {"categories": ["a"], "spellings": {"b": ["B"]}},
            "must be among the declared names",
        ),
        ({"categories": ["a"], "spellings": {"a": "A"}}, "spellings must be an object"),
        (
            {"categories": ["a", "b"], "spellings": {"a": ["x"], "b": ["x"]}},
            "'x' means both 'a' and 'b'",
        ),
        ({"type": "boolean", "categories": ["a", "b"]}, "type text or integer"),
    ],
)
def test_a_schema_that_contradicts_itself_is_refused(tmp_path, entry, problem):
    path = tmp_path / "schema.json"
    path.write_text(json.dumps({"columns": {"v": entry}}))
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        schema_file.read_file(path, "y")
    assert "\n" not in str(caught.value)
    assert str(caught.value).count("schema.json") == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"columns": {"v": {}, "v": {}}}', "'v' occurs twice"),
        ("[" * 100_000, "cannot be read"),
        ('{"columns": {"v": {"minimum": NaN, "maximum": 1}}}', "must be numbers"),
        ("{}\n{}", "line 2"),
    ],
)
def test_a_file_that_says_two_things_is_refused(tmp_path, text, problem):
    path = tmp_path / "schema.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=problem) as caught:
        schema_file.read_file(path, "y")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("label", "problem"),
    [
        ({"choices": []}, "has choices"),
        ({"classes": ["a", "b"], "type": "date", "format": "%Y"}, "classes go with"),
        ({"classes": ["a", "b"], "type": "boolean"}, "must be false and true"),
        ({"type": "number", "minimum": "0"}, "must be numbers, got '0'"),
        ({"columns": {}}, "columns must be an object"),
        ({"columns": {"a": {"type": "text"}}}, 'expected {"type": "boolean"}'),
        (3, "two or more distinct names"),
    ],
)
def test_a_label_that_contradicts_itself_is_refused(label, problem):
    content = {"columns": {"v": COLUMN}, "label": label}
    with pytest.raises(ValueError, match=re.escape(problem)):
        schema_file.of_content("schema.json", content, "y")


def test_a_notation_is_what_a_schema_file_says():
    entry = {
        "type": "number",
        "decimal": ",",
        "thousands": ".",
        "unit": "€",
        "missing_values": ["", "-"],
        "spellings": {"0": ["zero"]},
    }
    content = {"columns": {"v": {**COLUMN, **entry}}}
    schema = schema_file.of_content("schema.json", content, "y")
    (column,) = schema.columns
    assert column.notation.content() == entry
    plain = schema_file.of_content("schema.json", {"columns": {"v": COLUMN}}, "y")
    assert plain.columns[0].notation is None
    assert plain.digest != schema.digest
    # As before notations were: sites of other versions compare digests.
    assert plain.digest == (
        "89b6770e2635599917a7ab5d501d5f39090f2d8d09e1e0d37fa2fc57908ea3f2"
    )
