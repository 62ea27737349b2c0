"""What the binaries of experiments/ describe by their flags; no TensorFlow."""

from __future__ import annotations

import importlib
import pathlib
import sys

import pytest

from tfl_research import cli
from tfl_research.aggregators import CoordinateMedian, Krum, NormClipping
from tfl_research.algorithms import FedProx, Scaffold
from tfl_research.cli.flag_values import flags
from tfl_research.errors import UserError
from tfl_research.experiment import Experiment
from tfl_research.experiment.configs import (
    Attack,
    Audit,
    Baseline,
    Batches,
    Cohorts,
    Compression,
    Devices,
    RecordLevelPrivacy,
    Silos,
    TaskChoice,
    Training,
    UserLevelPrivacy,
    Weighting,
)
from tfl_research.models import SGD
from tfl_research.privacy import mechanisms

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"
# Each binary with flags, and the experiment in Python.
SAME = [
    ("fed_avg", "--task=heart", Experiment("heart")),
    (
        "fed_avg",
        "--task=mnist --partition=dirichlet --dirichlet_alpha=0.1 --client_momentum "
        "0.9 --rounds=5 --devices=500 --aggregator=krum --byzantine=2",
        Experiment(
            TaskChoice("mnist", partition="dirichlet", dirichlet_alpha=0.1),
            client_optimizer=SGD(0.1, momentum=0.9),
            aggregator=Krum(byzantine=2),
            devices=Devices(500),
            training=Training(rounds=5),
        ),
    ),
    ("fed_prox", "--task=heart", Experiment("heart", "fed_prox")),
    (
        "fed_prox",
        "--task=heart --proximal_strength=0.5",
        Experiment("heart", FedProx(proximal_strength=0.5)),
    ),
    (
        "federated",
        "--task=heart --algorithm=scaffold --scaffold_option=1 --silo_drop_out=0.2 "
        "--minimum_clients=2 --personal_evaluation --compression=quantize",
        Experiment(
            "heart",
            Scaffold(scaffold_option=1),
            silos=Silos(0.2, 2),
            personal_evaluation=True,
            compression=Compression("quantize"),
        ),
    ),
    (
        "federated",
        "--task=heart --algorithm=fed_prox --proximal_strength=1",
        Experiment("heart", FedProx(proximal_strength=1.0)),
    ),
    (
        "dp_fed_avg",
        "--task=heart --target_epsilon=8 --l2_norm_clip=0.3",
        Experiment(
            "heart", privacy=UserLevelPrivacy(l2_norm_clip=0.3, target_epsilon=8)
        ),
    ),
    (
        "dp_fed_avg",
        "--task=heart --mechanism=tree --restart_every=5 --notree_efficient "
        "--noise_multiplier=2 --sampler=min_separation --client_weighting=capped "
        "--weight_cap=10 --aggregator=norm_clipping --clip_radius=1",
        Experiment(
            "heart",
            privacy=UserLevelPrivacy(
                mechanisms.Tree(restart_every=5, tree_efficient=False),
                noise_multiplier=2,
            ),
            cohorts=Cohorts("min_separation"),
            weighting=Weighting("capped", 10),
            aggregator=NormClipping(clip_radius=1),
        ),
    ),
    (
        "record_dp_fed_avg",
        "--task=heart --record_target_epsilon=4 --client_steps=3",
        Experiment(
            "heart",
            privacy=RecordLevelPrivacy(record_target_epsilon=4),
            batches=Batches(client_steps=3),
        ),
    ),
    (
        "robust_fed_avg",
        "--task=mnist --attack=sign_flip --malicious_fraction=0.3",
        Experiment(
            "mnist",
            aggregator=CoordinateMedian(),
            weighting=Weighting("uniform"),
            attack=Attack("sign_flip", malicious_fraction=0.3),
        ),
    ),
    (
        "robust_fed_avg",
        "--task=mnist --aggregator=krum --byzantine=2",
        Experiment(
            "mnist", aggregator=Krum(byzantine=2), weighting=Weighting("uniform")
        ),
    ),
    (
        "silo_baseline",
        "--task=heart",
        Experiment("heart", baseline=Baseline("pooled"), cohorts=Cohorts("full")),
    ),
    (
        "silo_baseline",
        "--task=heart --train_on=Cleveland --seed=3",
        Experiment(
            "heart",
            baseline=Baseline("Cleveland"),
            cohorts=Cohorts("full"),
            training=Training(seed=3),
        ),
    ),
    (
        "privacy_audit",
        "--task=heart --noise_multiplier=1 --canaries=50 --sabotage=noise_off",
        Experiment(
            "heart",
            privacy=UserLevelPrivacy(noise_multiplier=1),
            audit=Audit(50, sabotage="noise_off"),
        ),
    ),
]


