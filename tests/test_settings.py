"""Groups of settings as checked dataclasses, and what their errors say."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import ClassVar, Optional

import pytest

from tfl_research import settings
from tfl_research.errors import (
    SettingError,
    TrainingDivergedError,
    UserError,
    message_for_command_line,
)
from tfl_research.settings import NamedSettings, Settings, comma_separated


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
    each: tuple[str, ...] = settings.repeated("Several.")


def test_defaults_are_the_fields():
    assert Sample() == Sample(3, None, "a", None, True, ())
    assert Sample().flat() == {
        "sample_count": 3,
        "sample_share": None,
        "sample_kind": "a",
        "sample_name": None,
        "sample_on": True,
        "sample_each": (),
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "count=0: must be a whole number, at least 1 and at most 9"),
        ({"count": 10}, "count=10: must be a whole number, at least 1 and at most 9"),
        ({"count": 2.5}, "count=2.5: must be a whole number, at least 1 and at most 9"),
        ({"count": 2.0}, "count=2: must be a whole number, at least 1 and at most 9"),
        (
            {"count": True},
            "count=True: must be a whole number, at least 1 and at most 9",
        ),
        (
            {"count": None},
            "count=None: must be a whole number, at least 1 and at most 9",
        ),
        ({"count": [2]}, "count=[2]: must be a whole number, at least 1 and at most 9"),
        ({"share": 0.0}, "share=0: must be a number, above 0 and below 1"),
        ({"share": 1.0}, "share=1: must be a number, above 0 and below 1"),
        ({"share": True}, "share=True: must be a number, above 0 and below 1"),
        ({"share": "x"}, "share=x: must be a number, above 0 and below 1"),
        ({"share": float("nan")}, "share=nan: must be a number, above 0 and below 1"),
        ({"share": float("inf")}, "share=inf: must be a number, above 0 and below 1"),
        (
            {"share": 10**400},
            f"share={10**119}... (401 characters): must be a number, above 0 and below "
            "1",
        ),
        ({"kind": "c"}, "kind=c: must be one of a, b"),
        ({"kind": None}, "kind=None: must be one of a, b"),
        ({"on": "yes"}, "on=yes: must be True or False"),
        ({"on": 2}, "on=2: must be True or False"),
        ({"on": None}, "on=None: must be True or False"),
        ({"each": "text"}, "each=text: must be a tuple of texts"),
        ({"each": 3}, "each=3: must be a tuple of texts"),
    ],
)
def test_a_bad_value_names_setting_value_and_range(values, message):
    with pytest.raises(SettingError) as raised:
        Sample(**values)
    assert raised.value.for_command_line == f"--sample_{message}"
    assert str(raised.value) == f"sample_{message}"


def test_values_are_converted():
    found = Sample("4", "0.5", name=7, on=1, each=["x", 2])
    assert found == Sample(4, 0.5, "a", "7", True, ("x", "2"))
    assert (type(found.count), type(found.share)) == (int, float)
    assert found.on is True


def test_values_of_other_groups_are_ignored():
    values = {"sample_count": 5, "count": 9, "other_share": 0.5}
    assert Sample.from_flat(values) == Sample(5)
    one = Sample(2, 0.25, "b", "n", False, ("x",))
    assert Sample.from_flat(one.flat()) == one


def test_groups_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Sample().count = 4


def test_values_that_exclude_each_other():
    @dataclasses.dataclass(frozen=True)
    class Ordered(Settings):
        low: float = settings.real(0.5, "Low.")
        high: float = settings.real(1.0, "High.")

        def check(self) -> None:
            if self.low > self.high:
                raise self.refused("low", f"is above --high={self.high:g}; lower it")

    assert Ordered(0.75).low == 0.75
    with pytest.raises(SettingError) as raised:
        Ordered(2.5)
    assert raised.value.for_command_line == "--low=2.5: is above --high=1; lower it"
    assert str(raised.value) == "low=2.5: is above high=1; lower it"
    # The check sees converted values.
    with pytest.raises(SettingError, match=r"^low=2\.5: is above high=1; lower it$"):
        Ordered("2.5", "1")


def test_the_names_of_a_choice_are_asked_at_every_use():
    names = ["a"]

    @dataclasses.dataclass(frozen=True)
    class Growing(Settings):
        kind: str = settings.choice("a", "A kind.", lambda: names)

    (field,) = settings.declared(Growing)
    assert settings.kind_of(field).syntax == "a"
    with pytest.raises(SettingError, match=r"must be one of a$"):
        Growing("b")
    names.append("b")
    assert Growing("b").kind == "b"
    assert settings.kind_of(field).syntax == "a|b"


def test_a_docstring_lists_the_settings_as_python_names_them():
    @dataclasses.dataclass(frozen=True)
    class Documented(Settings):
        """What is documented.

        Documented(rate=1)
        """

        rate: float = settings.real(0.5, "Factor under --kind=fast.", above=0)
        kind: str = settings.choice("fast", "Which kind.", ("fast", "slow"))
        open_kind: str = settings.choice("fast", "Which.", lambda: ("fast",))
        size: Optional[int] = settings.integer(None, "slow or fast sizes.")
        plain: int = 3

    assert Documented.__doc__.splitlines() == [
        "What is documented.",
        "",
        "Documented(rate=1)",
        "",
        "Settings:",
        "  rate: Factor under kind=fast. (default: 0.5)",
        "  kind: Which kind. One of fast, slow. (default: 'fast')",
        "  open_kind: Which. (default: 'fast')",
        "  size: slow or fast sizes.",
    ]


def test_a_docstring_lists_the_settings_of_base_classes_once():
    @dataclasses.dataclass(frozen=True)
    class Rule(NamedSettings):
        first: int = settings.integer(1, "First.")
        second: int = settings.integer(2, "Second.")

    @dataclasses.dataclass(frozen=True)
    class Special(Rule):
        SUMMARY: ClassVar[str] = "a special rule"

        first: int = settings.integer(3, "First of all.")

    @dataclasses.dataclass(frozen=True)
    class Bare(NamedSettings):
        """Without settings."""

    assert Special.__doc__.splitlines() == [
        "A special rule.",
        "",
        "Settings:",
        "  first: First of all. (default: 3)",
        "  second: Second. (default: 2)",
    ]
    assert Bare.__doc__ == "Without settings."


def test_a_group_shows_what_differs_from_its_defaults():
    @dataclasses.dataclass(frozen=True)
    class Shown(Settings):
        rate: float = settings.real(0.5, "Rate.")
        size: Optional[int] = settings.integer(None, "Size.")

    @dataclasses.dataclass(frozen=True)
    class Own(Shown):
        def __repr__(self):
            return "its own"

    assert repr(Shown()) == "Shown()"
    assert repr(Shown(rate=2)) == "Shown(rate=2.0)"
    assert repr(Shown(0.5, 3)) == "Shown(size=3)"
    assert repr(Own(rate=2)) == "its own"


def test_a_group_does_not_show_a_secret():
    @dataclasses.dataclass(frozen=True)
    class Locked(Settings):
        key: Optional[str] = settings.text(None, "Key.", secret=True)

    assert repr(Locked()) == "Locked()"
    assert repr(Locked("open sesame")) == "Locked(key=<secret>)"


def test_what_a_field_says_of_itself():
    fields = settings.declared(Sample)
    assert [f.name for f in fields] == ["count", "share", "kind", "name", "on", "each"]
    assert [settings.help_of(field) for field in fields][:2] == ["A count.", "A share."]
    assert [settings.kind_of(field).syntax for field in fields] == [
        "integer",
        "number",
        "a|b",
        "text",
        "",
        "text",
    ]
    assert Sample.flag("count") == "--sample_count"


def test_a_plain_field_is_no_setting():
    @dataclasses.dataclass(frozen=True)
    class Mixed(Settings):
        plain: object = None
        count: int = settings.integer(1, "A count.")

    assert [field.name for field in settings.declared(Mixed)] == ["count"]
    assert Mixed("anything").flat() == {"count": 1}


def test_a_title_has_the_papers():
    class Named(NamedSettings):
        NAME, SUMMARY = "named", "what it is"

    assert Named.title() == "what it is"
    Named.PAPERS = ("A 2020, arXiv 1", "B 2021")
    assert Named.title() == "what it is (A 2020, arXiv 1; B 2021)"


@dataclasses.dataclass(frozen=True)
class Listed(Settings):
    numbers: str = settings.text("1, 2", "Numbers, with commas.")


def whole(text):
    if not text.isdecimal():
        raise ValueError("must be a whole number")
    return int(text)


def test_lists_with_commas():
    assert comma_separated(Listed(), "numbers", whole) == [1, 2]
    for wrong, why in (
        ("1,x", "'x': must be a whole number"),
        ("", "'': must be a whole number"),
        ("1,", "'': must be a whole number"),
        ("1,2,01", "'01' is given twice"),
    ):
        with pytest.raises(SettingError) as raised:
            comma_separated(Listed(wrong), "numbers", whole)
        assert raised.value.for_command_line == f"--numbers={wrong}: {why}"


@pytest.mark.parametrize(
    ("typed", "python"),
    [
        ("--rounds=0: must be at least 1", "rounds=0: must be at least 1"),
        ("--a and --b_2 are missing", "a and b_2 are missing"),
        ("leave --noise out (--clip=3)", "leave noise out (clip=3)"),
        # Another program's command stays as it is typed.
        (
            "start one there with scripts/worker --port=PORT, then",
            "start one there with scripts/worker --port=PORT, then",
        ),
        (
            "--workers=a:1: give scripts/worker --port=1; or leave --workers out",
            "workers=a:1: give scripts/worker --port=1; or leave workers out",
        ),
        # No settings: a dash between words, a rule.
        ("a well--known thing", "a well--known thing"),
        ("--- and -1", "--- and -1"),
        ("", ""),
    ],
)
def test_messages_for_command_lines_and_for_python(typed, python):
    error = UserError(typed)
    assert error.for_command_line == typed
    assert str(error) == python


def test_errors_of_the_user_are_value_errors():
    for kind in (UserError, SettingError, TrainingDivergedError):
        assert issubclass(kind, ValueError)
        assert kind("--a=1: b").for_command_line == "--a=1: b"


def test_an_error_that_repeats_another_one_keeps_its_flags():
    message = "--a=1: leave --b out"
    assert message_for_command_line(SettingError(message)) == message
    assert message_for_command_line(ValueError(message)) == message
    again = SettingError(message_for_command_line(SettingError(message)))
    assert (again.for_command_line, str(again)) == (message, "a=1: leave b out")


def test_settings_need_neither_tensorflow_nor_absl():
    code = (
        "import sys\n"
        "from tfl_research import errors, registry, settings, tasks\n"
        "from tfl_research.experiment import Experiment, configs\n"
        "names = ('tensorflow', 'tensorflow_federated', 'absl')\n"
        "print([m for m in names if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
