"""Simulated devices: rounds by hand, deadlines, drop-outs, staleness, millions."""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import time
import tracemalloc

import fake_rounds as fake
import numpy as np
import pytest
from scipy import stats

from tfl_research import devices
from tfl_research.data import Batching, ClientData
from tfl_research.data.batching import step_order

ALWAYS = devices.Availability(mean=1.0, amplitude=0.0)
HALF = devices.Availability(mean=0.5)


@dataclasses.dataclass(frozen=True)
class Given(devices.DevicePopulation):
    """Devices whose seconds per example are given; 100 bytes a second both ways."""

    seconds: tuple[float, ...] = ()

    def device(self, number):
        return devices.Device(self.seconds[number], 100.0, 100.0, 0.0, 0.0)


def clients_of(sizes, **batching):
    arrays = {
        f"c{i}": {"x": np.zeros((n, 1), np.float32), "y": np.zeros(n, np.int32)}
        for i, n in enumerate(sizes)
    }
    data = ClientData.from_arrays(arrays, Batching(**{"batch_size": 2, **batching}))
    return devices.registered(data, len(sizes))


def five(sizes=(10, 10, 10, 10, 0), seconds=(1.0, 2.0, 3.0, 4.0, 9.0), **options):
    """Report times at 200 bytes down, 100 up: 13, 23, 33, 43 and 3 seconds."""
    settings = {"bytes_down": 200, "bytes_up": 100, "drop_out": 0.0}
    settings.update(report_deadline=40.0, over_selection=5.0)
    return devices.SynchronousRounds(
        Given(len(sizes), availability=ALWAYS, seconds=seconds),
        clients_of(sizes),
        **{"cohort_size": 1, **settings, **options},
    )


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


class TestPopulation:
    def test_seconds_of_a_device_by_hand(self):
        device = devices.Device(0.5, 100.0, 50.0, 0.0, 0.0)
        assert device.seconds(200, 3, 100) == pytest.approx(2.0 + 1.5 + 2.0)

    def test_chances_are_those_of_the_middle_of_a_slot(self):
        hours = devices.Availability(mean=0.4, slot_seconds=43_200.0)
        # At six and at 18 hours, a quarter of a day after and before the best one.
        for seconds in (0.0, 43_199.0, 43_200.0):
            assert hours.probability(seconds, 1.0, 0.0) == pytest.approx(0.4)
        assert hours.probability(0.0, 1.0, 21_600.0) == pytest.approx(0.8)
        often = dataclasses.replace(hours, mean=0.8)
        assert often.probability(0.0, 1.0, 21_600.0) == 1.0

    def test_availability_follows_the_day(self):
        hours = devices.Availability(mean=0.25, amplitude=0.8, phase_spread_hours=0.0)
        population = devices.DevicePopulation(10**7, seed=5, availability=hours)
        best, worst = (
            sum(population.available(i, hour * 3600.0) for i in range(2000))
            for hour in (2, 14)
        )
        # Amplitudes are 0.8 on average: 0.45 and 0.05. False alarms: 1e-6 each.
        for count, rate in ((best, 0.45), (worst, 0.05)):
            low, high = stats.binom.interval(1 - 1e-6, 2000, rate)
            assert low <= count <= high

    def test_fourfold_between_the_best_and_the_worst_hour_by_default(self):
        hours = devices.Availability()
        population = devices.DevicePopulation(10**6, seed=2)
        drawn = [population.device(i) for i in range(2000)]
        best, worst = (
            np.mean([hours.probability(h * 3600, d.amplitude, d.phase) for d in drawn])
            for h in (2, 14)
        )
        assert 3.3 < best / worst < 4.7

    def test_availability_follows_labels(self):
        hours = devices.Availability(
            mean=0.5, amplitude=1.0, phase_spread_hours=0.0, label_correlation=1.0
        )
        population = devices.DevicePopulation(
            4000, availability=hours, label=lambda number: (number % 2, 2)
        )
        noon = [population.available(i, 12 * 3600.0) for i in range(2000)]
        # Label 1 peaks at noon, label 0 at midnight.
        assert sum(noon[1::2]) > 850
        assert sum(noon[0::2]) < 150
        with pytest.raises(ValueError, match="needs `label`"):
            devices.DevicePopulation(3, availability=hours)

    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
    def test_the_share_that_follows_labels(self, share):
        hours = devices.Availability(
            mean=0.4,
            amplitude=0.7,
            peak_hour=0.0,
            phase_spread_hours=0.0,
            slot_seconds=2.0,
            label_correlation=share,
        )
        population = devices.DevicePopulation(
            10**6, availability=hours, label=lambda number: (3, 4)
        )
        found = [population.device(number) for number in range(2000)]
        # Label 3 of 4 peaks at 18 hours, the others at midnight.
        follow = sum(device.phase == 18 * 3600.0 for device in found)
        assert follow + sum(device.phase == 0.0 for device in found) == 2000
        # False alarms with probability 1e-6 each.
        low, high = stats.binom.interval(1 - 1e-6, 2000, share)
        assert low <= follow <= high
        # At 18 hours: 0.4 (1 + 0.7) of those that follow, 0.4 of the others.
        there = sum(population.available(i, 18 * 3600.0) for i in range(2000))
        rate = 0.68 * share + 0.4 * (1 - share)
        low, high = stats.binom.interval(1 - 1e-6, 2000, rate)
        assert low <= there <= high

    def test_speeds_are_log_normal(self):
        population = devices.DevicePopulation(10**6, seed=9)
        drawn = [population.device(i) for i in range(2000)]
        compute = np.log([d.seconds_per_example / 0.02 for d in drawn])
        network = np.log([d.upload_bytes_per_second / 2.5e5 for d in drawn])
        # False alarms with probability 1e-6 each.
        assert stats.kstest(compute, "norm").pvalue > 1e-6
        assert stats.kstest(network, "norm").pvalue > 1e-6
        assert all(
            d.download_bytes_per_second == pytest.approx(4 * d.upload_bytes_per_second)
            for d in drawn
        )

    def test_draws_are_uniform_and_distinct(self):
        population = devices.DevicePopulation(20, availability=ALWAYS)
        generator = np.random.default_rng(0)
        counts = np.zeros(20)
        for _ in range(400):
            drawn = population.draw_available(5, 0.0, generator, busy={7})
            assert len(set(drawn)) == 5
            counts[drawn] += 1
        assert counts[7] == 0
        assert stats.chisquare(np.delete(counts, 7)).pvalue > 1e-6
        assert len(population.draw_available(50, 0.0, generator, {7})) == 19

    @pytest.mark.parametrize(
        "batching",
        [
            Batching(3),
            Batching(3, epochs=2),
            Batching(3, steps=5),
            Batching(4, epochs=3, max_examples=6),
        ],
    )
    @pytest.mark.parametrize("held", [0, 1, 3, 7, 12])
    def test_a_workload_is_that_of_the_batches(self, batching, held):
        work = devices.Workload(held, batching)
        order = step_order(held, batching, np.random.default_rng(0))
        assert work.steps == len(order)
        for steps in range(work.steps + 1):
            visited = int(np.sum(order[:steps] >= 0))
            assert work.examples_in(steps) == visited
            assert work.steps_within(visited) == steps
            assert work.steps_within(visited + 0.5) == steps


