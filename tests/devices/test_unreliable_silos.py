"""Silos that are down, and rounds with too few of them."""

import numpy as np
import pytest

from tfl_research import sampling
from tfl_research.devices.silos import UnreliableSilos

SILOS = ("a", "b", "c", "d")


def test_a_round_with_too_few_silos_is_abandoned():
    sampler = UnreliableSilos(sampling.Full(SILOS), 0.5, minimum=3, seed=1)
    reported, abandoned = [], []
    for round_number in range(1, 201):
        found = sampler.outcome(round_number)
        assert found.selected == 4
        assert found == UnreliableSilos(
            sampling.Full(SILOS), 0.5, minimum=3, seed=1
        ).outcome(round_number)
        up = 4 - found.dropped_out
        assert found.abandoned == (up < 3)
        assert sampler.sample(round_number) == found.client_ids
        assert len(found.client_ids) == (0 if found.abandoned else up)
        assert sampler.abandoned_before(round_number) == sum(abandoned)
        reported.append(up)
        abandoned.append(found.abandoned)
    # 800 fair coins: beyond four standard deviations with probability 6e-5.
    assert abs(np.sum(reported) - 400) < 4 * np.sqrt(200)
    # 11/16 of the rounds have fewer than three.
    assert abs(np.sum(abandoned) - 137.5) < 4 * np.sqrt(200 * 11 / 16 * 5 / 16)


def test_nobody_is_down_without_drop_out():
    sampler = UnreliableSilos(sampling.Full(SILOS), 0.0, minimum=4)
    assert [sampler.sample(r) for r in (1, 2)] == [SILOS, SILOS]
    assert sampler.abandoned_before(50) == 0
    assert sampler.outcome(1).columns() == {
        "selected": 4,
        "dropped_out": 0,
        "abandoned": 0,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"drop_out": 1.0}, r"\[0, 1\), got 1"),
        ({"drop_out": 0.1, "minimum": 5}, "from 1 to 4, the largest cohort, got 5"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        UnreliableSilos(sampling.Full(SILOS), **arguments)


def test_no_separation_is_promised_where_rounds_are_abandoned():
    inner = sampling.MinSeparation(tuple("abcdef"), 2, 0, 3)
    sampler = UnreliableSilos(inner, 0.6, minimum=2)
    last, gaps, releases = {}, [], 0
    for round_number in range(1, 200):
        found = sampler.outcome(round_number)
        releases += not found.abandoned
        for client_id in found.client_ids:
            gaps.append(releases - last.get(client_id, -10))
            last[client_id] = releases
    assert min(gaps) == 1
    assert inner.amplification.min_separation == 3
    assert sampler.amplification.min_separation == 1
    assert sampler.amplification.kind == "none"


def test_a_silo_more_could_save_a_round_so_that_neighbours_are_zero_out():
    for inner, relation in (
        (sampling.Poisson(SILOS, 2.0, 0), "zero_out"),
        (sampling.Full(SILOS), "zero_out"),
        (sampling.FixedSize(SILOS, 2, 0), "replace_one"),
    ):
        sampler = UnreliableSilos(inner, 0.2, minimum=2)
        assert sampler.amplification.neighbouring_relation == relation
