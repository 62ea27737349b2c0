"""scripts/federation schema: what is printed, written and refused."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from tfl_research import tasks
from tfl_research.cli.federation.__main__ import main


@pytest.fixture
def sites(tmp_path):
    """Two sites' folders of data."""
    for name, levels in (("north", "uuvvvx"), ("south", "uuuvvw")):
        folder = tmp_path / name
        folder.mkdir()
        pd.DataFrame(
            {
                "age": [20, 30, 40, 50, 60, 99 if name == "north" else 70],
                "w": list(levels),
                "fell": ["no", "yes"] * 3,
            }
        ).to_csv(folder / "rows.csv", index=False)
    return tmp_path


def _draft(root, name, *more) -> int:
    return main(
        [
            *("schema", "draft", f"--site={name}", f"--data_dir={root / name}"),
            *("--label_column=fell", f"--output={root / name}.json", *more),
        ]
    )


def _merge(root, *more) -> int:
    drafts = [str(root / "north.json"), str(root / "south.json")]
    output = f"--output={root / 'schema.json'}"
    return main(["schema", "merge", *drafts, output, *more])


def _check(root, name, *more) -> int:
    return main(
        [
            *("schema", "check", f"--schema={root / 'schema.json'}", *more),
            *(f"--data_dir={root / name}", "--label_column=fell"),
        ]
    )


def test_from_drafts_to_tasks(sites, capsys):
    assert _draft(sites, "north", "--minimum_count=2") == 0
    printed = capsys.readouterr().out
    assert f"{sites / 'north.json'} discloses this, and nothing else" in printed
    assert "'north', its name" in printed
    assert "the label, with the classes 'no', 'yes'" in printed
    # The second least age is 30 and the second greatest 60, in tens.
    assert "numbers: range 30 to 60; no cell is missing" in printed
    assert "categories: the levels 'u', 'v'; no cell is missing" in printed
    assert "at least 2 rows (--minimum_count=2)" in printed
    published, kept = printed.split("Left out of the file")
    assert "'x'" not in published
    assert "'x' (1)" in kept
    assert "x" not in json.loads((sites / "north.json").read_text())["columns"]["w"]
    assert _draft(sites, "south", "--minimum_count=1", "--scale_digits=0") == 0
    printed = capsys.readouterr().out
    assert "may rest on a single row (--minimum_count=1)" in printed
    assert "scales are exact" in printed
    assert _merge(sites) == 0
    assert "age: 20 to 70; outside: clip" in capsys.readouterr().out
    for name in ("north", "south"):
        assert _check(sites, name, "--install") == 0
        assert "all 6 rows of 1 file fit" in capsys.readouterr().out
        task = tasks.get("csv", data_dir=str(sites / name), label_column="fell")
        assert task.pooled == ()
        assert task.train.specs["x"].shape == (4,)
    assert _check(sites, "north", "--install") == 0
    other = json.loads((sites / "schema.json").read_text())
    other["columns"]["age"]["maximum"] = 80
    (sites / "schema.json").write_text(json.dumps(other))
    capsys.readouterr()
    assert _check(sites, "north", "--install") == 2
    assert "schema.json differs from" in capsys.readouterr().err


def test_check_names_file_row_and_column(sites, capsys):
    for name in ("north", "south"):
        assert _draft(sites, name, "--minimum_count=1") == 0
    assert _merge(sites, "--range=age=0:90") == 0
    capsys.readouterr()
    path = sites / "north" / "rows.csv"
    path.write_text(path.read_text().replace("30,u,yes", "30,U,yes"))
    assert _check(sites, "north", "--install") == 1
    age, level = capsys.readouterr().err.splitlines()
    start = f"federation schema check: {path}: "
    assert age.startswith(f"{start}line 7, column 'age': '99' is outside the declared")
    assert level.startswith(f"{start}line 3, column 'w': 'U' is not one of the 4")
    assert not (sites / "north" / "schema.json").exists()


def test_conflicts_are_a_line_each(sites, capsys):
    assert _draft(sites, "north", "--minimum_count=1") == 0
    path = sites / "south" / "rows.csv"
    path.write_text(path.read_text().replace("u,", "U,").replace("age", "years"))
    assert _draft(sites, "south", "--minimum_count=1") == 0
    capsys.readouterr()
    assert _merge(sites) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("federation schema merge: ") for line in lines)
    assert "column 'w': 'U' (south) and 'u' (north) differ only in case" in lines[1]
    assert not (sites / "schema.json").exists()
    assert _merge(sites, "--drop_columns=age,years", "--distinct=w") == 0
    assert "drop_columns=age,years" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--minimum_count=0"], "--minimum_count=0: must be at least 1"),
        (["--scales=all"], "--scales=all: must be range or mean or none"),
        (["--site=a b"], "--site is 'a b'"),
        (["--label_column=fel"], "--label_column=fel: "),
        (["--drop_columns=x"], "--drop_columns=x: the files have no such feature"),
        (["--data_dir=nowhere"], "nowhere: no such folder"),
        (["--output=nowhere/d.json"], "the folder nowhere does not exist"),
    ],
)
def test_a_draft_that_is_refused_names_the_flag(sites, capsys, flags, message):
    assert _draft(sites, "north", *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (sites / "north.json").exists()


def test_files_are_not_overwritten_and_drafts_are_no_data(sites, capsys):
    assert _draft(sites, "north") == 0
    assert _draft(sites, "north") == 2
    assert "the file exists already; move it away" in capsys.readouterr().err
    inside = sites / "south" / "draft.json"
    assert _draft(sites, "south", f"--output={inside}") == 2
    assert "is in the data's folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--range=age=9", "expected COLUMN=LOW:HIGH, as age=0:120"),
        ("--range=age=9:3", "--range=age=9:3: the first number must be below"),
        ("--levels=w", "expected COLUMN=LEVEL"),
        ("--unknown=drop", "--unknown=drop: must be refuse or other or zeros"),
    ],
)
def test_a_decision_that_is_refused_names_the_flag(sites, capsys, flag, message):
    for name in ("north", "south"):
        assert _draft(sites, name) == 0
    capsys.readouterr()
    assert _merge(sites, flag) == 2
    assert message in capsys.readouterr().err
