"""Flags made of settings and of registered choices; modules of --plugin."""

from __future__ import annotations

import dataclasses
import os
import sys
import textwrap
from typing import ClassVar, Optional

import pytest

from tfl_research import cli, settings, tasks
from tfl_research.algorithms import ALGORITHMS, AlgorithmSettings
from tfl_research.cli.flag_values import flags
from tfl_research.errors import UserError
from tfl_research.experiment.configs import Training
from tfl_research.registry import SettingsRegistry, registered
from tfl_research.settings import NamedSettings, Settings


@dataclasses.dataclass(frozen=True)
class Sample(Settings):
    """A setting of every kind."""

    TITLE: ClassVar[str] = "Sample"
    PREFIX: ClassVar[str] = "sample_"

    count: int = settings.integer(3, "A count.", minimum=1, maximum=9)
    share: Optional[float] = settings.real(None, "A share.", above=0, below=1)
    kind: str = settings.choice("a", "A kind.", ("a", "b"))
    name: Optional[str] = settings.text(None, "A name.")
    on: bool = settings.switch(True, "A switch.")
    maybe: Optional[bool] = settings.switch(None, "A switch that may be left.")
    each: tuple[str, ...] = settings.repeated("Several.")


PRESET = cli.Preset("program", "What it does.", (Sample,))


def parsed(*arguments, preset=PRESET):
    return flags.parse(preset, ["program", *arguments])


def test_only_what_is_given_is_given():
    found = parsed()
    assert found.values == {}
    assert found.group(Sample) == Sample()


def test_values_are_parsed_and_converted():
    found = parsed(
        "--sample_count=9",
        "--sample_share",
        "0.25",
        "--sample_kind=b",
        "--sample_name=x=y",
        "--nosample_on",
        "--sample_maybe=false",
        "--sample_each=1",
        "--sample_each=2, 3",
    )
    assert found.values == {
        "sample_count": 9,
        "sample_share": 0.25,
        "sample_kind": "b",
        "sample_name": "x=y",
        "sample_on": False,
        "sample_maybe": False,
        "sample_each": ("1", "2, 3"),
    }
    assert found.group(Sample) == Sample(
        9, 0.25, "b", "x=y", False, False, ("1", "2, 3")
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--sample_on"],
        ["--sample_on=true"],
        ["--sample_on=1"],
        ["-sample_on"],
        ["--nosample_on", "--sample_on"],
    ],
)
def test_a_switch(arguments):
    assert parsed(*arguments).values == {"sample_on": True}


def test_a_default_that_is_given_is_given():
    """A given value goes before what follows from other settings."""
    assert parsed("--sample_count=3").values == {"sample_count": 3}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "--sample_count=x",
            "--sample_count=x: must be a whole number, at least 1 and at most 9",
        ),
        (
            "--sample_count=10",
            "--sample_count=10: must be a whole number, at least 1 and at most 9",
        ),
        (
            "--sample_share=-1",
            "--sample_share=-1: must be a number, above 0 and below 1",
        ),
        (
            "--sample_share=nan",
            "--sample_share=nan: must be a number, above 0 and below 1",
        ),
        ("--sample_kind=B", "--sample_kind=B: must be one of a, b"),
        ("--sample_on=x", "--sample_on=x: must be true or false"),
        (
            "--sample_coun=3",
            "unknown flag --sample_coun; did you mean --sample_count, --sample_on, "
            "--sample_name? (--help lists all)",
        ),
        (
            "--count=3",
            "unknown flag --count; did you mean --sample_count? (--help lists all)",
        ),
    ],
)
def test_a_bad_text_is_refused_with_the_words_of_the_setting(argument, message):
    with pytest.raises(UserError) as raised:
        parsed(argument)
    assert raised.value.for_command_line == message


def test_flags_by_heading():
    defined = flags.define(PRESET)
    names = [f"sample_{field.name}" for field in settings.declared(Sample)]
    assert defined.sections == {"Sample": names}
    assert set(defined.values) == set(names)


