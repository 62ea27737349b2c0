"""The data of the built-in tasks stay as they were, to the bit.

Runs that were begun with an earlier version are resumed on the same clients, splits and
features. A digest changes only where that is meant, with a word to users.
"""

from __future__ import annotations

import json

import pytest

from tfl_research import tasks

_CASES = [
    ("heart", {}, "6585586c5cc9de9b0609cc9b62bee03dd85b72adf26d5d29544c6a6683161d18"),
    (
        "heart",
        {"seed": 3, "held_out": "Hungary", "test_fraction": 0.3},
        "a985d99c753b71272d0c5568e3bd463190743112d2429064c6dd6a5c0a872573",
    ),
    ("loans", {}, "c2a6c5ca80c9264dff8eec946b79e1b77a67b8a5716747728ad2e108e3e440a2"),
    (
        "loans",
        {"seed": 2, "held_out_fraction": 0.2, "target": "bad"},
        "1046dcbe1de44def1a4678cda812401eadf952555d855072098221718e3d9abe",
    ),
    ("taxi", {}, "c47e65ed6772b74d888ffe6d6443aa39a846034efc572cbad8501b5a2b55bc66"),
    (
        "taxi",
        {"seed": 5, "held_out": "Sun Taxi"},
        "a4078d29c383856086920f15c461e01d596a62c6863e4e3e108b772966baece4",
    ),
    ("flights", {}, "7671044e9fe03f71fd2f5b9301bc8cf1cdebc349d07136eee77c31b4834d59d1"),
    (
        "flights",
        {"seed": 1, "held_out_fraction": 0.2},
        "b8ee5b6656b1f904adabf3fa3185aa9c4d646b7698c5e1699e4658981d285b5b",
    ),
    ("mnist", {}, "3d471366b640bf124b558bf292c224e9f9fb67e06a9ef95748a6dd7b2c347d2f"),
    (
        "mnist",
        {"seed": 2, "partition": "dirichlet", "test_fraction": 0.25, "num_clients": 30},
        "a2db39222aa0c7c1f5f15077c3a17e42a2b9204fac27842e192c7019551252d5",
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
        "a9046af354666384e19d7cb3d6f8922c6d58eea2916aeb80f918621da179eedc",
    ),
    (
        "shakespeare",
        {},
        "7b2d4a8420dea5cf52152fd087e801a5ed183c121b596114e5f67eed4dbd88d9",
    ),
    (
        "shakespeare",
        {"seed": 1, "model": "lstm", "held_out_fraction": 0.3},
        "3a67a8d44c03e94766399d12abacee6935900968dd99e898e9f593430f1a5d8a",
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
        (None, {}, "797698dc7945135a16ddb7780a8eb4d6381c2be6abd957fc016415f44d878157"),
        (
            None,
            {"test_fraction": 0.0, "seed": 3, "held_out_clients": 1},
            "e4bae2257a5164fa75c8b82e3318defbb599241ad9fd038c3520dcab1e6531a4",
        ),
        (
            _SCHEMA,
            {"seed": 1},
            "3dc2b8426725c1cb690e10fbc7b5a4f1fd29d181f52ffefd58c2a08e3284a8b3",
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
