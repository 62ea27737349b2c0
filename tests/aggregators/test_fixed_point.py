"""Fixed-point numbers of secure sums, against exact fractions."""

from __future__ import annotations

import fractions
import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from hypothesis import given, settings, strategies as st

from tfl_research import runtime
from tfl_research.aggregators import SumFormats
from tfl_research.aggregators.secure_sums import summation
from tfl_research.aggregators.secure_sums.formats import FixedPoint

GRAPH = runtime.Mode("folded", "graph")


class TestFormats:
    def test_by_hand(self):
        # 2^31 - 1 steps of the sum are 536870911 for each of 4 clients: with a bound
        # of 64 steps of 2^-22 are 268435456 of these, and of 2^-23 twice as many.
        numbers = FixedPoint.of(64.0, 4, 32)
        assert (numbers.fraction_bits, numbers.largest) == (22, 2**28)
        assert (numbers.step, numbers.bound, numbers.modulus) == (2**-22, 64, 2**32)
        assert numbers.largest_error(4) == 2**-21
        assert FixedPoint.of(64.0, 3, 32).fraction_bits == 23

    @given(
        bound=st.floats(1e-30, 1e30),
        clients=st.integers(1, 10**6),
        bits=st.integers(28, 62),
    )
    def test_sums_of_all_clients_fit_and_no_finer_step_does(self, bound, clients, bits):
        numbers = FixedPoint.of(bound, clients, bits)
        most = 2 ** (bits - 1) - 1
        assert clients * numbers.largest <= most
        step = fractions.Fraction(2) ** -numbers.fraction_bits
        assert numbers.largest * step <= fractions.Fraction(bound)
        assert clients * fractions.Fraction(bound) / (step / 2) > most - clients

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((0.0, 3, 32), "the bound must be positive and finite, got 0.0"),
            ((math.inf, 3, 32), "must be positive and finite"),
            ((1.0, 0, 32), "clients must be at least 1, got 0"),
            ((1.0, 1, 63), "bits must be at most 62, got 63"),
            ((1.0, 300, 16), "16 bits leave each of 300 clients 109 steps, expected"),
        ],
    )
    def test_refuses(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            FixedPoint.of(*arguments)

    def test_what_a_cohort_does_not_fit_into(self):
        with pytest.raises(ValueError, match="16 bits leave each of 300 clients"):
            SumFormats(300, bits=16)

    def test_bytes_of_a_coordinate(self):
        assert [SumFormats(2, bits).coordinate_bytes for bits in (16, 17, 62)] == [
            2,
            3,
            8,
        ]


def encoded(values, numbers, **how):
    steps, clipped = summation.encode(tf.constant(values), numbers, **how)
    return steps.numpy().tolist(), bool(clipped)


class TestNumbers:
    NUMBERS = FixedPoint(16, 4, 100)  # steps of 1/16, at most 6.25

    def test_by_hand(self):
        # Ties go to the even number of steps.
        found = encoded([0.0, -0.0, 1.0, -1.5, 0.03125, 0.09375, 6.25], self.NUMBERS)
        assert found == ([0, 0, 16, -24, 0, 2, 100], False)

    def test_towards_zero_no_magnitude_grows(self):
        found = encoded([0.12, -0.12, 0.06, -6.24], self.NUMBERS, towards_zero=True)
        assert found == ([1, -1, 0, -99], False)

    @pytest.mark.parametrize(
        ("value", "steps"),
        [(6.26, 100), (-1e38, -100), (math.inf, 100), (-math.inf, -100), (math.nan, 0)],
    )
    def test_what_is_beyond_the_bound_is_clipped_and_said(self, value, steps):
        assert encoded([1.0, value], self.NUMBERS) == ([16, steps], True)

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(
        rows=st.lists(
            st.lists(st.floats(-70, 70, width=32), min_size=2, max_size=2),
            min_size=1,
            max_size=9,
        ),
        bits=st.sampled_from([17, 32, 62]),
        towards_zero=st.booleans(),
    )
    def test_a_sum_is_off_by_half_a_step_a_client(self, rows, bits, towards_zero):
        numbers = FixedPoint.of(64.0, len(rows), bits)
        steps, _ = encoded(rows, numbers, towards_zero=towards_zero)
        steps = np.array(steps, object)
        assert abs(steps).max() <= numbers.largest
        # As masked integers are added: modulo 2^bits.
        total = steps.sum(axis=0) % numbers.modulus
        found = summation.decode(
            tf.constant(total.astype(np.int64)), numbers, tf.float64
        ).numpy()
        for column in range(2):
            exact = sum(
                fractions.Fraction(min(max(row[column], -64), 64)) for row in rows
            )
            bound = numbers.largest_error(len(rows)) * (1 + towards_zero)
            rounding = abs(float(exact)) * 2**-50
            assert abs(fractions.Fraction(found[column]) - exact) <= bound + rounding


def summing(factory, value_type):
    """A process whose state is the sum, and whose metrics are the measurements."""
    process = factory.create(value_type)

    @tff.federated_computation
    def initialize():
        return tff.federated_value(0, tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(np.int32, tff.SERVER),
        tff.FederatedType(value_type, tff.CLIENTS),
    )
    def next_sum(state, value):
        nothing = tff.federated_value((), tff.SERVER)
        output = process.next(nothing, value)
        return state, tff.federated_zip((output.result, output.measurements))

    return tff.templates.IterativeProcess(initialize, next_sum)


@pytest.mark.parametrize("secure", [True, False])
def test_the_largest_cohort_of_the_largest_numbers_does_not_overflow(secure):
    clients = 37
    formats = SumFormats(clients, bits=20, bound=3.0, secure=secure)
    vector = tff.TensorType(np.float32, [2])
    process = summing(summation.updates(formats), vector)
    assert runtime.plain_leaves(process) == (0 if secure else 2)
    largest = formats.tensors.bound
    values = [np.array([largest, -largest], np.float32)] * (clients - 1)
    values.append(np.array([5.0, 0.0], np.float32))
    engine = runtime.in_process(process, mode=GRAPH, chunk_size=5)
    _, (total, measured) = engine.next(engine.initialize(), values)
    most = 37 * largest
    np.testing.assert_array_equal(total, [most, -36 * largest])
    assert measured["clipped_clients"] == 1
    assert formats.counts.largest * clients < 2**61
