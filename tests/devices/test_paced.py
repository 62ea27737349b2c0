"""Paced rounds: by hand, and that one device's data move nothing but its own report."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from few_devices import Given, clients_of, five

from tfl_research import devices, privacy

# Columns of an outcome that depend on a device's data.
PRIVATE = ("cohort_size", "late", "bytes_up")


def paced(every_device_sends=False, **options):
    """Report times 13, 23, 33, 43 and 3 seconds, three of them without work."""
    settings = {"over_selection": 1.0, "cohort_size": 5, **options}
    return devices.PacedRounds.of(
        five(**settings), every_device_sends=every_device_sends
    )


class TestByHand:
    def test_every_report_in_time_is_taken_and_the_deadline_ends_the_round(self):
        rounds = paced(minimum_cohort=5)
        outcome = rounds.outcome(1)
        # 43 seconds are late; the others are far from filling 40.
        assert outcome.client_ids == tuple(f"device {i}" for i in (0, 1, 2, 4))
        assert (outcome.end_seconds, outcome.late) == (40.0, 1)
        assert (outcome.bytes_down, outcome.bytes_up) == (1000, 400)
        # Five could report, and lateness does not count.
        assert not outcome.abandoned
        assert outcome.max_steps is None
        assert rounds.outcome(3).end_seconds == 120.0
        # Had the cohort been full after 3 seconds, the round would last all the same.
        assert paced(report_deadline=50.0).outcome(1).end_seconds == 50.0

    def test_what_is_too_slow_for_any_work_counts_as_gone(self):
        # Two bytes down and one up take three seconds at one byte a second.
        slow = paced(report_deadline=2.9)
        assert slow.outcome(1).abandoned
        assert slow.outcome(1).late == 5
        assert slow.abandoned_before(4) == 3
        # Everybody could report now, and nobody but the device without examples does.
        assert paced(report_deadline=3.0).sample(1) == ("device 4",)
        assert not paced(report_deadline=3.0, minimum_cohort=5).outcome(1).abandoned

    def test_everybody_late_is_an_empty_cohort_and_no_abandoned_round(self):
        rounds = paced(sizes=(10,) * 5, report_deadline=4.0, minimum_cohort=5)
        outcome = rounds.outcome(1)
        assert (outcome.client_ids, outcome.abandoned) == ((), False)
        assert (outcome.late, outcome.bytes_up) == (5, 0)
        assert rounds.minimum_cohort_size == 0

    def test_late_devices_send_without_work_where_everybody_sends(self):
        rounds = paced(every_device_sends=True, report_deadline=30.0, minimum_cohort=2)
        outcome = rounds.outcome(1)
        assert outcome.client_ids == tuple(f"device {i}" for i in range(5))
        assert outcome.max_steps == (5, 5, 0, 0, 0)
        assert (outcome.late, outcome.bytes_up) == (2, 500)
        assert rounds.minimum_cohort_size == 2
        cohort = rounds.clients.cohort(outcome.client_ids, seed=0, round_number=1)
        steps = outcome.prepared(cohort).stacked()["num_steps"]
        np.testing.assert_array_equal(steps, [5, 5, 0, 0, 0])

    def test_partial_work(self):
        outcome = paced(partial_work=True, report_deadline=20.0).outcome(1)
        # See `TestSynchronous.test_partial_work_until_the_deadline`.
        assert outcome.max_steps == (5, 4, 2, 2, 0)

    def test_abandoned_by_drop_outs_alone(self):
        rounds = paced(minimum_cohort=4, drop_out=0.3)
        outcomes = [rounds.outcome(r) for r in range(1, 41)]
        for outcome in outcomes:
            assert outcome.abandoned == (5 - outcome.dropped_out < 4)
            assert outcome.abandoned <= (outcome.client_ids == ())
        assert {o.abandoned for o in outcomes} == {False, True}
        assert rounds.abandoned_before(41) == sum(o.abandoned for o in outcomes)

    def test_the_account_may_assume_zero_out_and_no_amplification(self):
        found = paced().amplification
        assert (found.kind, found.neighbouring_relation) == ("none", "zero_out")
        assert (found.min_separation, found.population) == (1, 5)
        event = privacy.GaussianEvent.of(1.5, found)
        # One clip, not two: a contribution becomes zero.
        assert event.sensitivity_multiplier == 1.5
        assert not event.amplified

    def test_refusals(self):
        with pytest.raises(ValueError, match=r"over_selection must be 1, .* got 1\.5"):
            dataclasses.replace(paced(), over_selection=1.5)
        hours = devices.Availability(label_correlation=0.5)
        labelled = Given(
            5, availability=hours, seconds=(1.0,) * 5, label=lambda number: (0, 2)
        )
        with pytest.raises(
            ValueError, match=r"label_correlation must be 0, .* got 0\.5"
        ):
            dataclasses.replace(paced(), devices=labelled)


def simulated(sizes, kind=devices.PacedRounds, **options):
    population = devices.DevicePopulation(
        len(sizes),
        seed=4,
        speeds=devices.Speeds(seconds_per_example=1.0),
        availability=devices.Availability(mean=0.5),
    )
    settings = {"drop_out": 0.2, "minimum_cohort": 8, "over_selection": 1.0}
    return kind(
        population,
        clients_of(sizes),
        10,
        seed=4,
        bytes_down=10,
        bytes_up=10,
        report_deadline=20.0,
        **{**settings, **options},
    )


def public_part(outcome, without, private=PRIVATE):
    cells = outcome.columns()
    for name in private:
        cells.pop(name, None)
    ids = tuple(name for name in outcome.client_ids if name != without)
    return ids, cells, outcome.abandoned, outcome.end_seconds


class TestOneDevicesData:
    """Neighbouring populations: one device holds more examples, fewer, or none."""

    @pytest.mark.parametrize("partial_work", [False, True])
    @pytest.mark.parametrize("held", [(500, 0), (500, 1), (9, 500)])
    def test_moves_its_own_report_and_nothing_else(self, held, partial_work):
        moved = selected = abandoned = 0
        for number in (3, 17, 42):
            name = f"device {number}"
            sizes = [[8 + i % 9 for i in range(60)] for _ in held]
            for changed, count in zip(sizes, held):
                changed[number] = count
            one, other = (simulated(s, partial_work=partial_work) for s in sizes)
            for round_number in range(1, 61):
                ours, theirs = (r.outcome(round_number) for r in (one, other))
                assert public_part(ours, name) == public_part(theirs, name)
                abandoned += ours.abandoned
                moved += ours != theirs
                selected += name in ours.client_ids or name in theirs.client_ids
            assert one.abandoned_before(61) == other.abandoned_before(61)
        # Or the above would hold of rounds in which nothing happens.
        assert 0 < abandoned < 180
        assert selected > 5
        assert moved > 0

    def test_of_plain_rounds_it_moves_everything(self):
        sizes = [8 + number % 9 for number in range(60)]
        changed = [500 if number == 17 else held for number, held in enumerate(sizes)]
        plain = devices.SynchronousRounds
        one, other = (simulated(s, plain, minimum_cohort=1) for s in (sizes, changed))
        differ = [
            public_part(one.outcome(r), "device 17", ())
            != public_part(other.outcome(r), "device 17", ())
            for r in range(1, 61)
        ]
        assert any(differ)

    def test_where_everybody_sends_it_does_not_even_move_who_sends(self):
        sizes = [8 + number % 9 for number in range(60)]
        changed = [500 if number == 17 else held for number, held in enumerate(sizes)]
        one, other = (simulated(s, every_device_sends=True) for s in (sizes, changed))
        steps = 0
        for round_number in range(1, 61):
            ours, theirs = (r.outcome(round_number) for r in (one, other))
            assert ours.client_ids == theirs.client_ids
            assert ours.bytes_up == theirs.bytes_up
            for name, a, b in zip(ours.client_ids, ours.max_steps, theirs.max_steps):
                assert a == b or name == "device 17"
                steps += a != b
        assert steps > 0
