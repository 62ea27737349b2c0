"""Flags of sweeps: lists, and further flags for the runs of one value."""

from __future__ import annotations

import importlib
import pathlib
import sys

import pytest

from tfl_research.cli.flag_values import lists
from tfl_research.cli.grids import (
    ByzantineGrid,
    CrossSiloGrid,
    HeterogeneityGrid,
    PrivacyUtilityGrid,
)
from tfl_research.errors import SettingError
from tfl_research.experiment import Experiment
from tfl_research.experiment.configs import Cohorts, UserLevelPrivacy, Weighting

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"


@pytest.fixture(scope="module")
def presets():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPERIMENTS))
        before = set(sys.modules)
        found = {
            name: importlib.import_module(name).PRESET
            for name in (
                "dp_fed_avg",
                "federated",
                "record_dp_fed_avg",
                "robust_fed_avg",
            )
        }
        yield found
        for name in set(sys.modules) - before:
            if name in found:
                del sys.modules[name]


PRIVATE = Experiment("heart", privacy=UserLevelPrivacy(target_epsilon=1))
SILOS = Experiment("heart", cohorts=Cohorts("full"))


def points(presets, grid):
    """The points of a grid over a base that fits it."""
    if isinstance(grid, PrivacyUtilityGrid):
        return grid.points(PRIVATE, presets["dp_fed_avg"])
    if isinstance(grid, HeterogeneityGrid):
        return grid.points(Experiment("mnist"), presets["federated"])
    if isinstance(grid, CrossSiloGrid):
        return grid.points(SILOS, presets["federated"], presets["record_dp_fed_avg"])
    uniform = Experiment("mnist", weighting=Weighting("uniform"))
    found, _ = grid.points(uniform, presets["robust_fed_avg"])
    return found