@pytest.fixture(scope="module")
def presets():
    """The presets of all binaries."""
    names = sorted(path.stem for path in EXPERIMENTS.glob("*.py"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPERIMENTS))
        before = set(sys.modules)
        yield {name: importlib.import_module(name).PRESET for name in names}
        for name in set(sys.modules) - before:
            if name in names:
                del sys.modules[name]


@pytest.mark.parametrize(("name", "given", "expected"), SAME)
def test_flags_and_python_describe_the_same(presets, name, given, expected):
    argv = [f"experiments/{name}.py", *given.split(), "--output_dir=unused"]
    found = flags.parse(presets[name], argv).experiment()
    assert found.name == name
    assert found.flat() == expected.flat()
    assert found.with_settings() == found
    # But for the name they are the same object.
    again = Experiment.from_flat(expected.flat(), name=name)
    assert Experiment.from_flat(found.flat(), name=name) == again


def test_every_binary_of_one_run_is_here(presets):
    grids = {"byzantine", "cross_silo", "heterogeneity", "privacy_utility"}
    assert {name for name, *_ in SAME} == set(presets) - grids


@pytest.mark.parametrize(("name", "given", "expected"), SAME)
def test_they_run_what_they_describe(presets, monkeypatch, name, given, expected):
    ran = []

    def run(self, folder, *, resume=True, recharge=False, stream=None):
        ran.append((self.flat(), folder, resume, recharge))

    monkeypatch.setattr(Experiment, "run", run)
    argv = [f"experiments/{name}.py", *given.split(), "--output_dir=a/b", "--noresume"]
    assert cli.execute(presets[name], argv) == 0
    assert cli.execute(presets[name], [*argv, "--recharge"]) == 0
    assert ran == [(expected.flat(), "a/b", False, chosen) for chosen in (False, True)]


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        (
            "heterogeneity",
            "--seed=3",
            "--seed: the grid sets it; give --seeds",
        ),
        (
            "heterogeneity",
            "--partition=iid",
            "--partition: the grid sets it; give --alphas",
        ),
        (
            "privacy_utility",
            "--mechanism=tree",
            "--mechanism: the grid of the sweep sets it; give --mechanisms",
        ),
        (
            "privacy_utility",
            "--target_epsilon=3",
            "--target_epsilon: the grid of the sweep sets it; give --epsilons",
        ),
        (
            "cross_silo",
            "--sampler=fixed",
            "--sampler: every silo takes part in every round; leave it out, or run "
            "experiments/federated.py",
        ),
        ("byzantine", "--seed=1", "--seed: the grid of the sweep sets it; give --see"),
        ("fed_avg", "--noise_multiplier=1", "unknown flag --noise_multiplier"),
        ("fed_avg", "--proximal_strength=1", "unknown flag --proximal_strength"),
        ("fed_prox", "--algorithm=scaffold", "unknown flag --algorithm"),
        ("record_dp_fed_avg", "--devices=9", "unknown flag --devices"),
        ("dp_fed_avg", "--restart_every=4 --noise_multiplier=1 --task=heart", ""),
    ],
)
def test_flags_that_a_binary_has_not(presets, name, given, message):
    argv = [f"{name}.py", *given.split(), "--task=heart"]
    with pytest.raises(UserError) as raised:
        flags.parse(presets[name], argv).experiment()
    expected = message or (
        "--restart_every=4: goes with --mechanism=tree, not with gaussian; leave it out"
    )
    assert raised.value.for_command_line.startswith(expected)


def test_a_binary_is_short():
    """A binary is a preset; what is longer belongs into the package."""
    for path in EXPERIMENTS.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 65, path.name