class TestRegistry:
    def test_ids(self):
        ids = devices.DeviceIds(10**7)
        assert len(ids) == 10**7
        assert (ids[0], ids[-1]) == ("device 0", "device 9999999")
        assert ids[3:5] == ("device 3", "device 4")
        assert ids.number("device 42") == ids.index("device 42") == 42
        assert "device 9999999" in ids
        for wrong in ("device 10000000", "device 01", "device -1", "device", "c", 3):
            assert wrong not in ids
        with pytest.raises(IndexError):
            ids[10**7]
        with pytest.raises(ValueError, match="size must be at least 1"):
            devices.DeviceIds(0)

    def test_devices_share_examples_but_not_shuffles(self):
        held = {"x": np.arange(50.0)[:, None], "y": np.zeros(50, np.int32)}
        other = {"x": -np.arange(50.0)[:, None], "y": np.zeros(50, np.int32)}
        data = ClientData.from_arrays({"a": held, "b": other}, Batching(50))
        data = devices.registered(data, 1000)
        first, second = (
            data.cohort([name], seed=1, round_number=1).batches(0)["x"]
            for name in ("device 3", "device 5")
        )
        assert sorted(first.ravel()) == sorted(second.ravel()) == sorted(-held["x"])
        assert not np.array_equal(first, second)
        with pytest.raises(ValueError, match="roles"):
            devices.registered(data.with_roles({}), 3)

    def test_ten_million_cost_memory_for_the_cohort_only(self):
        tracemalloc.start()
        rounds = devices.SynchronousRounds(
            devices.DevicePopulation(10**7),
            devices.registered(clients_of([5] * 50), 10**7),
            100,
        )
        start = time.perf_counter()
        drawn = {name for r in range(1, 6) for name in rounds.sample(r)}
        seconds = (time.perf_counter() - start) / 5
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert max(rounds.client_ids.number(name) for name in drawn) > 10**6
        # A byte for each device would be 10 MB.
        assert peak < 4e6
        assert seconds < 3


