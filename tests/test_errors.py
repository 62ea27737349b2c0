"""How messages quote the values of users."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import tfl_research as tfl
from tfl_research import tasks
from tfl_research.cli import last_resort
from tfl_research.data import tables
from tfl_research.errors import quoted, shortened

LONG = "a remark of a nurse, " * 5000
COUNT = f"({len(LONG)} characters)"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("yes", "'yes'"),
        ("a\nb", "'a\\nb'"),
        (2.5, "2.5"),
        ("x" * 118, repr("x" * 118)),
        (b"x" * 500, f"{b'x' * 120!r}... (500 characters)"),
        (10**5000, "a number too long to show (int)"),
    ],
    ids=range(6),
)
def test_quoted(value, text):
    assert quoted(value) == text


def test_a_long_value_is_shortened():
    assert quoted(LONG) == f"{LONG[:120]!r}... {COUNT}"
    assert shortened(LONG) == f"{LONG[:120]}... {COUNT}"
    assert quoted([LONG]).startswith(f"['{LONG[:100]}")
    assert len(quoted([LONG])) < 200


def frame(column, cell):
    clients = ["a", "a", "b", "b"]
    found = pd.DataFrame({"client": clients, "v": [1, 2, 3, 4], "y": [0, 1, 0, 1]})
    found[column] = found[column].astype(object)
    found.loc[2, column] = cell
    return found


@pytest.mark.parametrize("options", [{}, {"classes": ["0", "1"]}])
@pytest.mark.parametrize("column", ["v", "y"])
@pytest.mark.parametrize("cell", [LONG, 10**5000], ids=["text", "number"])
def test_a_long_cell_of_a_dataframe_is_shortened(column, cell, options):
    with pytest.raises(ValueError, match=f"'b', column '{column}', row 2") as error:
        tasks.from_dataframe(
            frame(column, cell),
            client="client",
            features=["v"],
            label="y",
            model=lambda: None,
            **(options if column == "y" else {}),
        )
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("column", ["v", "y"])
def test_a_long_cell_of_a_file_is_shortened(column, tmp_path):
    for name in ("a", "b"):
        rows = frame(column, LONG).drop(columns="client")
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
    with pytest.raises(ValueError, match=r"a\.csv: line 4, column") as error:
        tasks.get("csv", data_dir=str(tmp_path), label_column="y")
    assert len(str(error.value)) < 1500


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: tfl.Training(rounds=LONG),
        lambda: tfl.SGD(LONG),
        lambda: tfl.Experiment("heart", aggregator=LONG),
        lambda: tfl.Experiment(LONG),
        lambda: tfl.Experiment("heart").with_settings(**{LONG: 1}),
        lambda: tfl.Experiment.from_flat({LONG: 1}),
        lambda: tfl.TaskChoice("heart", task_option=(LONG,)),
    ],
)
def test_a_long_value_of_a_setting_is_shortened(wrong):
    with pytest.raises(tfl.SettingError) as error:
        wrong()
    assert COUNT in str(error.value)
    assert len(str(error.value)) < 1000


def test_a_command_line_shows_both_ends_of_a_long_line(capsys):
    assert last_resort.say("error", f"first {'word ' * 9000}last", 2) == 2
    said = capsys.readouterr().err
    assert len(said) < 5000
    assert said.startswith("error: first word")
    assert said.endswith("word last\n")


def test_numbers_as_categories_stay_categories_in_parquet(tmp_path):
    """What pandas wrote as numbers, with its dtype in the metadata."""
    path = tmp_path / "rows.parquet"
    rows = frame("v", 3).astype({"v": int})
    rows["code"] = pd.Categorical([3, 7, 3, 9])
    rows.to_parquet(path)
    common = {"client": "client", "label": "y", "model": lambda: None}
    for source, build in ((rows, tasks.from_dataframe), (path, tasks.from_parquet)):
        with pytest.raises(ValueError, match="'code', row 0: 3 is not a number"):
            build(source, features=["v", "code"], **common)
        schema = tables.Schema([tables.Categorical("code", ["3", "7", "9"])])
        task = build(source, features=schema, **common)
        np.testing.assert_array_equal(task.train.load("b")["x"], [[1, 0, 0], [0, 0, 1]])