class TestGrids:
    def test_privacy_utility(self, presets):
        grid = PrivacyUtilityGrid(
            epsilons="1, 2.5",
            mechanisms="gaussian,tree",
            seeds="3",
            mechanism_flags=(
                "tree: --sampler=shuffled --restart_every=5",
                " tree :--cohort_size=2",
            ),
        )
        found = points(presets, grid)
        assert [point.name for point in found] == [
            "not_private-3",
            "gaussian-1-3",
            "gaussian-2.5-3",
            "tree-1-3",
            "tree-2.5-3",
        ]
        assert found[4].experiment == PRIVATE.with_settings(
            mechanism="tree",
            restart_every=5,
            sampler="shuffled",
            cohort_size=2.0,
            target_epsilon=2.5,
            seed=3,
        )

    def test_byzantine(self, presets):
        grid = ByzantineGrid(
            attacks="none, alie",
            rules="mean,krum+mixing",
            fractions="0.1,0.2",
            rule_flags=("krum+mixing: --on_breakdown=mean",),
            attack_flags=("alie: --attack_scale=1.5",),
            byzantine=1,
        )
        by_name = {point.name: point.experiment for point in points(presets, grid)}
        assert len(by_name) == 8
        flat = by_name["alie-krum+mixing-0.2-0"].flat()
        expected = {
            "aggregator": "krum",
            "neighbour_mixing": True,
            "byzantine": 1,
            "on_breakdown": "mean",
            "attack": "alie",
            "attack_scale": 1.5,
            "malicious_fraction": 0.2,
        }
        assert expected.items() <= flat.items()

    def test_heterogeneity(self, presets):
        grid = HeterogeneityGrid(
            algorithms="fed_avg,mime_lite",
            alphas="0.10,natural",
            seeds="0,1",
            algorithm_flags=("mime_lite: --server_momentum=0.9 --rounds=5",),
        )
        by_name = {point.name: point.experiment for point in points(presets, grid)}
        assert len(by_name) == 8
        assert by_name["mime_lite-0.1-1"] == Experiment("mnist").with_settings(
            algorithm="mime_lite",
            server_momentum=0.9,
            rounds=5,
            partition="dirichlet",
            dirichlet_alpha=0.1,
            seed=1,
        )

    def test_cross_silo(self, presets):
        grid = CrossSiloGrid(
            algorithms="fed_avg,scaffold",
            record_epsilons="4",
            algorithm_flags=("scaffold: --scaffold_option=1",),
            record_flags=("--client_learning_rate=0.5", "--client_steps=3"),
        )
        by_name = {point.name: point.experiment for point in points(presets, grid)}
        assert by_name["scaffold-0"].flat()["scaffold_option"] == 1
        record = by_name["record_dp-4-0"].flat()
        expected = {
            "client_learning_rate": 0.5,
            "client_steps": 3,
            "record_target_epsilon": 4.0,
        }
        assert expected.items() <= record.items()
        assert len(points(presets, CrossSiloGrid())) == 6


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (
            PrivacyUtilityGrid,
            {"epsilons": "1,x"},
            "--epsilons=1,x: 'x': must be a number above 0",
        ),
        (PrivacyUtilityGrid, {"epsilons": "0"}, "'0': must be a number above 0"),
        (PrivacyUtilityGrid, {"epsilons": "inf"}, "must be a number above 0"),
        (PrivacyUtilityGrid, {"epsilons": "1,1"}, "'1' is given twice"),
        (PrivacyUtilityGrid, {"epsilons": "1,1.0"}, "'1.0' is given twice"),
        (PrivacyUtilityGrid, {"seeds": "-1"}, "must be a whole number, at least 0"),
        (
            PrivacyUtilityGrid,
            {"seeds": f"0,{2**32}"},
            "at least 0 and at most 4294967295",
        ),
        (
            PrivacyUtilityGrid,
            {"mechanisms": "laplace"},
            "--mechanisms=laplace: 'laplace': must be one of gaussian, adaptive",
        ),
        (
            PrivacyUtilityGrid,
            {"mechanism_flags": ("tree: --bands=1",)},
            "--mechanism_flags=tree: --bands=1: must begin with one of --mechanisms "
            "and a colon",
        ),
        (
            PrivacyUtilityGrid,
            {"mechanism_flags": ("gaussian --bands=1",)},
            "must begin with one of --mechanisms and a colon",
        ),
        (
            ByzantineGrid,
            {"attacks": "none,evil"},
            "--attacks=none,evil: 'evil': must be one of none, label_flip",
        ),
        (
            ByzantineGrid,
            {"rules": "best"},
            "--rules=best: 'best': must be one of mean, robust",
        ),
        (ByzantineGrid, {"rules": "best+mixing"}, "'best+mixing': must be one of mean"),
        (ByzantineGrid, {"rules": "mean+mixing"}, "'mean+mixing': must be one of mean"),
        (
            ByzantineGrid,
            {"fractions": "0"},
            "'0': must be a number above 0 and at most 1",
        ),
        (ByzantineGrid, {"fractions": "1.1"}, "above 0 and at most 1"),
        (ByzantineGrid, {"fractions": "0.1,0.1"}, "'0.1' is given twice"),
        (ByzantineGrid, {"seeds": "x"}, "must be a whole number"),
        (
            ByzantineGrid,
            {"rule_flags": ("bulyan: --a",)},
            "must begin with one of --rules",
        ),
        (
            ByzantineGrid,
            {"attack_flags": ("mimic: --a",)},
            "must begin with one of --attacks",
        ),
        (HeterogeneityGrid, {"algorithms": "fed"}, "'fed': must be one of fed_avg, "),
        (
            HeterogeneityGrid,
            {"alphas": "0"},
            "'0': must be a number above 0, or natural",
        ),
        (HeterogeneityGrid, {"alphas": "1,1.0"}, "'1.0' is given twice"),
        (CrossSiloGrid, {"record_epsilons": "x"}, "--record_epsilons=x: 'x': must be"),
        (
            HeterogeneityGrid,
            {"algorithms": "fed_avg", "algorithm_flags": ("fed_avg: --x='a",)},
            "--algorithm_flags=fed_avg: --x='a: No closing quotation; close it",
        ),
        (
            HeterogeneityGrid,
            {"algorithms": "fed_avg", "algorithm_flags": ("fed_avg: --seed=7",)},
            "--algorithm_flags=fed_avg: --seed=7: the sweep sets --seed; leave it out",
        ),
        (
            HeterogeneityGrid,
            {"algorithms": "fed_avg", "algorithm_flags": ("fed_avg: -algorithm mime",)},
            "the sweep sets --algorithm",
        ),
        (
            HeterogeneityGrid,
            {"algorithms": "fed_avg", "algorithm_flags": ("fed_avg: --round=7",)},
            "--algorithm_flags=fed_avg: --round=7: unknown flag --round; did you mean "
            "--rounds",
        ),
        (
            HeterogeneityGrid,
            {"algorithms": "fed_avg", "algorithm_flags": ("fed_avg: --rounds=x",)},
            "--algorithm_flags=fed_avg: --rounds=x: --rounds=x: must be a whole number",
        ),
        (
            HeterogeneityGrid,
            {"algorithms": "fed_avg", "algorithm_flags": ("fed_avg: rounds",)},
            "--algorithm_flags=fed_avg: rounds: unexpected argument 'rounds'",
        ),
        (
            HeterogeneityGrid,
            {"algorithms": "fed_avg", "algorithm_flags": ("fed_avg: --output_dir=a",)},
            "the sweep sets --output_dir",
        ),
        (
            CrossSiloGrid,
            {"algorithm_flags": ("fed_avg: --sampler=fixed",)},
            "the sweep sets --sampler",
        ),
        (
            CrossSiloGrid,
            {"record_flags": ("--record_target_epsilon=1",)},
            "--record_flags=--record_target_epsilon=1: the sweep sets --record_target",
        ),
        (CrossSiloGrid, {"record_flags": ("'",)}, "No closing quotation"),
        (
            PrivacyUtilityGrid,
            {"mechanisms": "tree", "mechanism_flags": ("tree: --target_epsilon=1",)},
            "the sweep sets --target_epsilon",
        ),
        (
            PrivacyUtilityGrid,
            {"mechanisms": "tree", "mechanism_flags": ("tree: --noise_multiplier=1",)},
            "the sweep sets --noise_multiplier",
        ),
        (
            ByzantineGrid,
            {"attacks": "alie", "attack_flags": ("alie: --attack=sign_flip",)},
            "the sweep sets --attack",
        ),
        (
            ByzantineGrid,
            {"rules": "krum", "rule_flags": ("krum: --aggregator=mean",)},
            "the sweep sets --aggregator",
        ),
    ],
)
def test_what_is_refused(presets, kind, wrong, message):
    with pytest.raises(SettingError) as caught:
        points(presets, kind(**wrong))
    found = caught.value.for_command_line
    assert message in found
    assert found.startswith(f"--{list(wrong)[-1]}=")
    assert "\n" not in found


@pytest.mark.parametrize(
    "text", ["--noseed", "--seed", "-seed=3", "--see=3", "--nosampler=1"]
)
def test_other_spellings_of_what_the_sweep_sets(presets, text):
    grid = HeterogeneityGrid(
        algorithms="fed_avg", algorithm_flags=(f"fed_avg: {text}",)
    )
    with pytest.raises(SettingError, match=r"^algorithm_flags=fed_avg: "):
        points(presets, grid)


def test_values_of_lists():
    assert lists.epsilon_value("2.5") == 2.5
    assert lists.seed_value("07") == 7
    assert lists.fraction_value("1") == 1
    for convert, wrong in (
        (lists.epsilon_value, ("", "nan", "-1", "inf")),
        (lists.seed_value, ("", "1.5", "+1", " 1", str(2**32))),
        (lists.fraction_value, ("", "nan", "0", "2")),
    ):
        for text in wrong:
            with pytest.raises(ValueError, match="must be a"):
                convert(text)
