"""A population of simulated devices: availability, speeds, identities, millions."""

from __future__ import annotations

import dataclasses
import time
import tracemalloc

import numpy as np
import pytest
from few_devices import ALWAYS, clients_of
from scipy import stats

from tfl_research import devices
from tfl_research.data import Batching, ClientData
from tfl_research.data.batching import step_order


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
