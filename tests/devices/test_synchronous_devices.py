"""Synchronous rounds of simulated devices, by hand: deadlines and drop-outs."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from few_devices import ALWAYS, Given, clients_of, five
from scipy import stats

from tfl_research import devices


class TestSynchronous:
    def test_a_round_by_hand(self):
        rounds = five(cohort_size=3, over_selection=5 / 3)
        outcome = rounds.outcome(1)
        # 3, 13 and 23 seconds fill the cohort; 33 and 43 come after its end.
        assert outcome.client_ids == ("device 0", "device 1", "device 4")
        assert outcome.end_seconds == pytest.approx(23.0)
        assert (outcome.selected, outcome.dropped_out, outcome.late) == (5, 0, 2)
        assert (outcome.bytes_down, outcome.bytes_up) == (1000, 300)
        assert not outcome.abandoned
        assert outcome.max_steps is None
        assert rounds.outcome(2).end_seconds == pytest.approx(46.0)
        assert list(outcome.columns()) == [
            "simulated_seconds",
            "bytes_down",
            "bytes_up",
            "selected",
            "dropped_out",
            "late",
            "abandoned",
        ]

    def test_the_deadline_ends_a_round_that_is_not_full(self):
        outcome = five(cohort_size=5, over_selection=1.0).outcome(1)
        assert outcome.client_ids == tuple(f"device {i}" for i in (0, 1, 2, 4))
        assert (outcome.end_seconds, outcome.late) == (40.0, 1)
        at_once = five(cohort_size=5, over_selection=1.0, report_deadline=43.0)
        assert len(at_once.sample(1)) == 5

    def test_partial_work_until_the_deadline(self):
        rounds = five(
            cohort_size=5, over_selection=1.0, partial_work=True, report_deadline=20.0
        )
        outcome = rounds.outcome(1)
        # 17 seconds of work: 8, 5 and 4 examples of 10, in whole steps of two.
        assert outcome.client_ids == tuple(f"device {i}" for i in range(5))
        assert outcome.max_steps == (5, 4, 2, 2, 0)
        cohort = rounds.clients.cohort(outcome.client_ids, seed=0, round_number=1)
        steps = outcome.prepared(cohort).stacked()["num_steps"]
        np.testing.assert_array_equal(steps, [5, 4, 2, 2, 0])
        # Nobody has the time for one step, but for the device without examples.
        short = five(cohort_size=5, partial_work=True, report_deadline=4.0)
        assert short.outcome(1).client_ids == ("device 4",)
        assert short.outcome(1).late == 4

    def test_over_selection(self):
        assert five(cohort_size=2, over_selection=1.3).selection_size == 3
        assert five(cohort_size=5, over_selection=1.3).selection_size == 5
        many = devices.SynchronousRounds(
            devices.DevicePopulation(1000, availability=ALWAYS),
            devices.registered(clients_of([3]), 1000),
            10,
            over_selection=1.1,
            report_deadline=1e9,
        )
        assert many.selection_size == 11
        assert many.outcome(1).selected == 11

    def test_drop_outs_never_report(self):
        rounds = devices.SynchronousRounds(
            devices.DevicePopulation(5000, availability=ALWAYS),
            devices.registered(clients_of([1]), 5000),
            100,
            over_selection=2.0,
            bytes_down=3,
            bytes_up=2,
            drop_out=0.1,
            report_deadline=1e9,
        )
        dropped = [rounds.outcome(r).dropped_out for r in range(1, 11)]
        # Two-sided, false alarms with probability 1e-6.
        low, high = stats.binom.interval(1 - 1e-6, 2000, 0.1)
        assert low <= sum(dropped) <= high
        for r in range(1, 11):
            outcome = rounds.outcome(r)
            assert outcome.dropped_out + outcome.late + 100 == outcome.selected
            # They were sent the model as everybody was.
            assert (outcome.bytes_down, outcome.bytes_up) == (200 * 3, 100 * 2)

    def test_a_minimum_cohort_abandons_a_round(self):
        rounds = five(cohort_size=5, minimum_cohort=5)
        outcome = rounds.outcome(1)
        assert outcome.abandoned
        assert outcome.client_ids == ()
        # What four devices sent was on the wire all the same.
        assert (outcome.end_seconds, outcome.bytes_up) == (40.0, 400)
        assert rounds.abandoned_before(3) == 2
        assert five(cohort_size=5, minimum_cohort=4).abandoned_before(3) == 0

    def test_nobody_is_available(self):
        rounds = dataclasses.replace(
            five(),
            devices=Given(
                5,
                availability=devices.Availability(mean=1e-12, amplitude=0.0),
                seconds=(1.0,) * 5,
            ),
        )
        outcome = rounds.outcome(1)
        assert (outcome.selected, outcome.abandoned) == (0, True)
        assert outcome.end_seconds == 40.0

    def test_any_order_gives_the_same_rounds(self):
        def build():
            return devices.SynchronousRounds(
                devices.DevicePopulation(300, seed=3),
                devices.registered(clients_of([5, 7, 2]), 300),
                10,
                seed=3,
            )

        forward = [build().outcome(r) for r in range(1, 13)]
        one = build()
        assert [one.outcome(r) for r in range(1, 13)] == forward
        assert one.outcome(2) == forward[1]
        assert build().outcome(12) == forward[11]
        other = dataclasses.replace(build(), seed=4)
        assert [other.outcome(r) for r in range(1, 13)] != forward

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"cohort_size": 6}, "cohort_size must be from 1 to 5, got 6"),
            ({"drop_out": 1.0}, "drop_out must be in"),
            ({"over_selection": 0.5}, "over_selection must be at least 1"),
            ({"report_deadline": math.inf}, "report_deadline must be above 0"),
            ({"minimum_cohort": 2}, "minimum_cohort must be from 1 to the cohort"),
            ({"bytes_up": -1}, "bytes_up must be at least 0"),
        ],
    )
    def test_refusals(self, changes, message):
        with pytest.raises(ValueError, match=message):
            five(**changes)
