"""Buffered server steps of simulated devices, by hand: staleness and waiting."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from few_devices import ALWAYS, Given, clients_of

from tfl_research import devices

HALF = devices.Availability(mean=0.5)


class TestBuffered:
    def test_server_steps_by_hand(self):
        # Two devices at a time; which two is drawn, so all but one are alike.
        rounds = devices.BufferedRounds(
            Given(3, availability=ALWAYS, seconds=(1.0, 1.0, 1.0)),
            clients_of([10, 10, 10]),
            1,
            bytes_down=200,
            bytes_up=100,
            drop_out=0.0,
            concurrency=2,
        )
        first, second, third = (rounds.outcome(r) for r in (1, 2, 3))
        # Both began at 0 and are done at 13; the second is one step late.
        assert first.end_seconds == second.end_seconds == 13.0
        assert (first.staleness.tolist(), second.staleness.tolist()) == ([0], [1])
        assert first.client_ids != second.client_ids
        # Its successor began at 13, after the first server step.
        assert (third.end_seconds, third.staleness.tolist()) == (26.0, [1])
        assert (first.selected, second.selected) == (2, 1)
        assert (first.bytes_down, first.bytes_up) == (400, 100)
        assert first.staleness.dtype == np.int32
        # An update as stale as may be is taken, a staler one is not.
        bounded = dataclasses.replace(rounds, max_staleness=1)
        assert bounded.outcome(2).client_ids == second.client_ids
        fresh = dataclasses.replace(rounds, max_staleness=0)
        found = fresh.outcome(2)
        assert (found.end_seconds, found.staleness.tolist()) == (26.0, [0])
        # What is discarded was sent all the same.
        assert (found.late, found.bytes_up) == (1, 200)
        # Whose update is discarded may begin again: three devices are enough.
        assert sum(fresh.outcome(number).late for number in range(1, 21)) > 3

    def test_a_drop_out_ends_its_work_early(self):
        rounds = devices.BufferedRounds(
            Given(2, availability=ALWAYS, seconds=(1.0, 1.0)),
            clients_of([10, 10]),
            1,
            bytes_down=200,
            bytes_up=100,
            drop_out=0.5,
            concurrency=1,
        )
        before, dropped = 0.0, 0
        for number in range(1, 21):
            outcome = rounds.outcome(number)
            spent = outcome.end_seconds - before - 13.0
            # By the shares of 13 seconds after which they stopped.
            assert (
                spent == pytest.approx(0.0) or 0.0 < spent < 13.0 * outcome.dropped_out
            )
            before, dropped = outcome.end_seconds, dropped + outcome.dropped_out
        assert dropped > 5

    def test_it_waits_for_the_next_slot_and_no_longer(self):
        class InTheSecondSlot(Given):
            def available(self, number, seconds):
                return 600.0 <= seconds < 1200.0

        rounds = devices.BufferedRounds(
            InTheSecondSlot(2, availability=ALWAYS, seconds=(1.0, 1.0)),
            clients_of([10, 10]),
            1,
            drop_out=0.0,
            concurrency=1,
        )
        assert rounds.outcome(1).end_seconds == pytest.approx(610.0)

    def test_too_stale_updates_are_discarded(self):
        # One slow device: its report comes after ten server steps of the others.
        rounds = devices.BufferedRounds(
            Given(4, availability=ALWAYS, seconds=(1.0, 1.0, 1.0, 10.5)),
            clients_of([10] * 4),
            1,
            drop_out=0.0,
            concurrency=3,
            max_staleness=3,
        )
        outcomes = [rounds.outcome(r) for r in range(1, 60)]
        assert sum(o.late for o in outcomes) > 0
        assert all(max(o.staleness) <= 3 for o in outcomes)
        assert not any("device 3" in o.client_ids for o in outcomes)
        kept = dataclasses.replace(rounds, max_staleness=60)
        outcomes = [kept.outcome(r) for r in range(1, 60)]
        assert sum(o.late for o in outcomes) == 0
        assert any("device 3" in o.client_ids for o in outcomes)

    def test_no_device_twice_and_any_order(self):
        def build():
            return devices.BufferedRounds(
                devices.DevicePopulation(60, seed=1, availability=HALF),
                devices.registered(clients_of([4, 9]), 60),
                8,
                concurrency=20,
                drop_out=0.2,
            )

        forward = [build().outcome(r) for r in (1, 2, 3)]
        one = build()
        outcomes = [one.outcome(r) for r in range(1, 20)]
        for outcome in outcomes:
            assert len(set(outcome.client_ids)) == 8
        assert sum(o.dropped_out for o in outcomes) > 0
        ends = [o.end_seconds for o in outcomes]
        assert ends == sorted(ends)
        assert [o.client_ids for o in outcomes[:3]] == [o.client_ids for o in forward]
        assert one.outcome(2).client_ids == forward[1].client_ids
        assert one.outcome(19).client_ids == outcomes[18].client_ids

    def test_the_cohort_is_told_its_staleness(self):
        rounds = devices.BufferedRounds(
            devices.DevicePopulation(30, availability=ALWAYS),
            devices.registered(clients_of([4, 9]), 30),
            3,
            concurrency=9,
        )
        outcome = rounds.outcome(5)
        cohort = rounds.clients.cohort(outcome.client_ids, seed=0, round_number=5)
        stacked = outcome.prepared(cohort).stacked()
        np.testing.assert_array_equal(stacked["staleness"], outcome.staleness)
        assert outcome.columns()["mean_staleness"] == outcome.staleness.mean()

    def test_refusals(self):
        population = devices.DevicePopulation(5)
        with pytest.raises(ValueError, match="there are only 5 devices"):
            devices.BufferedRounds(population, clients_of([1] * 5), 2, concurrency=4)
        with pytest.raises(ValueError, match="max_staleness must be at least 0"):
            devices.BufferedRounds(
                population, clients_of([1] * 5), 2, concurrency=1, max_staleness=-1
            )

    def test_nobody_ever_there_is_an_error_and_no_endless_wait(self):
        rare = devices.Availability(mean=1e-9, amplitude=0.0)
        rounds = devices.BufferedRounds(
            devices.DevicePopulation(3, availability=rare),
            clients_of([1] * 3),
            1,
            concurrency=1,
        )
        with pytest.raises(ValueError, match="no device was available in 1000 slots"):
            rounds.outcome(1)

    @pytest.mark.parametrize("slot", [0.1, 1 / 3, 59.9])
    def test_time_goes_on_whatever_the_slots(self, slot):
        seldom = devices.Availability(mean=0.3, amplitude=0.0, slot_seconds=slot)
        rounds = devices.BufferedRounds(
            devices.DevicePopulation(3, availability=seldom),
            clients_of([1] * 3),
            1,
            concurrency=1,
        )
        assert rounds.outcome(100).end_seconds > 0