def test_defaults_fixed_and_missing():
    preset = dataclasses.replace(
        PRESET,
        defaults={"sample_count": 5, "sample_each": ("a",)},
        fixed={"sample_kind": "b"},
        missing={"sample_name": "it has none"},
    )
    defined = flags.define(preset)
    assert defined.values["sample_count"].default == 5
    assert defined.values["sample_each"].default == ["a"]
    assert not {"sample_kind", "sample_name"} & set(defined.values)
    # They are no flags that were given.
    found = parsed(preset=preset)
    assert found.values == {}
    assert found.group(Sample) == Sample(5, each=("a",))
    assert found.settings() == {
        "sample_kind": "b",
        "sample_count": 5,
        "sample_each": ("a",),
    }
    assert parsed("--sample_each=b", preset=preset).group(Sample).each == ("b",)


@dataclasses.dataclass(frozen=True)
class Shape(NamedSettings):
    TITLE: ClassVar[str] = "Shape"


@dataclasses.dataclass(frozen=True)
class Square(Shape):
    NAME, SUMMARY, PAPERS = "square", "four equal sides", ("Euclid 300, arXiv 1",)

    side: float = settings.real(0.5, "Length of a side.", above=0)
    filled: bool = settings.switch(False, "Whether it is filled.")


@dataclasses.dataclass(frozen=True)
class Rectangle(Shape):
    NAME, SUMMARY = "rectangle", "four sides"

    side: int = settings.integer(2, "The longer side.", minimum=1)
    other_side: Optional[int] = settings.integer(None, "The other side.", minimum=1)
    label: tuple[str, ...] = settings.repeated("Labels.")


@pytest.fixture
def shapes():
    found = SettingsRegistry("shape")
    found.add(Square)
    found.add(Rectangle)
    return found


class TestChoices:
    def test_flags_of_all_choices(self, shapes):
        preset = cli.Preset("program", "", (shapes, Sample))
        defined = flags.define(preset)
        assert defined.sections["Shape"] == [
            "shape",
            "side",
            "filled",
            "other_side",
            "label",
        ]
        chooses = defined.values["shape"]
        assert chooses.default == "square"
        assert chooses.help == (
            "Which shape; parameters below show their defaults in parentheses.\n"
            "square: four equal sides (Euclid 300, arXiv 1)\nrectangle: four sides"
        )
        assert defined.values["side"].help == (
            "square (0.5): Length of a side. rectangle (2): The longer side."
        )
        assert defined.values["filled"].help == "square (false): Whether it is filled."
        assert defined.values["other_side"].help == "rectangle: The other side."

    def test_what_is_chosen(self, shapes):
        preset = cli.Preset("program", "", (shapes,))
        for given, found in (
            ((), Square()),
            (("--side=0.25", "--filled"), Square(0.25, True)),
            (("--shape=rectangle", "--side=4"), Rectangle(4)),
            (("--shape=rectangle", "--label=a"), Rectangle(label=("a",))),
        ):
            values = parsed(*given, preset=preset).values
            assert shapes.from_flat({"shape": "square", **values}) == found

    def test_a_text_that_no_owner_of_the_name_takes(self, shapes):
        preset = cli.Preset("program", "", (shapes,))
        for text in ("x", "-1"):
            with pytest.raises(UserError, match=f"^side={text}: must be a whole"):
                parsed(f"--side={text}", preset=preset)
        with pytest.raises(UserError) as raised:
            parsed("--shape=line", preset=preset)
        assert raised.value.for_command_line == (
            "--shape=line: must be one of square, rectangle"
        )

    def test_a_default_of_the_preset(self, shapes):
        preset = cli.Preset("program", "", (shapes,), defaults={"shape": "rectangle"})
        assert flags.define(preset).values["shape"].default == "rectangle"
        assert parsed(preset=preset).settings() == {"shape": "rectangle"}

    def test_what_is_registered_later_has_flags(self):
        @dataclasses.dataclass(frozen=True)
        class Late(AlgorithmSettings):
            NAME, SUMMARY = "late", "comes late"
            lateness: float = settings.real(0.5, "How late.", above=0)

        preset = cli.Preset("program", "", (ALGORITHMS,))
        assert "lateness" not in flags.define(preset).values
        with registered(ALGORITHMS, "late", Late):
            given = parsed("--algorithm=late", "--lateness=2", preset=preset).values
            assert ALGORITHMS.from_flat(given) == Late(2.0)
        with pytest.raises(UserError, match="unknown flag lateness"):
            parsed("--lateness=2", preset=preset)


