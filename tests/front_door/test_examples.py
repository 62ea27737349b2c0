"""Every public name of the front door has an example in its docstring, which runs.

Examples know the package as `tfl`, and import what else they use. Each of them runs in
an empty folder, as a script of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import doctest
import importlib.util
import inspect
import sys

import pytest

import tfl_research as tfl
from tfl_research.aggregators import AGGREGATORS
from tfl_research.algorithms import ALGORITHMS
from tfl_research.experiment import configs, sweeps
from tfl_research.experiment.running import engines
from tfl_research.privacy import EVENTS, MECHANISMS
from tfl_research.tasks.registry import TASKS

REGISTRIES = (ALGORITHMS, AGGREGATORS, MECHANISMS, EVENTS, TASKS)
# What the names of `tfl_research` lead to, beside what is found by the functions below.
FURTHER = (
    "tfl_research",
    "tfl_research.Result.model",
    "tfl_research.Result.model_of",
    "tfl_research.aggregators.AggregatorSettings",
    "tfl_research.aggregators.RuleSettings",
    "tfl_research.aggregators.register",
    "tfl_research.algorithms.AlgorithmSettings",
    "tfl_research.algorithms.register",
    "tfl_research.cli.Preset",
    "tfl_research.privacy.Event",
    "tfl_research.privacy.MechanismSettings",
    "tfl_research.privacy.NoisedEvent",
    "tfl_research.privacy.RecordLevelPlan",
    "tfl_research.privacy.RoundAccount",
    "tfl_research.privacy.UserLevelPlan",
    "tfl_research.privacy.register_event",
    "tfl_research.privacy.register_mechanism",
    "tfl_research.program.Callback",
    "tfl_research.program.MLflow",
    "tfl_research.program.RoundReport",
    "tfl_research.program.RunResult",
    "tfl_research.program.RunStart",
    "tfl_research.program.TensorBoard",
    "tfl_research.registry.Registry",
    "tfl_research.registry.Registry.register",
    "tfl_research.registry.SettingsRegistry",
    "tfl_research.registry.load_plugin",
    "tfl_research.registry.registered",
    "tfl_research.settings.NamedSettings",
    "tfl_research.settings.Settings",
    "tfl_research.settings.choice",
    "tfl_research.settings.integer",
    "tfl_research.settings.real",
    "tfl_research.settings.repeated",
    "tfl_research.settings.switch",
    "tfl_research.settings.text",
    "tfl_research.tasks.Task",
    "tfl_research.tasks.content_digest",
    "tfl_research.tasks.Sequences",
    "tfl_research.tasks.from_arrays",
    "tfl_research.tasks.from_dataframe",
    "tfl_research.tasks.from_datasets",
    "tfl_research.tasks.from_huggingface",
    "tfl_research.tasks.from_parquet",
    "tfl_research.tasks.get",
    "tfl_research.tasks.register",
)


def _exported(package) -> list[str]:
    """The public classes and functions of a package, by their full names."""
    return [
        f"{package.__name__}.{name}"
        for name in dir(package)
        if not name.startswith("_")
        and importlib.util.find_spec(f"{package.__name__}.{name}") is None
    ]


def _registered() -> list[str]:
    """The classes of the toolkit's algorithms, aggregators and mechanisms."""
    classes = [
        chosen
        for registry in (ALGORITHMS, AGGREGATORS, MECHANISMS)
        for name, chosen in registry.items()
        if registry.origin(name) is None
    ]
    return [f"{chosen.__module__}.{chosen.__qualname__}" for chosen in classes]


def _methods(kind: type) -> list[str]:
    """The public methods of a class, by their full names."""
    return [
        f"{kind.__module__}.{kind.__qualname__}.{name}"
        for name in dir(kind)
        if not name.startswith("_") and inspect.isroutine(getattr(kind, name))
    ]


NAMES = (
    *_exported(tfl),
    *_methods(tfl.Experiment),
    *_exported(configs),
    *_exported(sweeps),
    *_registered(),
    *FURTHER,
)


def _named(name: str):
    """The object of a dotted name."""
    module, rest = name, []
    while True:
        try:
            found = importlib.import_module(module)
            break
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            rest.insert(0, last)
    for part in rest:
        found = getattr(found, part)
    return found


def _by_object() -> dict[str, object]:
    """Each object once, although several packages may export it."""
    found: dict[int, tuple[str, object]] = {}
    for name in NAMES:
        item = _named(name)
        # Bound methods of one function have one docstring.
        key = getattr(item, "__func__", item)
        found.setdefault(id(key), (name, key))
    return dict(found.values())


OBJECTS = _by_object()


def _example(name: str, item) -> doctest.DocTest:
    globs = {"__name__": "__main__", "tfl": tfl}
    # Its own docstring: one that is inherited is about another class.
    docstring = item.__doc__ or ""
    return doctest.DocTestParser().get_doctest(docstring, globs, name, None, 0)


_build_engine = engines.build


def _built_at_once(runtime, *further):
    """An engine that does not measure for seconds how to execute clients."""
    if runtime.client_execution == "auto" and runtime.runtime == "in_process":
        runtime = dataclasses.replace(runtime, client_execution="folded_graph")
    return _build_engine(runtime, *further)


@contextlib.contextmanager
def _script(folder):
    """In an empty folder in which Python finds modules; nothing stays registered."""
    before = [set(registry.names()) for registry in REGISTRIES]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "build", _built_at_once)
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        yield
    for registry, names in zip(REGISTRIES, before):
        for name in set(registry.names()) - names:
            registry.unregister(name)
    for module in folder.glob("*.py"):
        sys.modules.pop(module.stem, None)


@pytest.fixture
def as_a_script(tmp_path):
    with _script(tmp_path):
        yield


def _run(example: doctest.DocTest) -> str:
    """What failed, in doctest's words; empty where every output is as shown."""
    said: list[str] = []
    doctest.DocTestRunner(
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    ).run(example, out=said.append)
    return "".join(said)


@pytest.mark.parametrize("name", OBJECTS)
def test_example(name, as_a_script):
    example = _example(name, OBJECTS[name])
    assert example.examples, f"{name} has no example in its docstring"
    assert _run(example) == ""


def test_a_wrong_example_fails(as_a_script):
    """The runner compares outputs, and sees what an example raises."""

    def wrong():
        """Adds.

        >>> 1 + 1
        3
        """

    def broken():
        """Raises.

        >>> tfl.SGD(-1.0)
        """

    assert "Expected:\n    3\nGot:\n    2" in _run(_example("wrong", wrong))
    assert "SettingError" in _run(_example("broken", broken))


def test_what_has_no_example_of_its_own_is_noticed():
    @dataclasses.dataclass(frozen=True)
    class Undocumented(tfl.algorithms.FedAvg):
        pass

    assert _example("base", tfl.algorithms.FedAvg).examples
    assert not _example("subclass", Undocumented).examples


def test_what_an_example_registers_is_taken_away(tmp_path):
    before = TASKS.names()
    with _script(tmp_path):
        assert _run(_example("plugin", tfl.registry.load_plugin)) == ""
        assert set(TASKS.names()) - set(before) == {"wards"}
        assert "my_tasks" in sys.modules
    assert TASKS.names() == before
    assert "my_tasks" not in sys.modules


def test_a_cell_of_a_notebook_can_be_run_again(tmp_path):
    with _script(tmp_path):
        for _ in range(2):
            assert _run(_example("cell", tfl.algorithms.register.__func__)) == ""
        with pytest.raises(ValueError, match="'strong_prox' is already registered"):
            ALGORITHMS.register("strong_prox", tfl.algorithms.FedProx)
