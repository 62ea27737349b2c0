"""The noise of every mechanism is measured, and held against the plan."""

from __future__ import annotations

import collections
import dataclasses
import math

import numpy as np
import pytest
import tensorflow_federated as tff

from tfl_research import aggregators, privacy, runtime, sampling
from tfl_research.errors import SettingError
from tfl_research.privacy import mechanisms
from tfl_research.privacy.audit import sabotage
from tfl_research.privacy.mechanisms import (
    distributed_sum,
    local_gaussian,
    local_rule,
    noised_sum,
)
from tfl_research.privacy.mechanisms.noise import client_seeds, noise_tables
from tfl_research.privacy.plans import plan as plan_module, probe

SIZE = 20
VALUE = tff.StructWithPythonType([(None, tff.TensorType(np.float32, [SIZE]))], tuple)
SEPARATED = sampling.MinSeparation(range(8), 2, seed=1).amplification
FULL = sampling.Full(range(4)).amplification
POISSON = sampling.Poisson(range(8), 2, seed=1).amplification
MECHANISMS = {
    "gaussian": (mechanisms.Gaussian(), POISSON),
    "adaptive_gaussian": (mechanisms.AdaptiveGaussian(clipped_count_stddev=1), POISSON),
    "bounded_weight": (mechanisms.BoundedWeight(expected_client_weight=0.5), POISSON),
    "clipped_denominator": (
        mechanisms.BoundedWeight(clipped_denominator=True),
        POISSON,
    ),
    "tree": (mechanisms.Tree(), SEPARATED),
    "banded_matrix": (mechanisms.BandedMatrix(), SEPARATED),
    "discrete_gaussian": (mechanisms.DiscreteGaussian(), FULL),
    "skellam": (mechanisms.Skellam(), FULL),
    "local_gaussian": (mechanisms.LocalGaussian(), FULL),
    "local_rule": (mechanisms.LocalGaussian(), FULL),
}
# z = 1.5, clip 0.5, by hand.
UNIT = 1.5 * 0.5


def plan_of(name, **changes):
    mechanism, amplification = MECHANISMS[name]
    settings = {
        "l2_norm_clip": 0.5,
        "amplification": amplification,
        "rounds": 4,
        "noise_multiplier": 1.5,
        "delta": 1e-3,
        "model_dimension": lambda: SIZE,
        **changes,
    }
    return privacy.UserLevelPlan.create(mechanism, **settings)


def context_of(name):
    rule = aggregators.mean() if name == "local_rule" else None
    return privacy.MechanismContext(noise_seed=2**100 + 3, rule=rule)


def measured(aggregator, rounds=2, clients=4):
    """The metrics of the last of some rounds, as a process gives them."""
    members = aggregator.client_members
    weight_type = tff.TensorType(np.float32)
    if members:
        weight_type = client_seeds.seeded_weight_type()
    aggregation = aggregator.create(VALUE, weight_type)

    @tff.federated_computation(
        aggregation.initialize.type_signature.result,
        tff.FederatedType(
            tff.StructWithPythonType(
                [("value", VALUE), ("weight", weight_type)], collections.OrderedDict
            ),
            tff.CLIENTS,
        ),
    )
    def next_round(state, cohort):
        output = aggregation.next(state, cohort["value"], cohort["weight"])
        return output.state, tff.federated_zip((output.result, output.measurements))

    process = tff.templates.IterativeProcess(aggregation.initialize, next_round)
    cohort = []
    for number in range(clients):
        weight = np.float32(1)
        if members:
            seed = np.array([number, 5], np.int32)
            weight = collections.OrderedDict(weight=weight, seed=seed)
        value = (np.full(SIZE, 0.01, np.float32),)
        cohort.append(collections.OrderedDict(value=value, weight=weight))
    with runtime.in_process(process, mode=runtime.Mode("folded", "graph")) as engine:
        state = engine.initialize()
        for _ in range(rounds):
            state, (_, found) = engine.next(state, cohort)
    return {"train": {}, "aggregator": found}


