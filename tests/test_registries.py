"""Registries: names, choices with parameters, and modules from outside."""

from __future__ import annotations

import dataclasses
import sys
import textwrap
import threading

import pytest

from tfl_research import settings, tasks
from tfl_research.aggregators import AGGREGATORS
from tfl_research.algorithms import ALGORITHMS
from tfl_research.errors import SettingError, alternatives
from tfl_research.privacy import MECHANISMS
from tfl_research.registry import Registry, SettingsRegistry, load_plugin, registered
from tfl_research.settings import NamedSettings


@dataclasses.dataclass(frozen=True)
class Square(NamedSettings):
    NAME, SUMMARY = "square", "four equal sides"

    side: float = settings.real(1.0, "Length of a side.", above=0)
    filled: bool = settings.switch(False, "Whether it is filled.")


@dataclasses.dataclass(frozen=True)
class Rectangle(NamedSettings):
    NAME, SUMMARY = "rectangle", "four sides"

    side: int = settings.integer(2, "The longer side.", minimum=1)
    other_side: int = settings.integer(1, "The shorter side.", minimum=1)
    labels: tuple[str, ...] = settings.repeated("Labels.")


@dataclasses.dataclass(frozen=True)
class Circle(NamedSettings):
    NAME, SUMMARY = "circle", "no side"

    radius: float = settings.real(None, "Radius.", above=0)

    def check(self) -> None:
        if self.radius is None:
            raise SettingError("--shape=circle: needs --radius too")


@pytest.fixture
def shapes():
    found = SettingsRegistry("shape")
    for one in (Square, Rectangle, Circle):
        assert found.add(one) is one
    return found


class TestRegistry:
    def test_items_keep_their_order_and_are_imported_when_asked_for(self):
        found = Registry("tool", {"later": "textwrap:dedent"})
        found.register("own", len)
        found.register("text", "shlex:split")
        assert found.names() == ("later", "own", "text")
        assert "own" in found
        assert "other" not in found
        assert found.get("later") is textwrap.dedent
        assert [name for name, _ in found.items()] == ["later", "own", "text"]
        assert found.items()[1] == ("own", len)

    @pytest.mark.parametrize(
        ("name", "item", "message"),
        [
            ("", len, "the name of a tool must be text, got ''"),
            (None, len, "the name of a tool must be text, got None"),
            ("own", len, "a tool named 'own' is already registered"),
            ("b", "shlex.split", "as itself or as 'package.module:name', got 'shlex"),
            ("b", "a:b:c", "as itself or as 'package.module:name', got 'a:b:c'"),
        ],
    )
    def test_refusals(self, name, item, message):
        found = Registry("tool")
        found.register("own", len)
        with pytest.raises(ValueError, match=message):
            found.register(name, item)
        assert found.names() == ("own",)

    def test_an_unknown_name_lists_the_known_ones(self):
        found = Registry("tool", {"a": len, "b": len})
        for ask in (found.get, found.origin, found.unregister):
            with pytest.raises(ValueError, match=r"^unknown tool 'c'; there are a, b$"):
                ask("c")

    def test_registered_for_a_block(self):
        found = Registry("tool")
        with registered(found, "own", len):
            assert found.get("own") is len
        assert found.names() == ()
        with pytest.raises(KeyError), registered(found, "own", len):
            raise KeyError
        assert found.names() == ()

    def test_origins(self):
        def own():
            pass

        found = Registry("tool", {"builtin": "tfl_research.settings:text"})
        found.register("own", own)
        found.register("by_path", "my_package.my_module:name")
        found.register("toolkit", settings.text)
        assert found.origin("own") == __name__
        assert found.origin("by_path") == "my_package.my_module"
        assert found.origin("toolkit") is None
        assert found.origin("builtin") is None


