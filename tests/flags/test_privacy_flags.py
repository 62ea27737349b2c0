"""Flags of differential privacy: what fits together, and the numbers derived."""

from __future__ import annotations

import pytest

from tfl_research.flags import (
    FlagError,
    MechanismFlags,
    PrivacyFlags,
    SamplerFlags,
    WeightingFlags,
)
from tfl_research.flags.cohort_flags import SAMPLERS
from tfl_research.privacy.mechanisms.catalogue import CATALOGUE, MECHANISMS

UNIFORM, CAPPED = WeightingFlags("uniform"), WeightingFlags("capped", 10)


def refused(build, *fragments: str) -> None:
    with pytest.raises(FlagError) as raised:
        build()
    for fragment in fragments:
        assert fragment in str(raised.value)
    assert "\n" not in str(raised.value)


def sampled(name: str) -> SamplerFlags:
    separation = 4 if name == "cyclic_poisson" else None
    return SamplerFlags(name, min_separation=separation)


def test_exactly_one_of_noise_and_epsilon():
    refused(lambda: PrivacyFlags(), "--noise_multiplier", "--target_epsilon")
    refused(
        lambda: PrivacyFlags(noise_multiplier=1, target_epsilon=2), "--target_epsilon=2"
    )
    assert PrivacyFlags(noise_multiplier=1).target_epsilon is None


@pytest.mark.parametrize("delta", [0, 1, -0.1, 1.5])
def test_delta_is_a_probability(delta):
    refused(lambda: PrivacyFlags(1.0, delta=delta), "--delta=", "above 0 and below 1")


def test_a_budget_below_the_target_is_refused():
    refused(
        lambda: PrivacyFlags(target_epsilon=3, budget_epsilon=2),
        "--budget_epsilon=2",
        "--target_epsilon=3",
    )
    assert PrivacyFlags(target_epsilon=3, budget_epsilon=3).budget_epsilon == 3


@pytest.mark.parametrize("name", MECHANISMS)
def test_example_counts_are_refused_and_the_way_out_named(name):
    refused(
        lambda: MechanismFlags(name).check_with(
            sampled("full"), WeightingFlags("examples")
        ),
        "--client_weighting=examples",
        "--client_weighting=capped",
    )


# Samplers that a mechanism's account covers, by weights that it takes.
FITTING = {
    "gaussian": ("poisson fixed shuffled full min_separation", "uniform"),
    "adaptive_gaussian": (
        "poisson fixed shuffled full min_separation",
        "uniform capped",
    ),
    "bounded_weight": ("poisson fixed shuffled full min_separation", "capped"),
    "tree": ("shuffled full min_separation", "uniform capped"),
    "banded_matrix": ("min_separation cyclic_poisson", "uniform capped"),
    "discrete_gaussian": ("fixed shuffled full min_separation", "uniform"),
    "skellam": ("fixed shuffled full min_separation", "uniform"),
    "local_gaussian": (
        "poisson fixed shuffled full min_separation cyclic_poisson",
        "uniform capped",
    ),
}


def test_every_mechanism_is_in_the_table():
    assert tuple(FITTING) == MECHANISMS == tuple(CATALOGUE)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("weighting", [UNIFORM, CAPPED], ids=["uniform", "capped"])
@pytest.mark.parametrize("name", MECHANISMS)
def test_mechanism_by_sampler_by_weights(name, weighting, sampler):
    samplers, weightings = (words.split() for words in FITTING[name])
    flags = MechanismFlags(name)

    def check():
        flags.check_with(sampled(sampler), weighting)

    if weighting.client_weighting not in weightings:
        refused(check, f"--mechanism={name}", "--client_weighting=")
    elif sampler not in samplers:
        refused(check, f"--mechanism={name}", f"--sampler={sampler}", samplers[0])
    else:
        check()


OWN_FLAGS = {
    "target_unclipped_quantile": (0.5, ["adaptive_gaussian"]),
    "clip_learning_rate": (0.5, ["adaptive_gaussian"]),
    "clipped_count_stddev": (0.5, ["adaptive_gaussian"]),
    "expected_client_weight": (0.5, ["bounded_weight"]),
    "clipped_denominator": (False, ["bounded_weight"]),
    "restart_every": (8, ["tree"]),
    "tree_efficient": (False, ["tree"]),
    "bands": (4, ["banded_matrix"]),
    "modulus_bits": (16, ["discrete_gaussian", "skellam"]),
    "minimum_cohort_size": (3, ["discrete_gaussian", "skellam"]),
}


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize("field", OWN_FLAGS)
def test_flags_of_another_mechanism_are_refused(field, name):
    value, owners = OWN_FLAGS[field]
    if name in owners:
        assert getattr(MechanismFlags(name, **{field: value}), field) == value
    else:
        refused(
            lambda: MechanismFlags(name, **{field: value}),
            f"--{field}={value}",
            f"--mechanism={owners[0]}",
        )


def test_the_clipped_denominator_is_for_poisson_cohorts():
    flags = MechanismFlags("bounded_weight", clipped_denominator=True)
    flags.check_with(sampled("poisson"), CAPPED)
    refused(
        lambda: flags.check_with(sampled("full"), CAPPED),
        "--clipped_denominator=True",
        "--sampler=poisson",
    )


def test_adaptive_clipping_needs_a_cohort_above_ten_times_the_noise():
    adaptive = MechanismFlags("adaptive_gaussian")
    assert adaptive.count_stddev_for(40) == 2.0
    # 2 sigma_b = cohort / 10 must be above z = 1: 10 clients fail, 11 do not.
    refused(lambda: adaptive.check_adaptive(1.0, 10), "--cohort_size=11", "above 0.5")
    adaptive.check_adaptive(1.0, 11)
    MechanismFlags().check_adaptive(1.0, 1)


def test_adaptive_clipping_with_a_count_noise_of_ones_own():
    adaptive = MechanismFlags("adaptive_gaussian", clipped_count_stddev=0.5)
    refused(
        lambda: adaptive.check_adaptive(1.0, 1000), "--clipped_count_stddev=0.5", "0.5"
    )
    adaptive.check_adaptive(0.99, 1)


class TestSeparation:
    IDS = tuple(f"client_{number}" for number in range(20))

    def test_only_separating_samplers_take_it(self):
        refused(lambda: SamplerFlags("poisson", min_separation=3), "--min_separation=3")
        refused(lambda: SamplerFlags("cyclic_poisson"), "--min_separation")

    def test_samplers_are_built(self):
        largest = SamplerFlags("min_separation", 3).build(self.IDS, 1)
        assert largest.amplification.min_separation == 6
        given = SamplerFlags("min_separation", 3, min_separation=2).build(self.IDS, 1)
        assert given.amplification.min_separation == 2
        cyclic = SamplerFlags("cyclic_poisson", 2.5, min_separation=4)
        assert cyclic.build(self.IDS, 1).amplification.kind == "cyclic_poisson"

    def test_a_population_that_is_too_small_for_it(self):
        for name in ("min_separation", "cyclic_poisson"):
            flags = SamplerFlags(name, 5, min_separation=5)
            refused(
                lambda flags=flags: flags.build(self.IDS, 1),
                "--min_separation=5",
                "at most 4",
                "--cohort_size",
            )