def test_a_parameter_called_like_another_setting_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Greedy(AlgorithmSettings):
        NAME, SUMMARY = "greedy", "takes another one's name"
        rounds: int = settings.integer(3, "Of its own.", minimum=1)

    preset = cli.Preset("program", "", (ALGORITHMS, *cli.COMMON))
    with registered(ALGORITHMS, "greedy", Greedy):
        with pytest.raises(UserError) as raised:
            parsed("--algorithm=greedy", "--rounds=5", preset=preset)
        assert raised.value.for_command_line == (
            "--rounds: Algorithm and Training both have a setting of this name, so "
            "its value would reach both; give the plugin's setting another name"
        )
    assert parsed("--rounds=5", preset=preset).values == {"rounds": 5}


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """(name, text) -> the name of a module in the folder where the program runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before, algorithms, known = (
        set(sys.modules),
        set(ALGORITHMS.names()),
        set(tasks.names()),
    )

    def written(name, text):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
        return name

    yield written
    for name in set(sys.modules) - before:
        if name.startswith("plugin_of_test"):
            del sys.modules[name]
    for name in set(ALGORITHMS.names()) - algorithms:
        ALGORITHMS.unregister(name)
    for name in set(tasks.names()) - known:
        tasks.unregister(name)


ALGORITHM = """
import dataclasses
from tfl_research import algorithms, settings

@algorithms.register
@dataclasses.dataclass(frozen=True)
class Plugged(algorithms.AlgorithmSettings):
    NAME, SUMMARY, PAPERS = "plugged", "comes from outside", ("Me 2024, arXiv 1",)
    plugged_strength: float = settings.real(0.125, "Strength of it.", above=0)
