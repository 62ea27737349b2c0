"""Schemas that sites agree on without their rows: drafts, merging, and what fits."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib

import numpy as np
import pandas as pd
import pytest

from tfl_research import tasks
from tfl_research.data.tables import files, schema_entries, schema_file, silos
from tfl_research.data.tables.agreement import (
    draft as drafts,
    drafting,
    fit,
    merging,
    rounding,
)
from tfl_research.data.tables.agreement.decisions import ConflictError, Decisions
from tfl_research.data.tables.comparison import spellings

EXACT = drafting.Choices(minimum_count=1, scale_digits=0)


def _silo(folder: pathlib.Path, name: str, **columns) -> list[files.Silo]:
    """A site's only file."""
    here = folder / name
    here.mkdir(exist_ok=True)
    pd.DataFrame(columns).to_csv(here / f"{name}.csv", index=False)
    return files.read_folder(here)


def _draft(folder, name, choices=EXACT, label="y", **columns):
    return drafting.make(name, _silo(folder, name, **columns), label, choices)


def _lines(parts, **decisions) -> tuple[str, ...]:
    with pytest.raises(ConflictError) as caught:
        merging.merge([part.draft for part in parts], Decisions(**decisions))
    return caught.value.lines


@pytest.mark.parametrize(
    ("low", "high", "digits", "expected"),
    [
        (29, 77, 1, (20, 80)),
        (29, 77, 2, (29, 77)),
        (0.12, 0.44, 1, (0.1, 0.5)),
        (-3.2, 141, 1, (-100, 200)),
        (-3.2, 141, 2, (-10, 150)),
        (29.5, 77.25, 0, (29.5, 77.25)),
        # No width: the number itself decides.
        (37, 37, 1, (30, 40)),
        (0, 0, 1, (0, 0)),
        (30, 30, 1, (30, 30)),
    ],
)
def test_ranges_are_rounded_outward(low, high, digits, expected):
    assert rounding.outward(low, high, digits) == expected


def test_numbers_are_rounded_to_digits_of_a_size():
    assert rounding.nearest(53.54, 9.4, 1) == 54
    assert rounding.nearest(53.54, 9.4, 2) == 53.5
    assert rounding.nearest(303, 303, 1) == 300
    assert rounding.nearest(53.54, 9.4, 0) == 53.54


def test_a_draft_leaves_out_what_few_rows_hold(tmp_path):
    drafted = _draft(
        tmp_path,
        "north",
        drafting.Choices(minimum_count=3, scale_digits=0),
        ward=["a"] * 3 + ["b"] * 2 + ["c"] * 4,
        age=[90, 10, 20, 30, 40, 50, 60, 70, 80],
        few=[1, 2, "", "", "", "", "", "", ""],
        none=[""] * 9,
        y=["no"] * 5 + ["yes"] * 3 + ["perhaps"],
    )
    columns = drafted.draft.columns
    assert columns["ward"] == drafts.CategoryDraft(False, ("a", "c"))
    # Three rows are at most 30, three at least 70.
    assert columns["age"] == drafts.NumberDraft(False, minimum=30, maximum=70)
    assert columns["few"] == drafts.NumberDraft(True)
    assert columns["none"] == drafts.EmptyDraft()
    assert drafted.draft.classes == ("no", "yes")
    assert drafted.left_out == {"ward": {"b": 2}, "y": {"perhaps": 1}}
    text = drafts.as_json(drafted.draft.content())
    assert "perhaps" not in text
    assert '"b"' not in text
    path = tmp_path / "draft.json"
    path.write_text(text)
    assert drafts.read(path) == drafted.draft


def test_a_range_is_not_drafted_where_its_ends_would_cross(tmp_path):
    choices = drafting.Choices(minimum_count=3, scale_digits=0)
    drafted = _draft(tmp_path, "n", choices, age=[1, 2, 3, 4], y=[0, 0, 1, 1])
    # The third least is 3 and the third greatest 2.
    assert drafted.draft.columns["age"] == drafts.NumberDraft(False)


