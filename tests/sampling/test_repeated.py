"""Cohorts that stay for several rounds."""

import pytest

from tfl_research import sampling

CLIENTS = tuple(f"c{i}" for i in range(20))


def test_each_cohort_comes_so_many_times_in_a_row():
    inner = sampling.FixedSize(CLIENTS, 4, seed=2)
    repeated = sampling.Repeated(inner, 3)
    found = [repeated.sample(r) for r in range(1, 10)]
    assert found == [inner.sample(r) for r in (1, 1, 1, 2, 2, 2, 3, 3, 3)]
    for name in (
        "client_ids",
        "expected_cohort_size",
        "maximum_cohort_size",
        "minimum_cohort_size",
    ):
        assert getattr(repeated, name) == getattr(inner, name)


def test_nothing_is_amplified():
    inner = sampling.MinSeparation(CLIENTS, 4, 0, 5)
    amplification = sampling.Repeated(inner, 2).amplification
    assert amplification.kind == "none"
    assert amplification.sampling_rate == 1.0
    assert amplification.min_separation == amplification.rounds_per_epoch == 1


def test_wrong_arguments():
    with pytest.raises(ValueError, match="times must be at least 1, got 0"):
        sampling.Repeated(sampling.Full(CLIENTS), 0)
    with pytest.raises(ValueError, match="numbered from 1, got 0"):
        sampling.Repeated(sampling.Full(CLIENTS), 2).sample(0)
