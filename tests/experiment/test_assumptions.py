"""Pooled rows of a private run: refused, declared, or of no effect on others."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tfl_research import data, tasks
from tfl_research.errors import SettingError
from tfl_research.experiment import Experiment, setup
from tfl_research.experiment.configs import (
    Cohorts,
    RecordLevelPrivacy,
    Release,
    TaskChoice,
    UserLevelPrivacy,
)
from tfl_research.experiment.private.assumptions import assumption_lines
from tfl_research.experiment.sweeps import privacy_utility

USER = UserLevelPrivacy(noise_multiplier=1.0)
RECORD = RecordLevelPrivacy(record_noise_multiplier=1.0)
DECLARED = Release(public_schema=True)
_CLIENTS = 20
_SCHEMA = {
    "columns": {
        "age": {"minimum": 0, "maximum": 100, "outside": "clip"},
        "sex": {"categories": ["F", "M"], "unknown": "other"},
    },
    "label": {"classes": ["0", "1"]},
}
_STRICT = {
    "columns": {
        "age": {"minimum": 0, "maximum": 100, "missing": False},
        "sex": {"categories": ["F", "M"]},
    },
    "label": {"classes": ["0", "1"]},
}


def _rows(client, count=10):
    return [
        f"{(7 * client + 3 * i) % 90 + i / 100},{'FM'[i % 2]},{i % 2}"
        for i in range(count)
    ]


@pytest.fixture
def folder(tmp_path):
    for client in range(_CLIENTS):
        _write(tmp_path, client, _rows(client))
    return tmp_path


def _write(folder, client, rows):
    (folder / f"c{client:02d}.csv").write_text("\n".join(["age,sex,y", *rows]) + "\n")


def _declare(folder, schema):
    (folder / "schema.json").write_text(json.dumps(schema))


def _choice(folder, **options):
    return TaskChoice("csv", data_dir=str(folder), label_column="y", **options)


def _prepared(task, privacy=USER, **parts):
    cohorts = Cohorts("full") if privacy is USER else Cohorts()
    return setup.prepare(Experiment(task, privacy=privacy, cohorts=cohorts, **parts))


def _refusal(task, privacy=USER, **parts):
    with pytest.raises(SettingError) as raised:
        _prepared(task, privacy, **parts)
    assert "\n" not in str(raised.value)
    return raised.value.for_command_line


class TestCsv:
    @pytest.mark.parametrize("privacy", [USER, RECORD])
    def test_without_a_schema_is_refused(self, folder, privacy):
        message = _refusal(_choice(folder), privacy)
        assert message.startswith("--task=csv: computes the names, kinds, scales, ")
        assert "from the rows of all files and the classes of the label" in message
        assert 'declare "columns" and "label" in a schema.json' in message
        assert message.count("schema.json") == 1
        assert message.endswith("give --public_schema if this is public knowledge")

    def test_a_schema_without_the_label_is_half_a_schema(self, folder):
        _declare(folder, {"columns": _SCHEMA["columns"]})
        message = _refusal(_choice(folder))
        assert "computes the classes of the label from the labels" in message
        assert "scales" not in message
        assert 'declare "label" in schema.json' in message

    def test_a_whole_schema_is_named_as_an_assumption(self, folder):
        _declare(folder, _SCHEMA)
        found = _prepared(_choice(folder))
        assert found.task.pooled == ()
        assert assumption_lines(found) == [
            "Public knowledge, and not read off the clients' rows: the columns, ranges "
            "and categories and the classes of the label in schema.json.",
            "Whatever was computed from clients' rows before the toolkit read them, "
            "such as a scale, a vocabulary or a choice of columns, is not covered.",
        ]

    def test_what_is_declared_public_is_named(self, folder):
        columns, classes, other = assumption_lines(
            _prepared(_choice(folder), release=DECLARED)
        )
        assert columns.startswith(
            "Public knowledge (declared by --public_schema): the names, kinds, scales, "
        )
        assert "One client more or less can change this" in columns
        assert "the classes of the label, computed from the labels of all" in classes
        assert other.startswith("Whatever was computed")
        (first, *rest) = assumption_lines(
            _prepared(_choice(folder), RECORD, release=DECLARED)
        )
        assert first.startswith("Which clients there are, and how many records")
        # Which records train follows from what they say.
        assert "how many records the hash leaves for training" in first
        assert "One record more or less" in rest[0]

    def test_runs_without_privacy_derive_what_they_like(self, folder):
        found = _prepared(_choice(folder), None)
        assert len(found.task.pooled) == 2


# What one client may do, and whether a strict schema refuses it.
_CHANGES = {
    "a value far outside": (
        lambda rows: ["1e6,F,0", *rows[1:]],
        "outside the declared",
    ),
    "a new category": (lambda rows: ["5,X,0", *rows[1:]], "declared categories"),
    "a missing cell": (lambda rows: ["NA,F,0", *rows[1:]], "no value"),
    "ten times the rows": (lambda rows: [*rows, *_rows(3, 100)], None),
    "no variety": (lambda rows: ["50,F,1"], None),
    "another label": (lambda rows: ["5,F,2", *rows[1:]], "unknown label '2'"),
    "a text label": (lambda rows: ["5,F,ill", *rows[1:]], "unknown label 'ill'"),
    "a missing label": (lambda rows: ["5,F,", *rows[1:]], "the label is missing"),
    "not a number": (lambda rows: ["old,F,0", *rows[1:]], "is not a number"),
    "an infinite number": (lambda rows: ["inf,F,0", *rows[1:]], "is not finite"),
}


class TestOneClientOfTwenty:
    """What one client holds reaches nobody else's examples, nor the model."""

    @pytest.mark.parametrize("name", _CHANGES)
    def test_declared(self, folder, name):
        change, refusal = _CHANGES[name]
        for schema in (_SCHEMA, _STRICT):
            _declare(folder, schema)
            _write(folder, 7, _rows(7))
            before = _prepared(_choice(folder)).task
            _write(folder, 7, change(_rows(7)))
            never = ("label" in name) or "number" in name
            if refusal is not None and (schema is _STRICT or never):
                message = _refusal(_choice(folder))
                assert refusal in message
                assert "c07.csv" in message
                continue
            after = _prepared(_choice(folder)).task
            assert after.train.specs == before.train.specs
            assert after.card == before.card
            assert after.train.client_ids == before.train.client_ids
            for split in ("train", "test"):
                ours, theirs = getattr(before, split), getattr(after, split)
                for client_id in before.train.client_ids:
                    same = all(
                        np.array_equal(
                            ours.load(client_id)[n], theirs.load(client_id)[n]
                        )
                        for n in ("x", "y")
                    )
                    assert same or client_id == "c07"
            assert np.abs(after.train.load("c07")["x"]).max() <= 1

    @pytest.mark.parametrize("name", _CHANGES)
    def test_not_declared(self, folder, name):
        change, _ = _CHANGES[name]
        _write(folder, 7, change(_rows(7)))
        assert "--task=csv: " in _refusal(_choice(folder))

    def test_the_steps_of_others_are_the_same_beside_a_large_client(self, folder):
        _declare(folder, _SCHEMA)
        before = _prepared(_choice(folder)).task.train
        _write(folder, 7, _rows(7, 200))
        after = _prepared(_choice(folder)).task.train
        ids = before.client_ids
        ours = before.cohort(ids, seed=1, round_number=2)
        theirs = after.cohort(ids, seed=1, round_number=2)
        for place, client_id in enumerate(ids):
            if client_id != "c07":
                np.testing.assert_array_equal(ours.orders[place], theirs.orders[place])
        np.testing.assert_array_equal(ours.seeds, theirs.seeds)

    @pytest.mark.parametrize("left_out", range(0, _CLIENTS, 3))
    def test_one_file_less_moves_nobody_else(self, folder, left_out):
        _declare(folder, _SCHEMA)
        options = {"task_option": ("held_out_clients=4",)}
        before = _prepared(_choice(folder, **options)).task
        (folder / f"c{left_out:02d}.csv").unlink()
        after = _prepared(_choice(folder, **options)).task
        moved = set(before.train.client_ids) ^ set(after.train.client_ids)
        assert len(moved) == 1
        for client_id in set(before.train.client_ids) - moved:
            np.testing.assert_array_equal(
                before.train.load(client_id)["x"], after.train.load(client_id)["x"]
            )


