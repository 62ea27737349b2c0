"""What `Devices` makes of an experiment, without TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest

from tfl_research import devices
from tfl_research.algorithms import FedBuff
from tfl_research.data import Batching, ClientData
from tfl_research.experiment import Experiment, setup, simulated_devices
from tfl_research.experiment.configs import (
    Cohorts,
    Devices,
    Training,
    UserLevelPrivacy,
)


def prepared(settings, size=3.0, **parts):
    parts = {"cohorts": Cohorts(cohort_size=size), "devices": settings, **parts}
    return setup.prepare(Experiment("heart", **parts))


def test_without_devices_nothing_changes():
    found = prepared(Devices())
    assert not isinstance(found.asked, devices.SynchronousRounds)
    assert len(found.task.train) == 4


def test_devices_take_the_clients_place():
    settings = Devices(
        1_000_000,
        minimum_cohort=20,
        over_selection=1.5,
        report_deadline=90,
        drop_out=0.2,
        partial_work=True,
        seconds_per_example=0.5,
        download_rate=3e6,
        upload_rate=2e6,
        speed_spread=0.3,
        diurnal_amplitude=0.1,
        mean_availability=0.4,
        availability_by_label=0.7,
    )
    found = prepared(settings, size=50.0, training=Training(seed=6))
    rounds = found.asked
    assert isinstance(rounds, devices.SynchronousRounds)
    assert found.reporting is found.cohorts is rounds
    assert len(found.task.train) == rounds.devices.count == 1_000_000
    assert found.task.train is rounds.clients
    assert found.hparams()["num_train_clients"] == 1_000_000
    assert found.hparams()["expected_cohort_size"] == 50
    assert (rounds.cohort_size, rounds.minimum_cohort, rounds.selection_size) == (
        50,
        20,
        75,
    )
    assert (rounds.report_deadline, rounds.drop_out) == (90.0, 0.2)
    assert rounds.partial_work
    assert rounds.devices.speeds == devices.Speeds(0.5, 3e6, 2e6, 0.3, 0.3)
    assert rounds.devices.availability == devices.Availability(
        mean=0.4, amplitude=0.1, label_correlation=0.7
    )
    assert (rounds.seed, rounds.devices.seed) == (6, 6)
    label, count = rounds.devices.label(5)
    held = found.task.train.load("device 5")["y"]
    assert (label, count) == (int(held.mean() > 0.5), 2)
    assert rounds.amplification.kind == "none"


def test_examples_that_many_devices_hold_are_checked_once():
    train = prepared(Devices(10_000_000)).task.train
    assert len(train) == 10_000_000
    found = [examples["y"].tolist() for _, examples in train.different_items()]
    assert found == [e["y"].tolist() for _, e in prepared(Devices()).task.train.items()]
    assert len([*train.subset(train.client_ids[:7]).different_items()]) == 7


def test_a_devices_label_is_the_most_frequent_one_the_lowest_of_several():
    held = {"a": [2, 1, 1, 2], "b": [0, 3, 3], "c": []}
    data = ClientData.from_arrays(
        {
            name: {"x": np.zeros((len(y), 1), np.float32), "y": np.array(y, np.int32)}
            for name, y in held.items()
        },
        Batching(2),
    )
    label = simulated_devices._labels(data, 0)
    # Four labels, as the largest is 3; devices hold clients' examples in turn.
    assert [label(n) for n in range(4)] == [(1, 4), (3, 4), (0, 4), (1, 4)]
    assert simulated_devices._labels(data, 9)(1) == (3, 9)


def test_buffering():
    found = prepared(
        Devices(100, drop_out=0.2),
        size=5.0,
        algorithm=FedBuff(concurrency=20, max_staleness=3),
    )
    rounds = found.asked
    assert isinstance(rounds, devices.BufferedRounds)
    assert (rounds.cohort_size, rounds.concurrency, rounds.max_staleness) == (5, 20, 3)
    assert rounds.drop_out == 0.2


class TestPrivate:
    @pytest.mark.parametrize(
        ("mechanism", "sends"), [("gaussian", False), ("local_gaussian", True)]
    )
    def test_rounds_whose_course_tells_nothing(self, mechanism, sends):
        private = UserLevelPrivacy(mechanism, noise_multiplier=1.0)
        found = prepared(
            Devices(4, report_deadline=90, minimum_cohort=2), privacy=private
        )
        rounds = found.asked
        assert isinstance(rounds, devices.PacedRounds)
        assert rounds.every_device_sends == sends
        # All that are selected are awaited, none more.
        assert (rounds.cohort_size, rounds.minimum_cohort) == (3, 2)
        assert rounds.report_deadline == 90
        assert found.user_level.amplification.kind == "none"
        # They are selected by the public seed: nothing counts on who was.
        assert setup.secret_cohorts(found, 7) is rounds

    def test_what_a_statement_says(self, recwarn):
        private = UserLevelPrivacy(noise_multiplier=1.0)
        found = prepared(Devices(4, minimum_cohort=2), privacy=private)
        assert [str(w.message) for w in recwarn if w.category is UserWarning] == []
        notes, outside = simulated_devices.statement_lines(found.asked)
        assert len(notes) == 1
        assert notes[0].startswith(
            "Simulated devices: a round selects 3 of those available and lasts 600 s, "
            "whoever reports; late reports and devices that drop out contribute "
            "nothing. It is abandoned if fewer than 2 of the selected"
        )
        assert outside == []
        assert simulated_devices.statement_lines(object()) == ([], [])

    def test_more_devices_than_clients_are_said_so(self):
        private = UserLevelPrivacy("local_gaussian", noise_multiplier=1.0)
        with pytest.warns(UserWarning, match="9 devices hold the examples of 4 clien"):
            found = prepared(Devices(9), privacy=private)
        notes, outside = simulated_devices.statement_lines(found.asked)
        assert "a late device sends only its noise" in notes[0]
        assert "Abandoned rounds are charged" in notes[0]
        assert outside == [
            "Clients whose examples several devices hold: 9 devices hold those of 4 "
            "clients, and a client here is one device."
        ]


def test_sizes_of_messages():
    asked = prepared(Devices(9), size=2.0).asked
    told = devices.with_message_bytes(asked, (12, 34))
    assert (told.bytes_down, told.bytes_up) == (12, 34)
    plain = prepared(Devices(), size=2.0).asked
    assert devices.with_message_bytes(plain, (12, 34)) is plain
