"""The pages of --help: every flag of every binary once, with its default."""

from __future__ import annotations

import importlib
import pathlib
import re
import sys

import pytest

from tfl_research import cli
from tfl_research.aggregators import AGGREGATORS
from tfl_research.algorithms import ALGORITHMS
from tfl_research.cli.flag_values import flags, help_text
from tfl_research.experiment import Experiment
from tfl_research.experiment.configs import Cohorts, Training
from tfl_research.privacy import MECHANISMS
from tfl_research.registry import SettingsRegistry
from tfl_research.settings import declared

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"
NAMES = sorted(path.stem for path in EXPERIMENTS.glob("*.py"))


@pytest.fixture(scope="module")
def presets():
    """The presets of all binaries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPERIMENTS))
        before = set(sys.modules)
        yield {name: importlib.import_module(name).PRESET for name in NAMES}
        for name in set(sys.modules) - before:
            if name in NAMES:
                del sys.modules[name]


@pytest.fixture(scope="module")
def pages(presets):
    return {
        name: help_text.page(preset, [f"experiments/{name}.py", "--help"])
        for name, preset in presets.items()
    }


def entries(page):
    """The flags of a page, each with its text on one line."""
    head, *found = re.split(r"\n  --(\[no\])?(\w+)(?:=(\S+))?\n", page)
    del head
    texts = []
    for switch, name, kind, text in zip(*(iter(found),) * 4):
        # The next heading is no part of the text.
        body = re.split(r"\n\n", text)[0]
        texts.append((name, bool(switch), kind, " ".join(body.split())))
    return texts


def test_there_are_twelve_binaries():
    assert len(NAMES) == 12


@pytest.mark.parametrize("name", NAMES)
def test_every_flag_is_there_once_with_its_default(presets, pages, name):
    preset, page = presets[name], pages[name]
    defined = flags.define(preset)
    found = entries(page)
    names = [entry[0] for entry in found]
    assert sorted(names) == sorted(defined.values)
    assert len(set(names)) == len(names)
    for flag_name, is_switch, _, text in found:
        flag = defined.values[flag_name]
        assert is_switch == flag.boolean
        # Without white space, since names are not broken at hyphens.
        words = " ".join(flag.help.split("\n")[0].split())
        assert text.startswith(words.split(";\n")[0][:60])
        default = flag.default
        if default in (None, [], ""):
            assert "(default: " not in text.replace(words, "")
        elif isinstance(default, bool):
            assert f"(default: {str(default).lower()})" in text
        else:
            shown = f"{default:g}" if isinstance(default, float) else default
            assert f"(default: {shown})" in text


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_of_its_groups_is_a_flag(presets, name):
    """But for those that are fixed, or missing for a reason."""
    preset = presets[name]
    without = {*preset.fixed, *preset.missing}
    expected = set()
    for group in preset.groups:
        if isinstance(group, SettingsRegistry):
            expected |= {group.setting, *group.parameters()}
        else:
            expected |= {group.PREFIX + field.name for field in declared(group)}
    assert set(flags.define(preset).values) == expected - without
    # Whatever is missing or has a default of its own would be a setting.
    for flag_name, reason in preset.missing.items():
        assert reason.strip() == reason != ""
        assert flag_name in {*expected, "seed", "sampler", "mechanism"}
    assert set(preset.defaults) <= expected


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_grouped_and_fits_a_terminal(presets, pages, name):
    page = pages[name]
    assert page.startswith(presets[name].doc.strip().split("\n")[0])
    for heading in ("Task:", "Client optimizer:", "Training:", "Output:"):
        assert page.count(f"\n{heading}\n") == 1
    assert f"Usage: {name}.py --flag=value ..." in page
    assert "--flagfile=FILE" in page
    if name not in ("heterogeneity", "privacy_utility", "byzantine", "cross_silo"):
        assert (
            "--client_learning_rate=number\n      Learning rate η. (default: 0.1)"
            in page
        )
    assert "WARNING: whoever learns this seed can subtract the noise" in " ".join(
        page.split()
    )
    assert max(map(len, page.splitlines())) <= 88
    assert not re.search(r"[ \t]\n", page)
    assert page.endswith("\n")


def test_choices_are_listed_with_their_papers(pages):
    for binary, choices in (
        ("dp_fed_avg", MECHANISMS),
        ("privacy_audit", MECHANISMS),
        ("dp_fed_avg", AGGREGATORS),
        ("federated", AGGREGATORS),
        ("federated", ALGORITHMS),
    ):
        text = " ".join(pages[binary].split())
        for name, chosen in choices.items():
            assert f" {name}: {chosen.title()}" in text, name


@pytest.mark.parametrize("name", NAMES)
def test_defaults_of_a_choice_are_those_of_an_experiment(presets, pages, name):
    """Without the flag an experiment takes what the page says."""
    preset = presets[name]
    given = {"task": "heart", **preset.fixed}
    if preset.fixed.get("privacy_unit") == "client":
        given["noise_multiplier"] = 1.0
    elif preset.fixed.get("privacy_unit") == "record":
        given["record_noise_multiplier"] = 1.0
    shown = {entry[0]: entry[3] for entry in entries(pages[name])}
    for choices in (ALGORITHMS, AGGREGATORS, MECHANISMS):
        if choices.setting in shown:
            default = preset.defaults.get(choices.setting)
            own = {} if default is None else {choices.setting: default}
            found = Experiment.from_flat({**given, **own}).flat()[choices.setting]
            assert f"(default: {found})" in shown[choices.setting]


def test_pages_differ_by_binary(pages):
    names = {
        name: {entry[0] for entry in entries(page)} for name, page in pages.items()
    }
    assert "proximal_strength" in names["fed_prox"]
    assert "proximal_strength" not in names["fed_avg"]
    assert "algorithm" not in names["fed_prox"]
    assert "noise_multiplier" in names["dp_fed_avg"]
    assert "noise_multiplier" not in names["fed_avg"]
    assert "devices" in names["fed_avg"]
    assert "devices" in names["dp_fed_avg"]
    assert "devices" not in names["record_dp_fed_avg"]
    assert "attack" in names["robust_fed_avg"]
    assert "train_on" in names["silo_baseline"]
    assert "personal_evaluation" in names["federated"]


def test_default_samplers_and_weights_are_told(pages):
    for page in pages.values():
        text = " ".join(page.split())
        if "--sampler=" in text:
            assert "poisson (the default with user-level privacy)" in text
            assert "full (the default with record-level privacy)" in text
        if "--client_weighting=" in text:
            assert "uniform (the default with user-level privacy" in text


def test_a_page_of_ones_own():
    preset = cli.Preset(
        "mine",
        "\nWhat it does.\n\nAnd how.\n",
        (Cohorts, Training),
        defaults={"rounds": 5, "sampler": "full"},
        fixed={"seed": 3},
        missing={"run_seed": "none"},
    )
    page = help_text.page(preset, ["/a/mine.py"])
    assert page.startswith(
        "What it does.\n\nAnd how.\n\nUsage: mine.py --flag=value ...\n"
        "       --flagfile=FILE reads flags from a file, one to a line.\n\nCohort:\n"
        "  --sampler=poisson|fixed|shuffled|full|min_separation|cyclic_poisson\n"
        "      Which clients a round has. poisson (the default with user-level "
    )
    assert "\n  --rounds=integer\n      Rounds of training. (default: 5)\n" in page
    assert "--seed" not in page.replace("--selection", "")
    assert "run_seed" not in page


@pytest.mark.parametrize("flag", ["--help", "-help", "-h", "--helpfull", "--helpshort"])
def test_every_way_to_ask(presets, capsys, flag):
    argv = ["fed_avg.py", "--rounds=x", flag, "--no_such_flag"]
    assert cli.execute(presets["fed_avg"], argv) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out == help_text.page(presets["fed_avg"], ["fed_avg.py"])
