"""The data of the built-in tasks stay as they were, to the bit.

Runs that were begun with an earlier version are resumed on the same clients, splits and
features. A digest changes only where that is meant, with a word to users.
"""

from __future__ import annotations

import json

import pytest

from tfl_research import tasks

_CASES = [
    ("heart", {}, "b39554ccf5416a7e9850214e48d0f338d61196db309b8c83d4bb9909068a2d98"),
    (
        "heart",
        {"seed": 3, "held_out": "Hungary", "test_fraction": 0.3},
        "34d3e6e92dca213c1fc7e4b18de40e5a9e078606519da2aa867429720cb1839e",
    ),
    ("loans", {}, "a5f3c97839a92e7f7ab062baaaac4d2b2524e36483b26396b4259c5a6c52300e"),
    (
        "loans",
        {"seed": 2, "held_out_fraction": 0.2, "target": "bad"},
        "eafbd4f6e877be9f9c4d74a780f6677d8896d5fd5dec5362579af3aa4eddb8ad",
    ),
    ("taxi", {}, "dae37df268f9fde089be53e6a5cba9c602dc897967093e4ba780f83445887716"),
    (
        "taxi",
        {"seed": 5, "held_out": "Sun Taxi"},
        "75cc30dbb38aa215690c3c66eb20b410d5110cf1ead1501f52012d2d216afe60",
    ),
    ("flights", {}, "688523d01f607b8c24ebb0e750d563e4178329375d880bbdd6334d63bbb8b062"),
    (
        "flights",
        {"seed": 1, "held_out_fraction": 0.2},
        "cde062481bd673babdcb7fb72f2226764abcc9b2b9a0acbe93a98e6a36f83688",
    ),
    ("mnist", {}, "675c9a466c3b795bbc1ca4bba731faf47a81817138c09100c0175753b6c6e3bb"),
    (
        "mnist",
        {"seed": 2, "partition": "dirichlet", "test_fraction": 0.25, "num_clients": 30},
        "fc3822d874263e70d389134199371d903580a176c69840750a1b865dec61d090",
    ),
    (
        "mnist",
        {
            "seed": 2,
            "partition": "quantity",
            "test_fraction": 0.1,
            "num_clients": 30,
            "held_out_clients": 5,
        },
        "18c4097347d2fc6f3c2bd51c4dde0c65ffc90417a9e62dc9ae0a9f5b707f19b8",
    ),
    (
        "shakespeare",
        {},
        "b3a77c713d58e12b74bdd2c91dd06b15c52f8a655b81bf59c32d99f75ff4fe54",
    ),
    (
        "shakespeare",
        {"seed": 1, "model": "lstm", "held_out_fraction": 0.3},
        "611aa80684a24c964e21157860a6da4ee9ef3d950dd95f8ad1eda3231d8f579f",
    ),
]


@pytest.mark.parametrize(("name", "options", "digest"), _CASES)
def test_built_in_tasks(name, options, digest):
    assert tasks.content_digest(tasks.get(name, **options)) == digest


_A = "age,sex,ill\n10,F,no\n20,M,yes\n30,F,no\n40,F,yes\n"
_B = "sex,age,ill\nM,50,yes\n,60,no\nM,NA,no\n"
_SCHEMA = {
    "columns": {
        "age": {"minimum": 0, "maximum": 100},
        "sex": {"categories": ["F", "M", "X"]},
    },
    "label": {"classes": ["no", "yes"]},
}


@pytest.mark.parametrize(
    ("schema", "options", "digest"),
    [
        (None, {}, "f8998cde138e82c26a331c7ea68ba62edddc2877b042250dc319fba222cddfeb"),
        (
            None,
            {"test_fraction": 0.0, "seed": 3, "held_out_clients": 1},
            "e4bae2257a5164fa75c8b82e3318defbb599241ad9fd038c3520dcab1e6531a4",
        ),
        (
            _SCHEMA,
            {"seed": 1},
            "94bceb5d037765ca3314b8365b1465380076537a787e47a9c6cddc0261c21e33",
        ),
    ],
)
def test_folders_of_files(tmp_path, schema, options, digest):
    (tmp_path / "a.csv").write_text(_A)
    (tmp_path / "b.csv").write_text(_B)
    if schema is not None:
        (tmp_path / "schema.json").write_text(json.dumps(schema))
    task = tasks.get("csv", data_dir=str(tmp_path), label_column="ill", **options)
    assert tasks.content_digest(task) == digest
