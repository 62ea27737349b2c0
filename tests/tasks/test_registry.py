"""Tasks by name, and their recipes."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import typing

import numpy as np
import pytest

from tfl_research import data, tasks
from tfl_research.registry import registered
from tfl_research.tasks import option_texts

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


def test_options_without_annotation_have_the_type_of_their_default(own_task):
    parsed = tasks.parse_options(own_task, {"size": "3", "on": "False"})
    assert parsed == {"size": 3, "on": False}
    with pytest.raises(ValueError, match="'on' of task 'own' must be bool, got 'off'"):
        tasks.parse_options(own_task, {"size": "3", "on": "off"})


@pytest.mark.parametrize(
    ("annotation", "text", "expected"),
    [
        (typing.Optional[int], "4", 4),
        (typing.Optional[int], "none", None),
        ("typing.Optional[float]", "4", 4.0),
        (typing.Union[int, str], "4", 4),
        (typing.Union[int, str], "all", "all"),
        (typing.Union[int, float], "0.5", 0.5),
        (typing.Union[int, float], "2", 2),
        (typing.Union[bool, int], "7", 7),
        (typing.Union[bool, int], "1", 1),
        (typing.Union[bool, int], "yes", True),
        (str, "4", "4"),
    ],
)
def test_annotations_of_options(annotation, text, expected):
    with _task_with(annotation):
        found = tasks.parse_options("annotated", {"size": text})["size"]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "got"),
    [
        (tuple, "tuple"),
        ("tuple[int, ...]", "tuple"),
        (list[int], "list"),
        (inspect.Parameter.empty, "no annotation"),
    ],
)
def test_an_option_that_no_text_can_give(annotation, got):
    said = f"cannot be read from a text: its builder gives it {got}.*; annotate it with"
    with _task_with(annotation), pytest.raises(ValueError, match=said):
        tasks.parse_options("annotated", {"size": "1,2"})


def _task_with(annotation):
    """Registers a task whose option `size` has this annotation."""

    def build(**options):
        return _build(**options)

    kind = inspect.Parameter.KEYWORD_ONLY
    build.__signature__ = inspect.Signature(
        [
            inspect.Parameter("seed", kind),
            inspect.Parameter("size", kind, annotation=annotation),
        ]
    )
    return registered(tasks.registry.TASKS, "annotated", build)


def test_every_option_of_the_toolkits_tasks_can_be_read():
    for name in _NAMES:
        for parameter in tasks.registry._options_of(
            tasks.registry._resolve(name)
        ).values():
            assert set(option_texts.kinds_of(parameter)) <= option_texts.READ


def test_a_builder_without_a_seed_is_refused():
    def build(*, size: int = 3):
        return _build(size=size)

    with pytest.raises(ValueError, match="'no_seed' must take the keyword seed, as"):
        tasks.register("no_seed", build)
    assert "no_seed" not in tasks.names()


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
