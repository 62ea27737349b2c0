"""What finitely many random bits add to δ."""

from __future__ import annotations

import decimal
import math
from decimal import Decimal
from fractions import Fraction

import pytest

from tfl_research import data, privacy, sampling
from tfl_research.privacy.accounting.sampler_rest import (
    Draws,
    RunSize,
    sampler_delta,
)
from tfl_research.privacy.mechanisms.noise import noise_tables

SIZE = RunSize(dimension=100, rounds=7, clients=5)
COUNTED = [
    ("gaussian", Draws(normal=7 * 101)),
    ("adaptive_gaussian", Draws(normal=7 * 101)),
    ("bounded_weight", Draws(normal=7 * 101)),
    ("local_gaussian", Draws(normal=7 * 5 * 101)),
    ("tree", Draws(normal=2 * 7 * 100)),
    ("banded_matrix", Draws(normal=7 * 101)),
    ("discrete_gaussian", Draws(integers=7 * 5 * 128)),
    ("skellam", Draws(integers=7 * 5 * 128)),
]


def test_by_hand():
    assert sampler_delta(Draws(normal=2**50), 0.0) == 2.0 * 2.0**-20
    assert sampler_delta(Draws(integers=2**41), 0.0) == 2.0 * 2.0**-20
    both = sampler_delta(Draws(2**50, 2**41), math.log(3.0))
    assert both == pytest.approx(4 * 2 * 2.0**-20)
    assert sampler_delta(Draws(), 50.0) == 0


@pytest.mark.parametrize("epsilon", [100.0, 1000.0, math.inf])
def test_never_above_one(epsilon):
    assert sampler_delta(Draws(normal=2**60), epsilon) == 1.0


def test_the_case_of_a_large_run_is_far_below_its_delta():
    """d = 1e6, T = 1500: with 32 bits the rest was 1.9e-3."""
    assert 0 < sampler_delta(Draws(normal=10**6 * 1500), 5.0) < 1e-9


@pytest.mark.parametrize(("mechanism", "expected"), COUNTED)
def test_draws_of_mechanisms(mechanism, expected):
    sampler = {
        "tree": sampling.Full(range(20)),
        "banded_matrix": sampling.MinSeparation(range(20), 5, seed=1),
        "discrete_gaussian": sampling.FixedSize(range(20), 5, seed=1),
        "skellam": sampling.FixedSize(range(20), 5, seed=1),
    }.get(mechanism, sampling.Poisson(range(20), 5, seed=1))
    chosen = privacy.MECHANISMS.resolve(mechanism)
    plan = privacy.UserLevelPlan.create(
        chosen,
        l2_norm_clip=0.5,
        amplification=sampler.amplification,
        rounds=7,
        noise_multiplier=1.0 if mechanism != "adaptive_gaussian" else 0.3,
        delta=1e-3,
        model_dimension=lambda: 100,
    )
    assert plan.draws(SIZE) == expected


def test_every_mechanism_is_counted():
    assert {name for name, _ in COUNTED} == set(privacy.MECHANISMS.names())


def test_draws_of_records():
    import numpy as np

    examples = {"x": np.zeros((8, 2), np.float32), "y": np.zeros(8, np.int32)}
    clients = data.ClientData.from_arrays(
        {str(number): examples for number in range(5)}
    ).with_batching(data.PoissonBatching(3, 4.0))
    plan = privacy.RecordLevelPlan.create(
        clients, l2_norm_clip=1.0, rounds=7, noise_multiplier=1.0, delta=1e-3
    )
    assert plan.draws(SIZE) == Draws(normal=7 * 5 * 3 * 100)


@pytest.mark.parametrize(
    ("mechanism", "stddev"),
    [
        (mechanism, stddev)
        for mechanism in ("discrete_gaussian", "skellam")
        for stddev in (0.4, 3.0, 20.0)
    ],
)
def test_tables_are_as_close_as_stated(mechanism, stddev):
    """Total variation from probabilities that are computed in whole numbers."""
    table = noise_tables.noise_table(mechanism, stddev)
    units = [0] * table.columns
    for column, (own, alias) in enumerate(
        zip(table.thresholds.tolist(), table.aliases.tolist())
    ):
        units[column] += own
        units[alias] += 2**62 - own
    drawn = [Fraction(unit, table.columns * 2**62) for unit in units]
    count = max(len(drawn), math.ceil(12 * stddev) + 40)
    exact = exact_sizes(mechanism, stddev, count)
    drawn += [Fraction(0)] * (count - len(drawn))
    distance = sum(abs(ours - theirs) for ours, theirs in zip(drawn, exact)) / 2
    assert float(distance) <= 2.0**-61
    # 53 bits are not close enough.
    rounded = sum(abs(Fraction(float(p)) - p) for p in exact) / 2
    assert stddev < 1 or float(rounded) > 2.0**-61


def exact_sizes(mechanism, stddev, count):
    """P(|X| = 0, 1, ...) to 60 digits, by sums that the tables do not use."""
    with decimal.localcontext(decimal.Context(prec=80)):
        scale = Decimal(stddev)
        if mechanism == "skellam":
            densities = [bessel(k, scale**2) for k in range(count)]
        else:
            densities = [(-(k**2) / (2 * scale**2)).exp() for k in range(count)]
        sizes = [densities[0], *(2 * density for density in densities[1:])]
        total = sum(sizes)
        return [Fraction(int(size / total * 2**180), 2**180) for size in sizes]


def bessel(order, value):
    """I_order(value) by its power series, all of whose terms are positive."""
    half = value / 2
    term = half**order / math.factorial(order)
    total, m = term, 0
    while term > total * Decimal(10) ** -70:
        m += 1
        term *= half * half / (m * (m + order))
        total += term
    return total