def test_missing_cells_are_hidden_on_request(tmp_path):
    columns = {"a": [1, 2], "w": ["u", "v"], "y": [0, 1]}
    found = _draft(tmp_path, "n", **columns).draft.columns
    assert not found["a"].missing
    assert not found["w"].missing
    choices = drafting.Choices(1, scale_digits=0, missing="possible")
    hidden = _draft(tmp_path, "n", choices, **columns).draft.columns
    assert hidden["a"].missing
    assert hidden["w"].missing


def test_identifiers_are_refused_or_pointed_out(tmp_path):
    rows = range(30)
    names = {"who": [f"patient {i}" for i in rows], "y": [i % 2 for i in rows]}
    with pytest.raises(ValueError, match=r"'who' has 30 levels.*--drop_columns=who"):
        _draft(tmp_path, "north", **names)
    drafted = _draft(
        tmp_path, "south", number=list(rows), y=[i % 2 for i in rows], z=[1.5] * 30
    )
    assert drafted.perhaps_identifiers == ("number",)
    repeated = [*range(29), 0]
    drafted = _draft(tmp_path, "east", number=repeated, y=[i % 2 for i in rows])
    assert drafted.perhaps_identifiers == ()


def test_codes_become_categories_on_request(tmp_path):
    choices = drafting.Choices(1, scale_digits=0, categories=("code",))
    drafted = _draft(tmp_path, "n", choices, code=[3, 1, 1], y=[0, 1, 1])
    assert drafted.draft.columns["code"] == drafts.CategoryDraft(False, ("1", "3"))
    with pytest.raises(ValueError, match=r"--categories=cod: the files have no such"):
        _draft(tmp_path, "n", drafting.Choices(categories=("cod",)), code=[1], y=[0])


def test_levels_and_ranges_are_joined_in_any_order(tmp_path):
    parts = [
        _draft(tmp_path, "c", w=["v", "u"], age=[20, 60], e=["", ""], y=[1, 1]),
        _draft(tmp_path, "a", w=["u", "t"], age=[10, 50], e=[1, 2], y=[0, 0]),
        _draft(tmp_path, "b", w=["u", "u"], age=["", 30], e=[2, 3], y=[0, 2]),
    ]
    expected = {
        "columns": {
            "w": {"categories": ["t", "u", "v"], "unknown": "refuse", "missing": False},
            "age": {"minimum": 10, "maximum": 60, "outside": "refuse"},
            "e": {"minimum": 1, "maximum": 3, "outside": "refuse"},
        },
        "label": {"classes": ["0", "1", "2"]},
    }
    for order in itertools.permutations(part.draft for part in parts):
        assert merging.merge(order, Decisions()) == expected


def test_a_mean_and_deviation_are_those_of_all_values(tmp_path):
    generator = np.random.default_rng(0)
    values = [generator.normal(loc, 2, size) for loc, size in ((0, 7), (5, 30), (9, 2))]
    choices = drafting.Choices(1, scales="mean", scale_digits=0)
    parts = [
        _draft(tmp_path, f"s{i}", choices, a=v, y=np.arange(len(v)) % 2)
        for i, v in enumerate(values)
    ]
    merged = merging.merge([part.draft for part in parts], Decisions())
    together = np.concatenate(values)
    entry = merged["columns"]["a"]
    assert entry["mean"] == pytest.approx(together.mean(), rel=1e-12)
    assert entry["deviation"] == pytest.approx(together.std(), rel=1e-12)
    (column,) = schema_file.of_content("schema.json", merged, "y").columns
    encoded = column.encode(pd.Series(together))
    np.testing.assert_allclose(encoded.mean(), 0, atol=1e-6)
    np.testing.assert_allclose(encoded.std(), 1, rtol=1e-6)


