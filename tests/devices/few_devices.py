"""A few simulated devices whose times are given."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfl_research import devices
from tfl_research.data import Batching, ClientData

ALWAYS = devices.Availability(mean=1.0, amplitude=0.0)


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
