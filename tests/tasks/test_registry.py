"""Tasks by name, and their recipes."""

from __future__ import annotations

import importlib
import subprocess
import sys

import numpy as np
import pytest

from tfl_research import data, tasks

_NAMES = {
    "shakespeare",
    "heart",
    "loans",
    "taxi",
    "flights",
    "mnist",
    "emnist",
    "stackoverflow",
    "cifar100",
    "csv",
}


def _build(*, seed=0, size: int, rate: float = 0.5, note: str | None = None, on=False):
    x = np.full((size, 1), rate + seed, np.float32)
    clients = {"a": {"x": x, "y": np.zeros(size, np.int32)}}
    return tasks.from_arrays(clients, model=dict, test=0.0, name=f"{note} {on}")


@pytest.fixture
def own_task():
    tasks.register("own", _build)
    yield "own"
    tasks.unregister("own")


def test_every_name_is_known_and_its_module_exists():
    assert set(tasks.names()) == _NAMES
    for name in tasks.names():
        assert isinstance(tasks.options(name), dict)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown task 'minst'") as error:
        tasks.get("minst")
    assert all(name in str(error.value) for name in _NAMES)


def test_an_unknown_option_names_itself_and_those_taken():
    with pytest.raises(
        ValueError, match="task 'mnist' has no option 'colour'"
    ) as error:
        tasks.get("mnist", colour=1)
    assert "dirichlet_alpha" in str(error.value)
    assert "seed" not in str(error.value)


def test_a_task_of_ones_own(own_task):
    task = tasks.get(own_task, seed=7, size=3)
    assert task.train.load("a")["x"].tolist() == [[7.5]] * 3
    assert task.name == "None False"
    assert task.recipe == tasks.TaskRecipe(
        own_task, 7, {"size": 3, "rate": 0.5, "note": None, "on": False}
    )
    assert tasks.origin(own_task) == __name__
    assert tasks.origin("mnist") is None
    assert own_task in tasks.names()
    with pytest.raises(ValueError, match="already registered"):
        tasks.register(own_task, _build)
    with pytest.raises(ValueError, match="needs the option 'size'"):
        tasks.get(own_task)


def test_a_task_of_ones_own_by_import_path():
    tasks.register("by_path", "tfl_research.tasks.built_in.mnist:build")
    try:
        assert tasks.get("by_path", num_clients=2).name == "mnist"
    finally:
        tasks.unregister("by_path")
    with pytest.raises(ValueError, match="unknown task 'by_path'"):
        tasks.unregister("by_path")
    with pytest.raises(ValueError, match=r"'package\.module:name', got 'mnist'"):
        tasks.register("wrong", "mnist")


def test_options_from_text_take_the_annotated_types(own_task):
    parsed = tasks.parse_options(
        own_task, {"size": "3", "rate": "1e-2", "note": "none"}
    )
    assert parsed == {"size": 3, "rate": 0.01, "note": None}
    assert tasks.parse_options(own_task, {"size": "3", "note": "x"})["note"] == "x"
    assert tasks.parse_options("emnist", {"synthetic": "true"}) == {"synthetic": True}


@pytest.mark.parametrize(
    ("name", "option", "text", "expected"),
    [
        ("mnist", "num_clients", "ten", "int"),
        ("mnist", "dirichlet_alpha", "x", "float"),
        ("emnist", "synthetic", "maybe", "bool"),
    ],
)
def test_a_text_of_the_wrong_type_is_refused(name, option, text, expected):
    with pytest.raises(ValueError, match=f"{option}.*must be {expected}, got '{text}'"):
        tasks.parse_options(name, {option: text})


def test_names_options_and_client_data_do_not_import_tensorflow():
    program = (
        "import sys\n"
        "from tfl_research import tasks\n"
        "for name in tasks.names(): tasks.options(name)\n"
        "task = tasks.get('mnist', num_clients=5)\n"
        "task.train.cohort(task.train.client_ids, seed=0, round_number=1).stacked()\n"
        "print([m for m in sys.modules if m.startswith('tensorflow')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_missing_data_package_is_named_with_the_fix(monkeypatch):
    tasks.register("fresh", "tfl_research.tasks.built_in.heart:build")

    def missing(module):
        raise ModuleNotFoundError(f"No module named {module!r}", name="pandas")

    monkeypatch.setattr(importlib, "import_module", missing)
    try:
        with pytest.raises(ValueError, match=r"pip install 'tfl_research\[data\]'"):
            tasks.get("fresh")
    finally:
        tasks.unregister("fresh")


def test_a_recipe_builds_the_same_task_again():
    task = tasks.get("mnist", seed=3, num_clients=4, held_out_clients=1)
    again = tasks.from_recipe(task.recipe)
    assert again.recipe == task.recipe
    assert tasks.content_digest(again) == tasks.content_digest(task)
    assert task.with_batching(data.Batching(5)).recipe == task.recipe


def test_a_builder_must_return_a_task_and_be_callable():
    tasks.register("wrong", lambda *, seed: "a task")
    try:
        with pytest.raises(ValueError, match="'wrong' must return a Task, got str"):
            tasks.get("wrong")
    finally:
        tasks.unregister("wrong")
    with pytest.raises(ValueError, match=r"must be a function or .*, got 3"):
        tasks.register("wrong", 3)
