"""What --devices accepts, refuses and builds, without TensorFlow."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from absl import flags as absl_flags

from tfl_research import devices
from tfl_research.data import Batching, ClientData
from tfl_research.flags import DeviceFlags, FlagError, app, assembly, device_flags


def setup_with(*arguments: str, buffering=None) -> assembly.Setup:
    """The experiment's parts, as fed_avg.py has them for a command line."""
    found: list[assembly.Setup] = []
    code = app.execute(
        lambda: found.append(DeviceFlags.get().setup(buffering)),
        (*assembly.GROUPS, DeviceFlags),
        "",
        ["experiment", "--output_dir=unused", *arguments],
        defaults={"sampler": "fixed"},
    )
    assert (code == 0) == bool(found)
    return found[0] if found else None


def error_of(capsys: pytest.CaptureFixture, *arguments: str, buffering=None) -> str:
    assert setup_with(*arguments, buffering=buffering) is None
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


@pytest.fixture(autouse=True)
def flags_as_before():
    with contextlib.ExitStack() as stack:
        stack.callback(absl_flags.FLAGS.unparse_flags)
        yield


def test_without_devices_nothing_changes():
    parts = setup_with("--task=heart", "--cohort_size=3")
    assert not isinstance(parts.sampler, devices.SynchronousRounds)
    assert len(parts.task.train) == 4


def test_devices_take_the_clients_place():
    parts = setup_with(
        "--task=heart",
        "--devices=1000000",
        "--cohort_size=50",
        "--minimum_cohort=20",
        "--over_selection=1.5",
        "--report_deadline=90",
        "--drop_out=0.2",
        "--partial_work",
        "--seconds_per_example=0.5",
        "--download_rate=3e6",
        "--upload_rate=2e6",
        "--speed_spread=0.3",
        "--diurnal_amplitude=0.1",
        "--mean_availability=0.4",
        "--availability_by_label=0.7",
        "--seed=6",
    )
    rounds = parts.sampler
    assert isinstance(rounds, devices.SynchronousRounds)
    assert len(parts.task.train) == rounds.devices.count == 1_000_000
    assert parts.task.train is rounds.clients
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
    held = parts.task.train.load("device 5")["y"]
    assert (label, count) == (int(held.mean() > 0.5), 2)
    assert rounds.amplification.kind == "none"


def test_a_devices_label_is_the_most_frequent_one_the_lowest_of_several():
    held = {"a": [2, 1, 1, 2], "b": [0, 3, 3], "c": []}
    data = ClientData.from_arrays(
        {
            name: {"x": np.zeros((len(y), 1), np.float32), "y": np.array(y, np.int32)}
            for name, y in held.items()
        },
        Batching(2),
    )
    label = device_flags._labels(data, 0)
    # Four labels, as the largest is 3; devices hold clients' examples in turn.
    assert [label(n) for n in range(4)] == [(1, 4), (3, 4), (0, 4), (1, 4)]
    assert device_flags._labels(data, 9)(1) == (3, 9)


def test_refusals(capsys):
    for arguments, fragments in (
        (["--drop_out=0.5"], ["--drop_out=0.5", "--devices"]),
        (["--partial_work"], ["--partial_work=True", "--devices"]),
        (["--devices=9", "--sampler=poisson"], ["--sampler=poisson", "fixed"]),
        (["--devices=9", "--cohort_size=10"], ["--cohort_size=10", "at most"]),
        (
            ["--devices=9", "--cohort_size=3", "--minimum_cohort=4"],
            ["--minimum_cohort=4", "--cohort_size=3"],
        ),
        (["--devices=0"], ["--devices=0", "at least 1"]),
        (["--devices=9", "--drop_out=1"], ["--drop_out=1", "below 1"]),
    ):
        line = error_of(capsys, "--task=heart", *arguments)
        assert all(fragment in line for fragment in fragments), line
    with pytest.raises(FlagError, match="--over_selection=0"):
        DeviceFlags(devices=5, over_selection=0.5)


def test_buffering():
    parts = setup_with(
        "--task=heart",
        "--devices=100",
        "--cohort_size=5",
        "--drop_out=0.2",
        buffering=(20, 3),
    )
    rounds = parts.sampler
    assert isinstance(rounds, devices.BufferedRounds)
    assert (rounds.cohort_size, rounds.concurrency, rounds.max_staleness) == (5, 20, 3)
    assert rounds.drop_out == 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--devices is missing: fed_buff needs devices"),
        (["--devices=24"], "concurrency plus cohort_size is 25"),
        (["--devices=100", "--over_selection=2"], "are not selected for rounds"),
    ],
)
def test_buffering_that_cannot_be(capsys, arguments, message):
    line = error_of(
        capsys, "--task=heart", "--cohort_size=4", *arguments, buffering=(21, 3)
    )
    assert message in line


def test_sizes_of_messages():
    class Process:
        download_bytes, upload_bytes = 12, 34

    parts = setup_with("--task=heart", "--devices=9", "--cohort_size=2")
    told = devices.told_sizes(parts.sampler, Process())
    assert (told.bytes_down, told.bytes_up) == (12, 34)
    plain = setup_with("--task=heart", "--cohort_size=2").sampler
    assert devices.told_sizes(plain, Process()) is plain
    assert devices.message_bytes(Process()) == (12, 34)
    assert devices.message_bytes(object()) is None
    assert devices.told_sizes(parts.sampler, object()) is parts.sampler