class TestTasksOfOnesOwn:
    @staticmethod
    def made(**options):
        x = np.arange(40, dtype=float).reshape(20, 2)
        clients = {f"c{i}": {"x": x, "y": np.arange(20) % 2} for i in range(12)}
        return tasks.from_arrays(clients, model=int, **options)

    def test_what_was_done_before_is_not_covered(self):
        (line,) = assumption_lines(_prepared(self.made()))
        assert "before the toolkit read them" in line

    def test_what_is_named_is_refused_by_the_unit(self):
        word = tasks.Pooled("the vocabulary", "all words", remedy="give a word list")
        assert _refusal(self.made(pooled=[word])) == (
            "--task=arrays: computes the vocabulary from all words, which no ε covers; "
            "give a word list, or give --public_schema if this is public knowledge"
        )
        order = tasks.Pooled("the order", "all records", "record")
        assert _prepared(self.made(pooled=[order]))
        assert "the order from all records" in _refusal(
            self.made(pooled=[order]), RECORD
        )

    def test_public_data_are_named_and_not_refused(self):
        word = tasks.Pooled("the vocabulary", "all words")
        task = self.made(pooled=[word], public_data=True)
        first, second = assumption_lines(_prepared(task))
        assert first.startswith(
            "Public knowledge (the task's data being public): the vocabulary, computed "
            "from all words."
        )
        # The task is none of the toolkit's.
        assert second.startswith("Whatever was computed")

    def test_one_client_or_example_less_moves_no_other(self):
        x = np.random.default_rng(0).normal(size=(30, 2))
        clients = {f"c{i}": {"x": x + i, "y": np.arange(30) % 2} for i in range(12)}

        def made(clients):
            return tasks.from_arrays(clients, model=int, test=0.3, held_out=0.3, seed=4)

        whole = made(clients)
        for left_out in clients:
            fewer = made({i: a for i, a in clients.items() if i != left_out})
            assert fewer.train.client_ids == tuple(
                i for i in whole.train.client_ids if i != left_out
            )
        trained = whole.train.client_ids[0]
        for row in range(30):
            shorter = {
                n: np.delete(a, row, axis=0) for n, a in clients[trained].items()
            }
            fewer = made({**clients, trained: shorter})
            sizes = [
                before.num_examples(trained) - after.num_examples(trained)
                for before, after in (
                    (whole.train, fewer.train),
                    (whole.test, fewer.test),
                )
            ]
            assert sorted(sizes) == [0, 1]

    def test_an_unknown_unit_is_refused(self):
        with pytest.raises(ValueError, match="unit must be client or record, got 'x'"):
            tasks.Pooled("a", "b", "x")