def test_rare_levels_of_a_site_become_zeros_and_far_numbers_the_end(tmp_path):
    choices = drafting.Choices(2, scale_digits=0)
    rows = {"w": ["a", "a", "b"], "age": [10, 20, 90], "y": [0, 0, 1]}
    part = _draft(tmp_path, "n", choices, **rows)
    merged = merging.merge(
        [part.draft], Decisions(classes=("1",), ranges={"age": (0, 100)})
    )
    assert merged["columns"] == {
        "w": {"categories": ["a"], "unknown": "zeros", "missing": False},
        "age": {"minimum": 0, "maximum": 100, "outside": "refuse", "missing": False},
    }
    words = Decisions(
        classes=("1",), ranges={"age": (0, 9)}, unknown="other", outside="clip"
    )
    columns = merging.merge([part.draft], words)["columns"]
    assert columns["w"]["unknown"] == "other"
    assert columns["age"]["outside"] == "clip"
    with pytest.raises(ConflictError, match="same number, 20"):
        merging.merge([part.draft], Decisions(classes=("1",)))


def test_kinds_that_differ_are_refused_by_site_and_column(tmp_path):
    north = _draft(tmp_path, "north", code=[1, 2], age=[1, 2], y=[0, 1])
    south = _draft(tmp_path, "south", code=["u", "v"], age=[1, 2], y=[0, 1])
    (line,) = _lines([north, south])
    assert "'code' has numbers at north and categories at south" in line
    assert "--categories=code" in line
    assert "--drop_columns=code" in line
    dropped = Decisions(dropped=("code",))
    merged = merging.merge([north.draft, south.draft], dropped)
    assert list(merged["columns"]) == ["age"]


def test_levels_that_are_written_differently_are_refused(tmp_path):
    codes = dataclasses.replace(EXACT, categories=("n",))
    columns = {"drug": ["Béta", "iron"], "n": ["1", "x"], "y": [0, 1]}
    with pytest.raises(ValueError, match="'1' is a number, but most cells are text"):
        _draft(tmp_path, "north", **columns)
    north = _draft(tmp_path, "north", codes, **columns)
    columns.update(drug=["beta", "iron"], n=["1.0", "x"])
    south = _draft(tmp_path, "south", codes, **columns)
    lines = _lines([north, south])
    assert len(lines) == 2
    assert (
        "column 'drug': 'Béta' (north) and 'beta' (south) differ only in case"
    ) in lines[0]
    assert "--distinct=drug" in lines[0]
    assert "column 'n': '1' (north) and '1.0' (south)" in lines[1]
    merged = merging.merge(
        [north.draft, south.draft], Decisions(distinct=("drug", "n"))
    )
    assert merged["columns"]["drug"]["categories"] == ["Béta", "beta", "iron"]


def test_labels_that_are_written_differently_are_refused(tmp_path):
    north = _draft(tmp_path, "north", a=[1, 2], y=["Yes", "no"])
    south = _draft(tmp_path, "south", a=[1, 2], y=["yes ", "no"])
    (line,) = _lines([north, south])
    assert line.startswith(
        "label 'y': 'Yes' (north) and 'yes' (south) differ only in case"
    )
    east = _draft(tmp_path, "east", a=[1, 2], y=[0, 1])
    (line,) = _lines([north, east])
    assert "0 (east) is an integer and 'Yes' (north) is text" in line
    only = _draft(tmp_path, "only", a=[1, 2], y=[1, 1])
    (line,) = _lines([only])
    assert "--classes=NAME" in line
    merged = merging.merge([only.draft], Decisions(classes=("0",)))
    assert merged["label"] == {"classes": ["0", "1"]}


def test_columns_that_differ_are_refused_by_site(tmp_path):
    north = _draft(tmp_path, "north", Age=[1, 2], y=[0, 1], z=[1, 2])
    south = _draft(tmp_path, "south", age=[1, 2], y=[0, 1], z=[1, 2])
    first, second = _lines([north, south])
    assert "'Age' is missing at south ('age' is written differently)" in first
    assert "'age' is missing at north" in second
    west = _draft(tmp_path, "west", label="z", age=[1, 2], y=[0, 1], z=[1, 2])
    assert "'y' at south and 'z' at west" in _lines([south, west])[0]


