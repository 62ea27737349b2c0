"""What the settings of privacy accept, refuse and build, without TensorFlow."""

from __future__ import annotations

import pytest
from refused_settings import refused

from tfl_research.experiment.configs import (
    Audit,
    Batches,
    RecordLevelPrivacy,
    UserLevelPrivacy,
    Weighting,
)
from tfl_research.privacy import mechanisms


class TestUserLevelPrivacy:
    def test_exactly_one_of_noise_and_epsilon(self):
        assert refused(UserLevelPrivacy) == (
            "--noise_multiplier or --target_epsilon is missing; give one of them"
        )
        assert refused(
            lambda: UserLevelPrivacy(noise_multiplier=1, target_epsilon=2)
        ) == (
            "--target_epsilon=2: already decides the noise; leave it or "
            "--noise_multiplier out"
        )
        assert UserLevelPrivacy(noise_multiplier=0).target_epsilon is None

    @pytest.mark.parametrize("delta", [0, 1, -0.1, 1.5])
    def test_delta_is_a_probability(self, delta):
        for build in (
            lambda: UserLevelPrivacy(noise_multiplier=1.0, delta=delta),
            lambda: RecordLevelPrivacy(record_noise_multiplier=1, record_delta=delta),
        ):
            assert refused(build, "must be a number, above 0 and below 1").startswith(
                ("--delta=", "--record_delta=")
            )

    def test_a_budget_below_the_target(self):
        assert refused(
            lambda: UserLevelPrivacy(target_epsilon=3, budget_epsilon=2)
        ) == (
            "--budget_epsilon=2: is below --target_epsilon=3, so the run would stop "
            "early; leave it out or raise it"
        )
        assert UserLevelPrivacy(target_epsilon=3, budget_epsilon=3).budget_epsilon == 3

    @pytest.mark.parametrize(
        ("noise", "words"),
        [
            (1e-200, "must be 0, for no noise, or at least 1e-100"),
            (1e300, "at most 1e+06"),
            (-1, "at least 0"),
        ],
    )
    def test_noise_that_no_arithmetic_bears(self, noise, words):
        refused(
            lambda: UserLevelPrivacy(noise_multiplier=noise),
            f"--noise_multiplier={noise:g}: ",
            words,
        )
        refused(
            lambda: RecordLevelPrivacy(record_noise_multiplier=noise),
            f"--record_noise_multiplier={noise:g}: ",
            words,
        )

    def test_a_mechanism_by_name_or_by_its_settings(self):
        given = UserLevelPrivacy("tree", noise_multiplier=1.0)
        assert given == UserLevelPrivacy(mechanisms.Tree(), noise_multiplier=1.0)
        assert given.chosen == mechanisms.Tree()
        refused(
            lambda: UserLevelPrivacy("laplace", noise_multiplier=1),
            "--mechanism=laplace: must be one of gaussian, adaptive_gaussian",
        )

    @pytest.mark.parametrize("wrong", [3, None, ("tree",), mechanisms.Tree])
    def test_what_is_no_mechanism(self, wrong):
        refused(
            lambda: UserLevelPrivacy(wrong, noise_multiplier=1.0),
            "mechanism must be a name or MechanismSettings, got ",
        )


class TestRecordLevelPrivacy:
    def test_refusals(self):
        assert refused(RecordLevelPrivacy) == (
            "--record_noise_multiplier or --record_target_epsilon is missing; give one "
            "of them"
        )
        assert refused(
            lambda: RecordLevelPrivacy(
                record_noise_multiplier=1, record_target_epsilon=2
            )
        ) == (
            "--record_target_epsilon=2: already decides the noise; leave it or "
            "--record_noise_multiplier out"
        )
        refused(
            lambda: RecordLevelPrivacy(
                record_target_epsilon=3, record_budget_epsilon=2
            ),
            "--record_budget_epsilon=2: is below --record_target_epsilon=3",
        )

    def test_steps_of_a_round(self):
        privacy = RecordLevelPrivacy(record_noise_multiplier=1)
        assert privacy.steps(Batches()) == 10
        assert privacy.steps(Batches(client_steps=3)) == 3


def test_the_unit_of_canaries_weights():
    assert Audit().weight_unit(Weighting("uniform")) == 1
    assert Audit().weight_unit(Weighting("capped", 30)) == 30
