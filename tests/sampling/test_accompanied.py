"""Participants beside the clients of every cohort."""

import pytest

from tfl_research import sampling

CLIENTS = tuple(f"c{i}" for i in range(6))


def test_they_are_in_every_cohort_and_in_no_size():
    inner = sampling.Poisson(CLIENTS, 1.0, seed=1)
    accompanied = sampling.Accompanied(inner, ("root",))
    for round_number in range(1, 20):
        cohort = inner.sample(round_number)
        assert accompanied.sample(round_number) == (*cohort, "root")
    assert any(accompanied.sample(r) == ("root",) for r in range(1, 20))
    for name in (
        "client_ids",
        "expected_cohort_size",
        "maximum_cohort_size",
        "minimum_cohort_size",
        "amplification",
    ):
        assert getattr(accompanied, name) == getattr(inner, name)


def test_a_client_cannot_be_beside_the_clients():
    with pytest.raises(ValueError, match="beside: 'c2' is also the name of a client"):
        sampling.Accompanied(sampling.Full(CLIENTS), ("c2",))