@pytest.fixture(scope="module", params=MECHANISMS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def metrics(name):
    return measured(plan_of(name).build(context_of(name)).aggregator)


class TestWhatIsMeasured:
    def test_is_what_the_plan_declares(self, name, metrics):
        plan = plan_of(name)
        plan.check_measured(metrics)
        found = plan_module.measured_scalars(metrics)
        # Of 4 clients with noise of their own, over 4; a distributed grid rounds.
        expected = {
            "gaussian": UNIT / 2,
            "tree": UNIT / 2,
            "banded_matrix": UNIT / 2,
            "bounded_weight": UNIT / 1,
            "clipped_denominator": 2 * UNIT / 2,
            "local_gaussian": UNIT * math.sqrt(4) / 4,
        }
        if name in expected:
            assert found["noise_stddev"] == pytest.approx(expected[name], rel=1e-6)
        elif name == "local_rule":
            assert found["client_noise_stddev"] == pytest.approx(UNIT, rel=1e-6)
        elif name == "adaptive_gaussian":
            # z_Δ = (1.5^-2 - 2^-2)^(-1/2), and the clip has moved from 0.5.
            noise = (1.5**-2 - 2**-2) ** -0.5
            assert found["clip_norm"] != 0.5
            stddev = noise * found["clip_norm"] / 2
            assert found["noise_stddev"] == pytest.approx(stddev, rel=1e-5)
            assert found["clipped_count_stddev"] == 1
        else:
            # The shares of 4 clients together are z times the sensitivity, which is
            # the clip and what rounding adds.
            grid = plan.grid
            quantum = 0.5 / grid.clip_quanta
            stddev = 1.5 * grid.l2_sensitivity * quantum / 4
            assert found["noise_stddev"] == pytest.approx(stddev, rel=1e-5)

    @pytest.mark.parametrize("other", [1.5 * 0.99, 1.5 * 1.01, 0.0])
    def test_other_noise_is_refused(self, name, metrics, other):
        with pytest.raises(SettingError) as raised:
            plan_of(name, noise_multiplier=other).check_measured(metrics)
        line = raised.value.for_command_line
        assert line.startswith(f"--mechanism={plan_of(name).mechanism.NAME}: ")
        assert "the plan declares" in line
        assert "not the noise that is charged" in line

    def test_another_clip_is_refused(self, name, metrics):
        # An adaptive clip is measured, and the noise belongs to it.
        plan = plan_of(name, l2_norm_clip=0.25)
        if name == "adaptive_gaussian":
            plan.check_measured(metrics)
            return
        with pytest.raises(SettingError, match="the round measured"):
            plan.check_measured(metrics)

    def test_nothing_measured_is_refused(self, name):
        for nothing in ({}, {"aggregator": {}}, {"aggregator": {"clip_norm": 0.5}}):
            with pytest.raises(SettingError):
                plan_of(name).check_measured(nothing)

    def test_the_aggregator_carries_its_plan(self, name):
        plan = plan_of(name)
        built = plan.build(context_of(name))
        assert built.plan is plan
        assert built.aggregator.plan is plan


def halved(function):
    """The function with its keyword `stddev` halved."""

    def changed(*arguments, stddev, **others):
        return function(*arguments, stddev=stddev / 2, **others)

    return changed


@pytest.mark.parametrize("name", MECHANISMS)
def test_a_mechanism_that_scales_its_noise_down_is_stopped(name, monkeypatch):
    """Changes the aggregators' own numbers behind the plan's back."""
    plan, context = plan_of(name), context_of(name)
    real = noised_sum.NoisedSumFactory

    def less_noise(**settings):
        settings["value_noise_multiplier"] /= 2
        return real(**settings)

    for module in (mechanisms.independent, mechanisms.correlated_mechanisms):
        monkeypatch.setattr(module, "NoisedSumFactory", less_noise)
    table = noise_tables.noise_table
    monkeypatch.setattr(
        distributed_sum, "noise_table", lambda kind, stddev: table(kind, stddev / 2)
    )
    for factory in (
        local_gaussian.LocalGaussianFactory,
        local_rule.LocallyNoisedFactory,
    ):
        original = factory.__init__

        def initialise(self, *arguments, original=original, **others):
            original(self, *arguments, **others)
            object.__setattr__(self, "noise_multiplier", self.noise_multiplier / 2)

        monkeypatch.setattr(factory, "__init__", initialise)
    with pytest.raises(SettingError, match="not the noise that is charged"):
        plan.check_measured(measured(plan.build(context).aggregator, rounds=1))


def test_less_noise_on_the_clipped_count_is_stopped(monkeypatch):
    plan = plan_of("adaptive_gaussian")
    built = plan.build(context_of("adaptive_gaussian")).aggregator
    adaptation = dataclasses.replace(built.inner.adaptation, count_stddev=0.5)
    inner = dataclasses.replace(built.inner, adaptation=adaptation)
    found = measured(dataclasses.replace(built, inner=inner), rounds=1)
    with pytest.raises(SettingError, match="clipped_count_stddev = 1, but the round"):
        plan.check_measured(found)


def test_a_mechanism_that_is_sabotaged_for_an_audit_is_stopped():
    """An audit looks at sabotaged mechanisms; a run that is not audited must not."""
    built = plan_of("gaussian").build(context_of("gaussian")).aggregator
    broken = sabotage.sabotaged(built, "noise_off")
    assert broken.plan is built.plan
    with pytest.raises(SettingError, match="but the round measured 0: the noise"):
        built.plan.check_measured(measured(broken, rounds=1))


def test_an_empty_cohort_is_no_mismatch():
    for name in ("gaussian", "skellam", "local_gaussian", "local_rule"):
        plan = plan_of(name)
        found = measured(plan.build(context_of(name)).aggregator, 1, clients=0)
        plan.check_measured(found)


def test_a_rule_in_place_of_a_noised_sum_is_refused():
    context = privacy.MechanismContext(noise_seed=1, rule=aggregators.mean())
    with pytest.raises(SettingError, match="adds noise to a sum"):
        plan_of("gaussian").build(context)


class TestAccount:
    def test_offers_the_plans_check(self, tmp_path, metrics, name):
        with privacy.Ledger(tmp_path / "ledger.jsonl") as ledger:
            account = privacy.RoundAccount(ledger, plan_of(name))
            account.check_measured(metrics)
            other = plan_of(name, noise_multiplier=1.4)
            with pytest.raises(SettingError, match="declares"):
                privacy.RoundAccount(ledger, other).check_measured(metrics)


class TestChiSquare:
    def test_bounds_by_the_distribution_of_two_squares(self):
        """n = 2: s²·2/σ² is exponential with mean 2, in closed form."""
        low, high = probe.stddev_bounds(3.0, 2, false_alarm=0.02)
        assert low == pytest.approx(3 * math.sqrt(-math.log(0.99)), rel=1e-12)
        assert high == pytest.approx(3 * math.sqrt(-math.log(0.01)), rel=1e-12)

    def test_bounds_of_many_by_the_normal_distribution(self):
        """Wilson and Hilferty 1931: (χ²/n)^(1/3) is about N(1 - 2/(9n), 2/(9n))."""
        n, z = 1 << 16, 6.1094  # 1e-9 in two tails
        low, high = probe.stddev_bounds(1.0, n)
        for found, sign in ((low, -1), (high, 1)):
            cube = 1 - 2 / (9 * n) + sign * z * math.sqrt(2 / (9 * n))
            assert found == pytest.approx(math.sqrt(cube**3), rel=1e-5)
        assert (low, high) == pytest.approx((0.98310, 1.01686), abs=1e-4)

    def test_samples(self):
        sample = np.random.default_rng(0).normal(0, 2.0, 1 << 16)
        probe.check_sample(sample, 2.0)
        for declared in (1.96, 2.04):
            with pytest.raises(ValueError, match="have a root mean square of"):
                probe.check_sample(sample, declared)
        # A mean is noise that was not declared, too.
        with pytest.raises(ValueError, match="root mean square"):
            probe.check_sample(sample + 0.5, 2.0)
        probe.check_sample(np.zeros(100), 0.0)
        with pytest.raises(ValueError, match="declared standard deviation of 0 "):
            probe.check_sample(np.full(100, 1e-3), 0.0)

    def test_false_alarms_are_as_rare_as_stated(self):
        generator, refused = np.random.default_rng(5), 0
        for _ in range(2000):
            try:
                probe.check_sample(generator.normal(size=50), 1.0, false_alarm=0.05)
            except ValueError:
                refused += 1
        # Binomial with mean 100 and standard deviation 9.7.
        assert 60 < refused < 140


@pytest.mark.usefixtures("on_a_worker")
class TestProbe:
    @pytest.mark.parametrize(
        "name", ["gaussian", "clipped_denominator", "tree", "skellam", "local_gaussian"]
    )
    def test_built_in_mechanisms_pass(self, name):
        plan = plan_of(name, model_dimension=lambda: probe.COORDINATES)
        context = dataclasses.replace(context_of(name), secure=False)
        found = probe.probe_noise(plan.build(context))
        assert found > 0

    def test_noise_that_is_smaller_than_measured_is_found(self, monkeypatch):
        """A noise process that halves its draws says nothing of it."""
        plan = plan_of("gaussian")
        honest = noised_sum.IndependentNoise.next

        def halving(self, state, seed, round_number, like):
            drawn, state = honest(self, state, seed, round_number, like)
            return [part / 2 for part in drawn], state

        monkeypatch.setattr(noised_sum.IndependentNoise, "next", halving)
        built = plan.build(context_of("gaussian"))
        with pytest.raises(SettingError) as raised:
            probe.probe_noise(built)
        assert "have a root mean square of 0.18" in str(raised.value)
        assert "declared standard deviation of 0.375" in str(raised.value)