class TestTheRoundLoop:
    """On the NumPy engine: abandoned rounds in the midst of others."""

    def rounds(self, **changes):
        data = devices.registered(fake.clients(), 200)
        settings = {"cohort_size": 6, "minimum_cohort": 5, "report_deadline": 15.0}
        settings.update(changes)
        speeds = devices.Speeds(seconds_per_example=1.0)
        population = devices.DevicePopulation(200, 1, speeds, ALWAYS)
        return devices.SynchronousRounds(
            population, data, bytes_down=10, bytes_up=10, over_selection=1.0, **settings
        )

    def test_an_abandoned_round_keeps_state_and_epsilon(self, tmp_path):
        rounds = self.rounds()
        gone = [r for r in range(1, 13) if rounds.outcome(r).abandoned]
        assert 0 < len(gone) < 12
        seen = {}

        class Watching(fake.Engine):
            def next(self, state, cohort):
                new, metrics = super().next(state, cohort)
                seen[int(new.client_work)] = cohort.client_ids
                return new, metrics

        stream = io.StringIO()
        result, cells = fake.run(tmp_path, rounds, 12, Watching(7), stream)
        assert int(result.state.client_work) == 12 - len(gone)
        done = 0
        for number, row in enumerate(cells, start=1):
            abandoned = number in gone
            done += not abandoned
            assert row["abandoned"] == str(int(abandoned))
            assert float(row["epsilon"]) == pytest.approx(math.sqrt(done) / 10)
            if abandoned:
                assert (row["cohort_size"], row["train_loss"]) == ("0", "")
            else:
                assert seen[done] == rounds.sample(number)
        # The ledger counts releases, and has no gap.
        assert fake.ledger(tmp_path) == list(range(1, done + 1))
        lines = [x for x in stream.getvalue().splitlines() if "  abandoned  " in x]
        assert len(lines) == len(gone)
        for line in lines:
            # How many were selected is exact.
            covered, _, exact = line.partition(" | not covered: ")
            assert "selected" not in covered
            assert "  selected 6  " in exact

    def test_the_budget_counts_releases(self, tmp_path):
        rounds = self.rounds()
        result, _ = fake.run(tmp_path, rounds, 40, fake.Engine(7), budget=0.21)
        # ε after 4 releases is 0.2, after 5 it is 0.2236.
        assert result.stop_reason == "budget"
        assert fake.ledger(tmp_path) == [1, 2, 3, 4]
        assert result.completed_rounds == 4 + rounds.abandoned_before(
            result.completed_rounds + 1
        )

    def test_what_clients_noised_is_charged_in_abandoned_rounds(self, tmp_path):
        rounds = self.rounds()
        gone = [r for r in range(1, 13) if rounds.outcome(r).abandoned]
        result, cells = fake.run(tmp_path, rounds, 12, account=fake.ClientsNoise)
        assert int(result.state.client_work) == 12 - len(gone) < 12
        assert fake.ledger(tmp_path) == list(range(1, 13))
        for number, row in enumerate(cells, start=1):
            assert float(row["epsilon"]) == pytest.approx(math.sqrt(number) / 10)

    def test_the_budget_can_end_before_an_abandoned_round(self, tmp_path):
        rounds = self.rounds()
        first = next(r for r in range(2, 13) if rounds.outcome(r).abandoned)
        account = functools.partial(fake.SpentElsewhere, last=first - 1)
        result, cells = fake.run(tmp_path, rounds, 12, account=account)
        assert result.stop_reason == "budget"
        assert len(cells) == result.completed_rounds == first - 1
        assert fake.ledger(tmp_path) == list(range(1, first))

    def test_resumed_equals_uninterrupted(self, tmp_path):
        whole, cells = fake.run(tmp_path / "a", self.rounds(partial_work=True), 9)
        fake.run(tmp_path / "b", self.rounds(partial_work=True), 4)
        parts, again = fake.run(tmp_path / "b", self.rounds(partial_work=True), 9)
        for row in (*cells, *again):
            row.pop("round_seconds")
        assert cells == again
        for one, two in zip(
            whole.state.global_model_weights.trainable,
            parts.state.global_model_weights.trainable,
        ):
            np.testing.assert_array_equal(one, two)
        assert fake.ledger(tmp_path / "a") == fake.ledger(tmp_path / "b")
