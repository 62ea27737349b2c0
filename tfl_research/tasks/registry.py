"""Builds tasks by name. A task's module is imported when the task is built."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Optional, Union

from tfl_research.errors import naming_own_parts
from tfl_research.registry import Registry
from tfl_research.tasks import option_texts
from tfl_research.tasks.task import Task, TaskRecipe

# A task's builder, `build(*, seed, **options) -> Task`.
Build = Callable[..., Task]
# A builder, or where to import it from, "package.module:function".
Builder = Union[str, Build]

_MODULES = {
    "shakespeare": "shakespeare",
    "heart": "heart",
    "loans": "loans",
    "taxi": "taxi",
    "flights": "flights",
    "mnist": "mnist",
    "emnist": "emnist",
    "stackoverflow": "stackoverflow",
    "cifar100": "cifar100",
    "csv": "csv_silos",
}
TASKS: Registry[Build] = Registry(
    "task",
    {
        name: f"tfl_research.tasks.built_in.{module}:build"
        for name, module in _MODULES.items()
    },
)
# Builders of tasks without rows, by the task's name.
BLUEPRINTS: Registry[Build] = Registry(
    "task", {"csv": "tfl_research.tasks.built_in.csv_silos:blueprint"}
)

# Options that are paths of the user's files.
READS_FILES = frozenset({"data_dir"})


def names() -> tuple[str, ...]:
    """Returns the names of all registered tasks."""
    return TASKS.names()


def register(name: str, build: Builder) -> None:
    """Adds a task, so that `get` and `--task` know its name.

    Args:
      name: a new name.
      build: `build(*, seed, **options) -> Task` with its options spelt out as
        keyword parameters, or "package.module:function" to import it on use. The
        annotations of the options (int, float, bool, str, Optional of these) say how
        a command line's text is read. An option without annotation has the type of
        its default.

    Raises:
      ValueError: the name is taken, `build` is neither a function nor such a text, or
        the function does not take a seed.

    Example:
      >>> import numpy as np
      >>> from tfl_research import tasks
      >>> def build_model():
      ...     import tensorflow as tf
      ...     layers = [tf.keras.layers.Input([2]), tf.keras.layers.Dense(1)]
      ...     return tf.keras.Sequential(layers)
      >>> def build(*, seed: int = 0, num_clients: int = 3) -> tasks.Task:
      ...     generator = np.random.default_rng(seed)
      ...     clients = {}
      ...     for number in range(num_clients):
      ...         x = generator.normal(size=(20, 2))
      ...         clients[f"client {number}"] = {"x": x, "y": x[:, 0] > 0}
      ...     return tasks.from_arrays(clients, model=build_model, objective="binary")
      >>> tasks.register("half_planes", build)
      >>> task = tasks.get("half_planes", num_clients=4)
      >>> len(task.train), task.recipe.options
      (4, {'num_clients': 4})
      >>> tasks.unregister("half_planes")
    """
    if not isinstance(build, str) and not callable(build):
        raise ValueError(
            "a task's builder must be a function or 'package.module:function', got "
            f"{build!r}"
        )
    if not isinstance(build, str):
        _check_seed(name, build)
    TASKS.register(name, build)


def _check_seed(name: str, build: Build) -> None:
    parameters = inspect.signature(build).parameters
    keywords = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if not keywords and "seed" not in parameters:
        raise ValueError(
            f"the builder of task {name!r} must take the keyword seed, as "
            f"build(*, seed, **options); got the parameters {list(parameters)}"
        )


def unregister(name: str) -> None:
    """Removes a registered task; raises ValueError if the name is not registered."""
    TASKS.unregister(name)


def origin(name: str) -> Optional[str]:
    """Returns the module that registered a task; None for the toolkit's own tasks.

    Raises:
      ValueError: there is no such task.
    """
    return TASKS.origin(name)


# What the extra `data` installs and task modules import.
_DATA_PACKAGES = ("mlxtend", "pandas", "pyarrow")


def _resolve(name: str) -> Build:
    try:
        return TASKS.get(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _DATA_PACKAGES:
            raise
        raise ValueError(
            f"task {name!r} needs the package {error.name}; install the data packages "
            "with pip install 'tfl_research[data]'"
        ) from error


def _options_of(build: Build) -> dict[str, inspect.Parameter]:
    return {
        name: parameter
        for name, parameter in inspect.signature(build).parameters.items()
        if name != "seed"
        and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }


def options(name: str) -> dict[str, Any]:
    """Returns a task's options with their defaults.

    The default of a required option is `inspect.Parameter.empty`.

    Raises:
      ValueError: there is no such task.
    """
    return {
        option: parameter.default
        for option, parameter in _options_of(_resolve(name)).items()
    }


def _check_options(
    name: str,
    known: Mapping[str, inspect.Parameter],
    given: Mapping[str, Any],
) -> None:
    for option in given:
        if option not in known:
            takes = ", ".join(known) or "no options"
            raise ValueError(
                f"task {name!r} has no option {option!r}; it takes {takes}"
            )
    for option, parameter in known.items():
        if parameter.default is parameter.empty and option not in given:
            raise ValueError(f"task {name!r} needs the option {option!r}")


def get(name: str, *, seed: int = 0, **options: Any) -> Task:
    """Builds a task.

    Args:
      name: one of `names()`.
      seed: decides partitions, splits and held-out clients.
      **options: the task's options, see `options(name)`.

    Returns:
      The task; its `recipe` has the name, the seed and all options.

    Raises:
      ValueError: the task or an option is unknown, an option is missing, the task
        refuses a value, or the registered builder does not return a `Task`.

    Example:
      >>> from tfl_research import tasks
      >>> task = tasks.get("mnist", seed=1, partition="dirichlet", num_clients=20)
      >>> len(task.train), task.train.specs["x"].shape
      (20, (784,))
      >>> task.recipe.options["dirichlet_alpha"]
      0.5
      >>> again = tasks.from_recipe(task.recipe)
      >>> tasks.content_digest(again) == tasks.content_digest(task)
      True
    """
    build = _resolve(name)
    known = _options_of(build)
    _check_options(name, known, options)
    with naming_own_parts(_own(name, build)):
        task: object = build(seed=seed, **options)
    if not isinstance(task, Task):
        raise ValueError(
            f"the builder of task {name!r} must return a Task, got "
            f"{type(task).__name__}"
        )
    defaults = {option: parameter.default for option, parameter in known.items()}
    recipe = TaskRecipe(name, seed, {**defaults, **options}, task.data_sources)
    return dataclasses.replace(task, recipe=recipe)


def _own(name: str, build: Build) -> dict[str, str]:
    """Returns the module of the builder of a user's own task, for errors."""
    if TASKS.origin(name) is None:
        return {}
    return {f"--task={name}": getattr(build, "__module__", "")}


