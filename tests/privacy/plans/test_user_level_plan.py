"""One plan owns mechanism, noise, sampling, δ, accountant and event."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys

import pytest

from tfl_research import privacy, sampling, storage
from tfl_research.errors import SettingError, UserError
from tfl_research.privacy import mechanisms

IDS = range(60)
AMPLIFICATIONS = {
    "poisson": sampling.Poisson(IDS, 6, 1).amplification,
    "fixed": sampling.FixedSize(IDS, 6, 1).amplification,
    "shuffled": sampling.Shuffled(IDS, 6, 1).amplification,
    "full": sampling.Full(IDS).amplification,
    "min_separation": sampling.MinSeparation(IDS, 5, 1).amplification,
    "cyclic_poisson": sampling.CyclicPoisson(IDS, 4, 1, 5).amplification,
}
CASES = {
    "gaussian": (mechanisms.Gaussian(), "poisson"),
    "fixed_size": (mechanisms.Gaussian(), "fixed"),
    "adaptive_gaussian": (mechanisms.AdaptiveGaussian(), "full"),
    "bounded_weight": (mechanisms.BoundedWeight(), "poisson"),
    "tree": (mechanisms.Tree(restart_every=8), "min_separation"),
    "banded_matrix": (mechanisms.BandedMatrix(), "min_separation"),
    "cyclic": (mechanisms.BandedMatrix(bands=3), "cyclic_poisson"),
    "discrete_gaussian": (mechanisms.DiscreteGaussian(), "full"),
    "skellam": (mechanisms.Skellam(modulus_bits=24), "min_separation"),
    "local_gaussian": (mechanisms.LocalGaussian(), "poisson"),
}


def create(mechanism="gaussian", sampler="poisson", **changes):
    settings = {
        "l2_norm_clip": 0.5,
        "rounds": 30,
        "delta": 1e-3,
        "model_dimension": lambda: 100,
        **changes,
    }
    if "target_epsilon" not in settings:
        settings.setdefault("noise_multiplier", 1.25)
    return privacy.UserLevelPlan.create(
        mechanism, amplification=AMPLIFICATIONS[sampler], **settings
    )


def start(path, plan):
    """Starts a run with a plan in a folder, or resumes it."""
    with storage.RunFolder.open(path, {}, plan=plan.record()) as folder:
        return folder


@pytest.mark.parametrize("name", CASES)
class TestEveryMechanism:
    def test_given_noise_is_in_the_event(self, name):
        plan = create(*CASES[name])
        assert plan.noise_multiplier == plan.event.noise_multiplier == 1.25
        assert plan.event.population == 60
        sampler = CASES[name][1]
        assert plan.event.cohort_size == AMPLIFICATIONS[sampler].cohort_size
        distributed = name in ("discrete_gaussian", "skellam")
        assert (plan.distributed is not None) == distributed

    def test_noise_is_calibrated_to_all_rounds(self, name):
        plan = create(*CASES[name], target_epsilon=5)
        spent = privacy.EpsilonCurve(plan.event, 1e-3, plan.accountant).at(30)
        # A thousandth of noise less would be too little.
        assert 4.95 < spent <= 5

    def test_the_samplers_that_it_names_have_an_event(self, name):
        mechanism = CASES[name][0]
        for sampler in mechanism.SAMPLERS:
            mechanism.check_cohorts(sampler, mechanism.WEIGHTINGS[0])
            create(mechanism, sampler, noise_multiplier=0.4)
        with pytest.raises(SettingError, match="numbers of examples have no bound"):
            mechanism.check_cohorts(mechanism.SAMPLERS[0], "examples")

    def test_a_record_is_json_and_is_the_plans_own(self, name, tmp_path):
        plan = create(*CASES[name])
        recorded = json.loads(json.dumps(plan.record(), allow_nan=False))
        assert start(tmp_path, plan).plan == recorded
        assert start(tmp_path, plan).resumed
        assert privacy.event_from_dict(recorded["event"]) == plan.event
        other = create(*CASES[name], noise_multiplier=1.5)
        words = r"noise_multiplier was 1\.25, is now 1\.5"
        with pytest.raises(UserError, match=words):
            start(tmp_path, other)

    def test_fields_that_do_not_belong_together_are_no_plan(self, name):
        plan = create(*CASES[name])
        with pytest.raises(ValueError, match="the event of"):
            dataclasses.replace(plan, noise_multiplier=0.5)
        with pytest.raises(ValueError, match="the event of"):
            dataclasses.replace(plan, event=plan.event.with_noise(9.0))


def test_parameters_reach_the_events():
    tree = create("tree", "min_separation").event
    assert (tree.restart_every, tree.efficient) == (30, True)
    given = mechanisms.Tree(restart_every=8, tree_efficient=False)
    tree = create(given, "min_separation").event
    assert (tree.restart_every, tree.efficient) == (8, False)
    matrix = create("banded_matrix", "min_separation").event
    # 60 clients, 5 a round: 12 rounds apart.
    assert (matrix.rounds, matrix.bands, matrix.min_separation) == (30, 12, 12)
    assert create("banded_matrix", "min_separation", rounds=7).event.bands == 7


def test_distributed_noise_is_for_the_model_and_the_cohort():
    grid = create("discrete_gaussian", "full").grid
    assert (grid.dimension, grid.cohort_size, grid.minimum_cohort_size) == (100, 60, 60)
    assert grid.bits == 20
    with pytest.raises(ValueError, match="has no grid"):
        _ = create().grid
    with pytest.raises(ValueError, match="give model_dimension"):
        create("skellam", "full", model_dimension=None)


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ("fixed", ("fixed_size", "replace_one")),
        ("shuffled", ("none", "replace_one")),
        ("full", ("none", "zero_out")),
        ("min_separation", ("none", "zero_out")),
    ],
)
def test_neighbours_of_distributed_noise(sampler, expected):
    event = create("skellam", sampler).event
    assert (event.sampling, event.neighbouring_relation) == expected


def test_defaults():
    plan = create(delta=None, target_epsilon=3, noise_multiplier=None)
    assert plan.delta == privacy.default_delta(60)
    assert plan.accountant == "pld"
    assert plan.expected_cohort_size == 6
    assert create("skellam", "full").accountant == "rdp"
    assert create(expected_cohort_size=4.5).expected_cohort_size == 4.5


def test_a_large_delta_is_warned_of():
    with pytest.warns(UserWarning, match="at least 1/clients"):
        create(delta=0.1)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (
            {"mechanism": "skellam", "sampler": "full", "accountant": "pld"},
            ["--accountant=pld", "give --accountant=rdp"],
        ),
        ({"accountant": "gdp"}, ["--accountant=gdp", "accountant must be one of"]),
        (
            {
                "mechanism": mechanisms.BandedMatrix(bands=13),
                "sampler": "min_separation",
            },
            ["--mechanism=banded_matrix", "bands must be at most"],
        ),
        (
            {"mechanism": "tree"},
            ["--mechanism=tree", "but poisson sampling does not"],
        ),
        (
            {"mechanism": mechanisms.Skellam(modulus_bits=3), "sampler": "full"},
            ["--modulus_bits=3", "--noise_multiplier=1.25", "raise bits"],
        ),
        (
            {
                "mechanism": mechanisms.Skellam(minimum_cohort_size=61),
                "sampler": "full",
            },
            ["--minimum_cohort_size=61", "so no round would release anything"],
        ),
        (
            {"target_epsilon": 1e-9, "delta": 1e-12},
            ["--target_epsilon=1e-09", "raise the target"],
        ),
        (
            {"mechanism": "adaptive_gaussian"},
            ["--mechanism=adaptive_gaussian", "--cohort_size=13 or more"],
        ),
        (
            {"mechanism": mechanisms.AdaptiveGaussian(clipped_count_stddev=0.5)},
            ["--clipped_count_stddev=0.5", "above half the noise multiplier, 0.625"],
        ),
        (
            {"noise_multiplier": 1.0, "target_epsilon": 3},
            ["--target_epsilon=3", "already decides the noise"],
        ),
        (
            {"noise_multiplier": None},
            ["--noise_multiplier or --target_epsilon is missing"],
        ),
        ({"noise_multiplier": -1.0}, ["--noise_multiplier=-1.0", "at least 0"]),
        ({"noise_multiplier": 1e7}, ["--noise_multiplier=", "at most 1e+06"]),
        ({"target_epsilon": 0.0}, ["--target_epsilon=0", "above 0"]),
        (
            {"target_epsilon": 3.0, "budget_epsilon": 2.0},
            ["--budget_epsilon=2", "is below --target_epsilon=3"],
        ),
        (
            {"budget_epsilon": 0.1},
            ["--budget_epsilon=0.1", "the first round alone costs ε = "],
        ),
        ({"delta": 1.0}, ["--delta=1", "below 1"]),
        ({"l2_norm_clip": 0.0}, ["--l2_norm_clip=0", "above 0"]),
        ({"rounds": 0}, ["--rounds=0", "at least 1"]),
        ({"mechanism": "laplace"}, ["--mechanism=laplace", "must be one of gaussian"]),
    ],
)
def test_what_does_not_fit(arguments, fragments):
    with pytest.raises(SettingError) as raised:
        create(**arguments)
    for fragment in fragments:
        assert fragment in raised.value.for_command_line
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"l2_norm_clip": 0.75}, "l2_norm_clip was 0.5, is now 0.75"),
        ({"noise_multiplier": 0.0}, "noise_multiplier was 1.25, is now 0"),
        ({"delta": 1e-4}, "delta was 0.001, is now 0.0001"),
        ({"accountant": "rdp"}, "accountant was pld, is now rdp"),
        ({"sampler": "fixed"}, "sampling.kind was poisson, is now fixed_size"),
        (
            {"mechanism": mechanisms.BoundedWeight(expected_client_weight=0.5)},
            "mechanism.expected_client_weight was not set, is now 0.5",
        ),
        ({"expected_cohort_size": 3}, "expected_cohort_size was 6, is now 3"),
    ],
)
def test_a_resumed_run_is_told_what_changed(tmp_path, change, words):
    start(tmp_path, create())
    with pytest.raises(UserError) as raised:
        start(tmp_path, create(**change))
    assert words in str(raised.value)
    assert "another privacy plan" in str(raised.value)


def test_more_rounds_and_another_budget_are_the_same_plan(tmp_path):
    start(tmp_path / "gaussian", create())
    assert start(tmp_path / "gaussian", create(rounds=60, budget_epsilon=90)).resumed
    # A tree that never restarts spans the rounds of the run.
    start(tmp_path / "tree", create("tree", "min_separation"))
    longer = create("tree", "min_separation", rounds=60)
    with pytest.raises(UserError, match=r"event\.restart_every was 30, is now 60"):
        start(tmp_path / "tree", longer)


def test_statement_notes():
    notes = create().statement_notes("all clients weigh the same")
    assert notes == [
        "Mechanism gaussian: fixed clip, independent Gaussian noise each round "
        "(McMahan et al. 2018, arXiv 1710.06963).",
        "Clipping and weights: l2 norm clip 0.5; all clients weigh the same; the sum "
        "is divided by the expected cohort size, 6.",
    ]
    bounded = mechanisms.BoundedWeight(clipped_denominator=True)
    (_, said) = create(bounded).statement_notes("w")
    assert "divided by the sum of weights, at least 6" in said
    (_, said) = create("adaptive_gaussian", "full").statement_notes("w")
    assert "the l2 norm clip starts at 0.5 and follows a quantile" in said
    assert len(create("skellam", "full").statement_notes("w")) == 5


@pytest.mark.parametrize(
    ("mechanism", "sampler", "weighting", "words"),
    [
        ("gaussian", "cyclic_poisson", "uniform", "does not cover --sampler=cyclic"),
        ("gaussian", "poisson", "capped", "or --mechanism=bounded_weight"),
        ("bounded_weight", "poisson", "uniform", "give --client_weighting=capped"),
        ("skellam", "full", "capped", "give --client_weighting=uniform"),
    ],
)
def test_cohorts_that_a_mechanism_does_not_take(mechanism, sampler, weighting, words):
    with pytest.raises(SettingError) as raised:
        privacy.MECHANISMS.resolve(mechanism).check_cohorts(sampler, weighting)
    assert words in raised.value.for_command_line


def test_a_clipped_denominator_needs_poisson_cohorts():
    bounded = mechanisms.BoundedWeight(clipped_denominator=True)
    bounded.check_cohorts("poisson", "capped")
    with pytest.raises(SettingError, match=r"^clipped_denominator=True: is analysed"):
        bounded.check_cohorts("fixed", "capped")
    with pytest.raises(SettingError, match="analysed for Poisson cohorts"):
        bounded.check_devices(20)


@pytest.mark.parametrize("name", privacy.MECHANISMS.names())
def test_devices(name):
    mechanism = privacy.MECHANISMS.resolve(name)
    if name in ("tree", "banded_matrix", "discrete_gaussian", "skellam"):
        with pytest.raises(SettingError) as raised:
            mechanism.check_devices(20)
        assert f"--devices=20: {name} " in raised.value.for_command_line
    else:
        mechanism.check_devices(20)


def test_facts_of_a_mechanism_are_checked_when_it_is_registered():
    class Wrong(privacy.MechanismSettings):
        NAME, SAMPLERS, NOISED_AT = "wrong", ("full",), "nowhere"

    with pytest.raises(ValueError, match="NOISED_AT of Wrong must be one of"):
        privacy.register_mechanism(Wrong)
    Wrong.NOISED_AT, Wrong.WEIGHTINGS = "server", ("uniform", "examples")
    with pytest.raises(ValueError, match="example counts have no bound"):
        privacy.register_mechanism(Wrong)
    Wrong.WEIGHTINGS, Wrong.SAMPLERS = ("uniform",), ()
    with pytest.raises(ValueError, match="must name the SAMPLERS"):
        privacy.register_mechanism(Wrong)
    Wrong.SAMPLERS, Wrong.NAME = ("full",), "gaussian"
    with pytest.raises(ValueError, match="'gaussian' is already registered"):
        privacy.register_mechanism(Wrong)
    assert "wrong" not in privacy.MECHANISMS


def test_no_noise_costs_everything():
    plan = create(noise_multiplier=0.0)
    assert privacy.EpsilonCurve(plan.event, 1e-3).at(1) == math.inf


def test_plans_need_no_tensorflow():
    code = (
        "import sys\n"
        "from tfl_research import privacy, sampling\n"
        "privacy.UserLevelPlan.create('skellam', l2_norm_clip=1, rounds=3,\n"
        "    amplification=sampling.Full(range(9)).amplification,\n"
        "    noise_multiplier=1, model_dimension=lambda: 10)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