"""
TASK = """
from tfl_research import tasks
tasks.register("plugged_task", "plugin_of_test_data:build")
"""
OPEN = cli.Preset("federated", "What it does.", (ALGORITHMS, *cli.COMMON))


class TestPlugins:
    def check(self, *arguments):
        given = parsed(*arguments, preset=OPEN)
        assert given.values["plugged_strength"] == 2.0
        return given

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--plugin=plugin_of_test_a", "--algorithm=plugged"],
            ["--plugin", "plugin_of_test_a", "--algorithm=plugged"],
            # Wherever it stands among other flags.
            ["--algorithm", "plugged", "--rounds", "3", "--plugin=plugin_of_test_a"],
            ["--notensorboard", "--plugin=plugin_of_test_a", "--algorithm=plugged"],
        ],
    )
    def test_flags_of_a_plugin(self, plugins, arguments):
        plugins("plugin_of_test_a", ALGORITHM)
        self.check(*arguments, "--plugged_strength=2")
        assert ALGORITHMS.origin("plugged") == "plugin_of_test_a"

    def test_it_is_found_in_the_current_folder(self, plugins):
        plugins("plugin_of_test_a", ALGORITHM)
        here = os.getcwd()
        assert here not in sys.path
        self.check("--plugin=plugin_of_test_a", "--plugged_strength=2")
        assert sys.path[-1] == here

    def test_two_plugins_and_one_of_them_twice(self, plugins):
        plugins("plugin_of_test_a", ALGORITHM)
        plugins("plugin_of_test_b", TASK)
        given = self.check(
            "--plugin=plugin_of_test_a",
            "--plugin=plugin_of_test_b",
            "--plugin=plugin_of_test_a",
            "--plugged_strength=2",
        )
        assert given.values["plugin"] == (
            "plugin_of_test_a",
            "plugin_of_test_b",
            "plugin_of_test_a",
        )
        assert tasks.origin("plugged_task") == "plugin_of_test_b"
        # Another command line of the same process.
        self.check("--plugin=plugin_of_test_a", "--plugged_strength=2")

    @pytest.mark.parametrize("before", [[], ["--rounds", "3"], ["--rounds=3"]])
    def test_a_plugin_in_a_flag_file(self, plugins, tmp_path, before):
        plugins("plugin_of_test_a", ALGORITHM)
        plugins("plugin_of_test_b", TASK)
        lines = ["--plugin=plugin_of_test_a", "--plugged_strength=2"]
        (tmp_path / "flags").write_text("\n".join(lines))
        given = self.check(*before, "--flagfile=flags", "--plugin=plugin_of_test_b")
        assert given.values["plugin"] == ("plugin_of_test_a", "plugin_of_test_b")
        assert "plugged_task" in tasks.names()

    def test_nothing_after_the_separator_is_a_plugin(self, plugins):
        plugins("plugin_of_test_a", ALGORITHM)
        with pytest.raises(UserError, match="unexpected argument 'plugin="):
            parsed("--", "--plugin=plugin_of_test_a", preset=OPEN)
        assert "plugged" not in ALGORITHMS

    def test_a_plugin_that_is_missing_or_fails_is_one_line(self, plugins):
        plugins("plugin_of_test_c", "import plugin_of_test_nothing")
        for name, why in (
            ("plugin_of_test_d", "No module named 'plugin_of_test_d'"),
            ("plugin_of_test_c", "No module named 'plugin_of_test_nothing'"),
        ):
            with pytest.raises(UserError) as raised:
                parsed(f"--plugin={name}", preset=OPEN)
            assert raised.value.for_command_line == (
                f"--plugin={name}: cannot be imported (ModuleNotFoundError: {why}); "
                "give a module that Python finds, as my_package.my_module"
            )

    def test_the_help_has_the_flags_of_a_plugin(self, plugins, capsys):
        plugins("plugin_of_test_a", ALGORITHM)
        for help_flag in ("--help", "-h", "--helpfull"):
            argv = ["federated.py", "--plugin=plugin_of_test_a", help_flag]
            assert cli.execute(OPEN, argv) == 0
            out = capsys.readouterr().out
            assert "plugged: comes from outside (Me 2024, arXiv 1)" in out
            assert (
                "  --plugged_strength=number\n      plugged (0.125): Strength of it.\n"
                in out
            )
        argv = ["federated.py", "--plugin=plugin_of_test_none", "--help"]
        assert cli.execute(OPEN, argv) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: --plugin=plugin_of_test_none: cannot")

    def test_its_task_by_name(self, plugins):
        plugins("plugin_of_test_b", TASK)
        plugins(
            "plugin_of_test_data", "def build(*, seed: int = 0, size: int = 3): ..."
        )
        given = parsed(
            "--plugin=plugin_of_test_b",
            "--task=plugged_task",
            "--task_option=size=5",
            preset=OPEN,
        )
        assert given.experiment().task.options() == {"size": 5}
        assert given.experiment().flat()["plugins"] == ["plugin_of_test_b"]


def test_further_flags_of_a_sweep():
    found = flags.further(PRESET, "x_flags", "a: --b", ["--sample_count=4"])
    assert found == {"sample_count": 4}
    for arguments, message in (
        (["--sample_count=x"], "--sample_count=x: must be a whole number, at least 1"),
        (["--sample_coun=1"], "unknown flag --sample_coun; did you mean --sample_co"),
        (["--nosample_on=1"], "--nosample_on=1 does not take an argument"),
        (["b"], "unexpected argument 'b'; flags are given as --name=value"),
    ):
        with pytest.raises(UserError) as raised:
            flags.further(PRESET, "x_flags", "a: --b", arguments)
        found = raised.value.for_command_line
        assert found.startswith(f"--x_flags=a: --b: {message}")


def test_a_separate_value_before_a_flag_file(tmp_path):
    (tmp_path / "flags").write_text("--seed=4\n")
    training = cli.Preset("program", "", (Training,))
    given = parsed("--rounds", "3", f"--flagfile={tmp_path}/flags", preset=training)
    assert given.values == {"rounds": 3, "seed": 4}