class TestChoices:
    def test_by_name_with_its_parameters(self, shapes):
        assert shapes.from_flat({"shape": "square"}) == Square()
        given = {"shape": "square", "side": 2.5, "filled": True, "unrelated": 3}
        assert shapes.from_flat(given) == Square(2.5, True)
        assert shapes.resolve("rectangle") == Rectangle()
        own = Square(3.0)
        assert shapes.resolve(own) is own

    def test_what_was_not_given_is_the_choices_default(self, shapes):
        given = {"shape": "rectangle", "side": None, "filled": None, "labels": ()}
        assert shapes.from_flat(given) == Rectangle(2, 1, ())
        # As JSON has it, of a parameter of another choice too.
        for name, found in (("rectangle", Rectangle()), ("square", Square())):
            assert shapes.from_flat({"shape": name, "labels": []}) == found

    def test_two_choices_may_share_the_name_of_a_parameter(self, shapes):
        assert shapes.parameters() == {
            "side": ["square", "rectangle"],
            "filled": ["square"],
            "other_side": ["rectangle"],
            "labels": ["rectangle"],
            "radius": ["circle"],
        }
        # Each by its own kind.
        assert shapes.from_flat({"shape": "square", "side": 0.5}).side == 0.5
        with pytest.raises(SettingError) as raised:
            shapes.from_flat({"shape": "rectangle", "side": 0.5})
        assert raised.value.for_command_line == (
            "--side=0.5: must be a whole number, at least 1"
        )

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                {"shape": "circle", "radius": 1, "side": 2.5},
                "--side=2.5: goes with --shape=square or rectangle, not with circle; "
                "leave it out",
            ),
            (
                {"shape": "square", "other_side": 3},
                "--other_side=3: goes with --shape=rectangle, not with square; leave "
                "it out",
            ),
            (
                {"shape": "rectangle", "filled": False},
                "--filled=False: goes with --shape=square, not with rectangle; leave "
                "it out",
            ),
            (
                {"shape": "square", "labels": ("a",)},
                "--labels=('a',): goes with --shape=rectangle, not with square; leave "
                "it out",
            ),
            (
                {"shape": "line"},
                "--shape=line: must be one of square, rectangle, circle",
            ),
            ({"shape": "circle"}, "--shape=circle: needs --radius too"),
        ],
    )
    def test_refusals(self, shapes, given, message):
        with pytest.raises(SettingError) as raised:
            shapes.from_flat(given)
        assert raised.value.for_command_line == message
        assert str(raised.value) == message.replace("--", "")

    def test_a_choice_needs_a_name_of_its_own(self, shapes):
        with pytest.raises(ValueError, match="a shape named 'square' is already"):
            shapes.add(type("Other", (Square,), {}))

        class Nameless(NamedSettings):
            pass

        with pytest.raises(ValueError, match="the name of a shape must be text"):
            shapes.add(Nameless)


# Values that no choice has by default, by parameter, for those of which only some are
# allowed.
VALUES = {"trim": 1, "on_breakdown": "skip", "scaffold_option": 1, "byzantine": 1}


def value_of(field):
    if field.name in VALUES:
        return VALUES[field.name]
    kind = settings.kind_of(field)
    if isinstance(kind, settings.Switch):
        return not field.default
    return 3 if kind.syntax == "integer" else 0.25


@pytest.mark.parametrize(
    "choices", [ALGORITHMS, AGGREGATORS, MECHANISMS], ids=lambda c: c.setting
)
def test_every_parameter_of_another_choice_is_refused(choices):
    required = {"root_examples": 5, "byzantine": 1, "clip_radius": 1.0, "trim": 1}
    for parameter, owners in choices.parameters().items():
        (field,) = (
            f
            for f in settings.declared(choices.get(owners[0]))
            if choices.get(owners[0]).PREFIX + f.name == parameter
        )
        for name, chosen in choices.items():
            own = {f.name for f in settings.declared(chosen)}
            given = {k: v for k, v in required.items() if k in own}
            given.update({choices.setting: name, parameter: value_of(field)})
            if name in owners:
                found = choices.from_flat(given)
                assert getattr(found, field.name) == value_of(field)
                continue
            with pytest.raises(SettingError) as raised:
                choices.from_flat(given)
            assert raised.value.for_command_line == (
                f"--{parameter}={value_of(field)}: goes with "
                f"--{choices.setting}={alternatives(owners)}, not with {name}; leave "
                "it out"
            )


@pytest.mark.parametrize(
    "choices", [ALGORITHMS, AGGREGATORS, MECHANISMS], ids=lambda c: c.setting
)
def test_every_choice_of_the_toolkit_says_what_it_is(choices):
    for name, chosen in choices.items():
        assert choices.origin(name) is None
        assert name == chosen.NAME
        assert len(chosen.SUMMARY) > 5
        if name != "compression":
            assert any("20" in paper for paper in chosen.PAPERS), name
        assert chosen.TITLE == choices.get(choices.names()[0]).TITLE