def blueprint(name: str, *, seed: int = 0, **options: Any) -> Task:
    """Builds a task for a coordinator; the clients' examples are at their sites.

    A task without a blueprint is built as `get` builds it. The coordinator uses only
    the clients' ids and the model of the task, not its rows.

    Args:
      name: one of `names()`.
      seed: the seed, see `get`.
      **options: the task's options, see `options(name)`.

    Raises:
      ValueError: see `get`.
    """
    if name not in BLUEPRINTS.names():
        return get(name, seed=seed, **options)
    build = BLUEPRINTS.get(name)
    _check_options(name, _options_of(build), options)
    task = build(seed=seed, **options)
    return dataclasses.replace(task, recipe=TaskRecipe(name, seed, dict(options)))


def from_recipe(recipe: TaskRecipe) -> Task:
    """Builds again a task that `get` built.

    Raises:
      ValueError: see `get`; the task or its options may have changed.
    """
    return get(recipe.name, seed=recipe.seed, **recipe.options)


def parse_options(name: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Converts options from a command line to their annotated types.

    Args:
      name: one of `names()`.
      given: `{option: text}`. The text of a bool is "true" or "false"; the text of an
        optional option may be "none".

    Raises:
      ValueError: the task or an option is unknown, an option is missing, a text does
        not have the option's type, or the builder does not say the type.
    """
    known = _options_of(_resolve(name))
    _check_options(name, known, given)
    return {o: option_texts.read(name, o, text, known[o]) for o, text in given.items()}