def test_scales_that_differ_or_are_not_published_are_refused(tmp_path):
    def part(name, scales):
        choices = drafting.Choices(1, scales=scales, scale_digits=0)
        return _draft(tmp_path, name, choices, age=[1, 2], y=[0, 1])

    ranged, meant, none = part("r", "range"), part("m", "mean"), part("n", "none")
    (line,) = _lines([ranged, meant])
    assert "a range at r and a mean at m" in line
    (line,) = _lines([ranged, none])
    assert "no range at n; give --range=age=LOW:HIGH" in line
    (line,) = _lines([none])
    assert "no range at n" in line
    both = [ranged.draft, none.draft]
    clipped = merging.merge(both, Decisions(outside="clip"))
    assert clipped["columns"]["age"]["outside"] == "clip"
    given = merging.merge(both, Decisions(ranges={"age": (0, 9)}))
    assert given["columns"]["age"]["maximum"] == 9


def test_a_site_takes_part_once_and_decisions_are_about_columns(tmp_path):
    part = _draft(tmp_path, "n", age=[1, 2], y=[0, 1]).draft
    with pytest.raises(ValueError, match="two drafts are of the site 'n'"):
        merging.merge([part, part], Decisions())
    with pytest.raises(ValueError, match=r"--range=agee: no draft has this column"):
        merging.merge([part], Decisions(ranges={"agee": (0, 1)}))
    with pytest.raises(ValueError, match="no draft is given"):
        merging.merge([], Decisions())


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"draft": 2}, "not a draft of format 1"),
        ({"site": 3}, "site must be a name"),
        ({"label": {}}, "label must be an object"),
        ({"label": {"column": "y", "classes": ["a", "a"]}}, "must be distinct"),
        ({"columns": {}}, "columns must be an object"),
        ({"minimum_count": True}, "minimum_count: must be a whole number"),
        ({"columns": {"a": {"kind": "text"}}}, "kind must be one of"),
        ({"columns": {"a": {"kind": "number"}}}, "missing must be true or false"),
        (
            {"columns": {"a": {"kind": "number", "missing": True, "minimum": 1}}},
            "expected minimum and maximum",
        ),
        (
            {"columns": {"a": {"kind": "empty", "missing": True, "rows": 3}}},
            "unknown entry 'rows'",
        ),
    ],
)
def test_a_file_that_is_no_draft_is_refused(tmp_path, entry, message):
    content = {
        "draft": 1,
        "site": "n",
        "minimum_count": 1,
        "scale_digits": 0,
        "label": {"column": "y", "classes": []},
        "columns": {"a": {"kind": "empty", "missing": True}},
    }
    path = tmp_path / "draft.json"
    path.write_text(json.dumps({**content, **entry}))
    with pytest.raises(ValueError, match=message) as caught:
        drafts.read(path)
    assert str(path) in str(caught.value)


def test_each_cell_that_does_not_fit_is_named(tmp_path):
    content = {
        "columns": {
            "age": {"minimum": 0, "maximum": 100, "outside": "refuse"},
            "w": {"categories": ["u", "v"]},
            "z": {"minimum": 0, "maximum": 1},
        },
        "label": {"classes": ["0", "1"]},
    }
    schema = schema_file.of_content("schema.json", content, "y")
    site = _silo(
        tmp_path, "n", age=[1, 200, 300], w=["u", "v", "x"], y=[0, 1, 2], more=[1, 1, 1]
    )
    path = tmp_path / "n" / "n.csv"
    missing, extra, age, level, label = fit.misfits(site, schema, "y", ())
    assert missing.startswith(f"{path}: column 'z' of the schema is missing")
    assert extra.startswith(f"{path}: extra column 'more'")
    assert age.startswith(f"{path}: line 3, column 'age': '200' is outside")
    assert level.startswith(f"{path}: line 4, column 'w': 'x' is not one of")
    assert label.startswith(f"{path}: line 4, column 'y': unknown label '2'")
    assert len(fit.misfits(site, schema, "y", ("more", "z", "w"))) == 2


def test_spellings():
    assert spellings.alike(["A b", "ab", "c", "10", "1e1", "Ç", "c "]) == [
        ["A b", "ab"],
        ["c", "Ç", "c "],
        ["10", "1e1"],
    ]