@pytest.fixture
def module(tmp_path, monkeypatch):
    """(text) -> the name of a new module that Python finds."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def written(text, name="plugin_of_test_registries"):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
        return name

    yield written
    for name in set(sys.modules) - before:
        if name.startswith("plugin_of_test"):
            del sys.modules[name]


class TestPlugins:
    def test_what_a_module_registers_has_its_name(self, module):
        module("def build(*, seed): ...", "plugin_of_test_helper")
        name = module(
            """
            import plugin_of_test_helper
            from tfl_research import algorithms, settings, tasks

            tasks.register("plugged_task", plugin_of_test_helper.build)
            tasks.register("plugged_by_path", "plugin_of_test_helper:build")

            @algorithms.register
            class Plugged(algorithms.AlgorithmSettings):
                NAME, SUMMARY = "plugged", "nothing"
            """
        )
        try:
            load_plugin(name)
            load_plugin(name)
            # The module to be loaded again, and not the one that defines the builder.
            assert tasks.origin("plugged_task") == name
            assert tasks.origin("plugged_by_path") == name
            assert ALGORITHMS.origin("plugged") == name
        finally:
            tasks.unregister("plugged_task")
            tasks.unregister("plugged_by_path")
            ALGORITHMS.unregister("plugged")

    def test_a_plugin_that_loads_another_one(self, module):
        inner = module(
            """
            from tfl_research import tasks
            tasks.register("inner_task", "inner_module:build")
            """,
            "plugin_of_test_inner",
        )
        outer = module(
            f"""
            from tfl_research import registry, tasks
            registry.load_plugin({inner!r})
            tasks.register("outer_task", "outer_module:build")
            """
        )
        try:
            load_plugin(outer)
            assert tasks.origin("inner_task") == inner
            assert tasks.origin("outer_task") == outer
        finally:
            tasks.unregister("inner_task")
            tasks.unregister("outer_task")

    def test_plugins_in_two_threads_are_told_apart(self, module):
        names = [
            module(
                f"""
                import threading
                from tfl_research import tasks
                import plugin_of_test_barrier
                plugin_of_test_barrier.both.wait(20)
                tasks.register("task_{letter}", "elsewhere:build")
                plugin_of_test_barrier.both.wait(20)
                """,
                f"plugin_of_test_{letter}",
            )
            for letter in "ab"
        ]
        module(
            "import threading\nboth = threading.Barrier(2)", "plugin_of_test_barrier"
        )
        threads = [threading.Thread(target=load_plugin, args=(n,)) for n in names]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert tasks.origin("task_a") == "plugin_of_test_a"
            assert tasks.origin("task_b") == "plugin_of_test_b"
        finally:
            tasks.unregister("task_a")
            tasks.unregister("task_b")

    def test_a_missing_module_is_one_line(self):
        with pytest.raises(SettingError) as raised:
            load_plugin("no_such_package.module")
        assert raised.value.for_command_line == (
            "--plugin=no_such_package.module: cannot be imported (ModuleNotFoundError: "
            "No module named 'no_such_package'); give a module that Python finds, as "
            "my_package.my_module"
        )
        assert str(raised.value).startswith("plugin=no_such_package.module: cannot")

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("raise RuntimeError('first\\n  second')", "RuntimeError: first second"),
            ("1 +", "SyntaxError: invalid syntax"),
            ("import sys\nsys.exit('no')", "SystemExit: no"),
            (
                "from tfl_research import tasks\n"
                "tasks.register('heart', lambda seed: seed)",
                "ValueError: a task named 'heart' is already registered",
            ),
        ],
    )
    def test_a_module_that_fails_is_one_line(self, module, text, reason):
        name = module(text)
        with pytest.raises(SettingError) as raised:
            load_plugin(name)
        message = raised.value.for_command_line
        assert message.startswith(f"--plugin={name}: cannot be imported ({reason}")
        assert message.endswith(
            "; give a module that Python finds, as my_package.my_module"
        )
        assert "\n" not in message
        # What is registered afterwards is not the plugin's.
        found = Registry("tool")
        found.register("own", value_of)
        assert found.origin("own") == __name__

    @pytest.mark.parametrize("name", ["", ".relative", "my-script.py", "a..b"])
    def test_what_is_no_module(self, name):
        with pytest.raises(SettingError, match="cannot be imported"):
            load_plugin(name)