class TestBuiltInTasks:
    """Their data are public, and what is computed from them is named."""

    @pytest.mark.parametrize("name", [n for n in tasks.names() if n != "csv"])
    def test_cards_say_so(self, name):
        options = {"synthetic": True} if "synthetic" in tasks.options(name) else {}
        card = tasks.get(name, **options).card
        assert card.public_data
        assert card.public_knowledge

    def test_heart_computes_nothing_from_patients(self):
        assert tasks.get("heart").pooled == ()
        (known,) = assumption_lines(_prepared("heart"))
        assert "clinical ranges" in known

    @pytest.mark.parametrize(
        ("name", "options", "words"),
        [
            ("stackoverflow", {"synthetic": True}, ["vocabulary"]),
            ("shakespeare", {}, ["number of held-out clients"]),
            ("shakespeare", {"held_out_fraction": 0.0}, []),
            ("flights", {}, ["list of destinations"]),
            ("loans", {}, []),
            ("mnist", {}, []),
            ("mnist", {"partition": "rotation"}, ["partition rotation"]),
        ],
    )
    def test_what_one_client_can_change(self, name, options, words):
        task = tasks.get(name, **options)
        found = [p.what for p in task.pooled if p.concerns("client")]
        assert len(found) == len(words)
        assert all(word in what for word, what in zip(words, found))

    @pytest.mark.parametrize(
        ("name", "options", "word"),
        [
            ("shakespeare", {}, "cut of a role's text"),
            ("mnist", {}, "which client holds an example"),
            ("mnist", {"partition": "noise"}, "noise that the partition adds"),
            ("emnist", {"synthetic": True, "partition": "iid"}, "holds an example"),
            ("cifar100", {"synthetic": True}, "holds an example"),
            ("stackoverflow", {"synthetic": True}, "512 sentences"),
        ],
    )
    def test_what_one_record_can_change(self, name, options, word):
        task = tasks.get(name, **options)
        records = [p.what for p in task.pooled if not p.concerns("client")]
        assert any(word in what for what in records)


class TestDeclarationsWithoutEffect:
    @pytest.mark.parametrize(
        ("task", "privacy", "message"),
        [
            ("heart", None, "has no effect without privacy"),
            ("heart", USER, "no effect for task heart: its data are public"),
            ("flights", RECORD, "no effect for task flights: its data are public"),
        ],
    )
    def test_are_refused(self, task, privacy, message):
        refusal = _refusal(task, privacy, release=DECLARED)
        assert refusal.startswith("--public_schema=True: ")
        assert message in refusal

    def test_a_declared_folder_needs_none(self, folder):
        _declare(folder, _SCHEMA)
        refusal = _refusal(_choice(folder), release=DECLARED)
        assert "computes nothing from pooled rows; leave it out" in refusal

    def test_the_baseline_of_a_sweep_goes_without(self, folder):
        base = Experiment(
            _choice(folder),
            privacy=UserLevelPrivacy(target_epsilon=8),
            cohorts=Cohorts("full"),
            release=DECLARED,
        )
        points = privacy_utility(base, mechanisms=["gaussian"], epsilons=[8], seeds=[0])
        for point in points:
            point.experiment.check()


def test_a_card_says_nothing_about_data_that_were_put_in():
    task = tasks.get("heart")
    subset = dataclasses.replace(task, train=task.train.subset(("Hungary",)))
    for public in (task, subset):
        found = _prepared(public)
        assert found.task.card.public_data
        assert len(assumption_lines(found)) == 1
    arrays = dict(task.train.items())
    mine = dataclasses.replace(task, train=data.ClientData.from_arrays(arrays))
    found = _prepared(mine)
    assert not found.task.card.public_data
    assert "before the toolkit read them" in assumption_lines(found)[-1]
    word = tasks.Pooled("the vocabulary", "all words")
    assert "the vocabulary" in _refusal(dataclasses.replace(mine, pooled=(word,)))