def test_a_site_encodes_its_rows_as_the_pooled_rows_would_be(tmp_path):
    """With the merged schema.json, nothing depends on another site's rows."""
    generator = np.random.default_rng(1)
    together = tmp_path / "together"
    together.mkdir()
    parts = []
    for number, name in enumerate(("east", "west", "south")):
        size = 40 + number
        columns = {
            "age": generator.normal(50 + 10 * number, 9, size).round(1),
            "w": generator.choice(["u", "v", f"only {name}"], size),
            "y": generator.integers(0, 2, size),
        }
        parts.append(_draft(tmp_path, name, drafting.Choices(), **columns).draft)
        pd.DataFrame(columns).to_csv(together / f"{name}.csv", index=False)
    content = drafts.as_json(merging.merge(parts, Decisions()))
    for folder in ("together", "east", "west", "south"):
        (tmp_path / folder / "schema.json").write_text(content)
    pooled = silos.load(together, label_column="y")
    assert pooled.declared
    assert pooled.declared_classes
    for name in ("east", "west", "south"):
        task = tasks.get("csv", data_dir=str(tmp_path / name), label_column="y")
        assert task.pooled == ()
        for split, whole in ((task.train, pooled.train), (task.test, pooled.test)):
            own, theirs = split.load(name), whole.load(name)
            assert own.keys() == theirs.keys()
            for array in own:
                np.testing.assert_array_equal(own[array], theirs[array])


NOTATIONS = {
    "price": {"type": "number", "decimal": ","},
    "smoker": {"type": "boolean", "spellings": {"true": ["y"], "false": ["n"]}},
    "code": {"type": "text"},
    "y": {"type": "text", "spellings": {"no": ["NO"]}},
}


def _written(folder, name, notations=NOTATIONS, **columns):
    read = {k: schema_entries.notation_of(k, v) for k, v in notations.items()}
    return _draft(folder, name, dataclasses.replace(EXACT, notations=read), **columns)


def test_sites_declare_how_cells_are_written(tmp_path):
    north = {"price": ["1,5", "2"], "smoker": ["y", "n"], "code": ["01", "1"]}
    north["y"] = ["NO", "yes"]
    south = {"price": ["0,5", ""], "smoker": ["n", "n"], "code": ["01", "2"]}
    south["y"] = ["no", "yes"]
    with pytest.raises(ValueError, match=r"'NO'|written like .*--notation=price=JSON"):
        _draft(tmp_path, "north", **north)
    parts = [
        _written(tmp_path, "north", **north),
        _written(tmp_path, "south", **south),
    ]
    path = tmp_path / "draft.json"
    path.write_text(drafts.as_json(parts[0].draft.content()))
    assert drafts.read(path) == parts[0].draft
    assert len(_lines(parts)) == 1
    distinct = Decisions(distinct=("code",))
    merged = merging.merge([part.draft for part in parts], distinct)
    assert merged["columns"] == {
        "price": {
            "minimum": 0.5,
            "maximum": 2,
            "outside": "refuse",
            "type": "number",
            "decimal": ",",
        },
        "smoker": {**NOTATIONS["smoker"], "missing": False},
        "code": {
            "categories": ["01", "1", "2"],
            "unknown": "refuse",
            "missing": False,
            "type": "text",
        },
    }
    assert merged["label"] == {"classes": ["no", "yes"], **NOTATIONS["y"]}
    (tmp_path / "south" / "schema.json").write_text(drafts.as_json(merged))
    data = silos.load(tmp_path / "south", label_column="y", test_fraction=0.0)
    assert data.train.load("south")["x"].tolist() == [
        [-1, 0, 1, 0, 1, 0, 0],
        [0, 1, 1, 0, 0, 0, 1],
    ]
    plain = {k: v for k, v in NOTATIONS.items() if k != "price"}
    south["price"] = ["0.5", "1"]
    other = _written(tmp_path, "south", plain, **south)
    (line,) = _lines([parts[0], other], distinct=("code",))
    assert "the sites north and south write column 'price' in different ways" in line
    with pytest.raises(
        ValueError, match=("--notation=pricee: the files have no such feature")
    ):
        _written(tmp_path, "south", {"pricee": NOTATIONS["price"]}, **south)
