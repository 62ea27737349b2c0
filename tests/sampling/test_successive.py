"""Cohorts of several samplers, one after another."""

from __future__ import annotations

import pytest

from tfl_research import sampling

IDS = tuple(str(number) for number in range(40))


def poisson(seed):
    return sampling.Poisson(IDS, 10, seed=seed)


def test_a_round_has_the_cohort_of_the_last_part_that_begins_before():
    first, second, third = map(poisson, (1, 2, 3))
    # The third part goes back to round 5.
    both = sampling.Successive(((0, first), (8, second), (4, third)))
    for number in range(1, 5):
        assert both.sample(number) == first.sample(number)
    for number in range(5, 12):
        assert both.sample(number) == third.sample(number)
    forward = sampling.Successive(((0, first), (8, second)))
    assert forward.sample(8) == first.sample(8)
    assert forward.sample(9) == second.sample(9)


def test_it_is_a_sampler_like_its_parts():
    part = poisson(2)
    both = sampling.Successive(((0, poisson(1)), (3, part)))
    for name in (
        "client_ids",
        "expected_cohort_size",
        "maximum_cohort_size",
        "minimum_cohort_size",
        "amplification",
    ):
        assert getattr(both, name) == getattr(part, name)


@pytest.mark.parametrize("parts", [(), ((2, poisson(1)),)])
def test_the_first_round_needs_a_part(parts):
    with pytest.raises(ValueError, match="must begin after 0 rounds"):
        sampling.Successive(parts)
