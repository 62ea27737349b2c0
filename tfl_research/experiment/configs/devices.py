"""Settings of simulated devices, which replace clients that always take part."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Optional

from tfl_research import settings
from tfl_research.settings import Settings

OVER_SELECTION = 1.3


@dataclasses.dataclass(frozen=True)
class Devices(Settings):
    """Simulated devices that are not always available, are slow, and drop out.

    Example:
      >>> experiment = tfl.Experiment(
      ...     "mnist",
      ...     cohorts=tfl.Cohorts(cohort_size=20),
      ...     devices=tfl.Devices(500, report_deadline=60),
      ... )
      >>> experiment.check()
    """

    TITLE: ClassVar[str] = "Devices"

    devices: Optional[int] = settings.integer(
        None,
        "Number of simulated devices, which get the clients' examples in turn. A "
        "round waits for --cohort_size reports. Without devices every sampled client "
        "reports.",
        minimum=1,
    )
    over_selection: Optional[float] = settings.real(
        None,
        f"A round selects this many times --cohort_size devices; {OVER_SELECTION} "
        "when not given. With privacy a round selects --cohort_size devices, and "
        "takes every report.",
        minimum=1,
    )
    report_deadline: float = settings.real(
        600.0,
        "Simulated seconds after which a round ends, whoever has reported. In a sweep "
        "over algorithms, fed_buff ignores this flag, because it waits for no device.",
        above=0,
    )
    minimum_cohort: int = settings.integer(
        1,
        "A round with fewer reports is abandoned. With privacy, the devices that "
        "could report are counted instead, because a late report reveals something "
        "about the device's data.",
        minimum=1,
    )
    drop_out: float = settings.real(
        0.08, "Probability that a selected device stops mid-round.", minimum=0, below=1
    )
    partial_work: bool = settings.switch(
        False,
        "Late devices report the local steps that they finished before the deadline.",
    )
    seconds_per_example: float = settings.real(
        0.02, "Median seconds that a device computes for one example.", above=0
    )
    download_rate: float = settings.real(
        1e6, "Median download speed, bytes a second.", above=0
    )
    upload_rate: float = settings.real(
        2.5e5, "Median upload speed, bytes a second.", above=0
    )
    speed_spread: float = settings.real(
        1.0,
        "Standard deviation of the logarithm of compute speeds and of network speeds.",
        minimum=0,
    )
    mean_availability: float = settings.real(
        0.2, "Share of its time that a device is available.", above=0, maximum=1
    )
    diurnal_amplitude: float = settings.real(
        0.8,
        "How much availability changes with the time of day; 0 is no change.",
        minimum=0,
        maximum=1,
    )
    availability_by_label: float = settings.real(
        0.0,
        "Share of devices whose best hour depends on their most frequent label.",
        minimum=0,
        maximum=1,
    )

    def check(self) -> None:
        if self.devices is not None:
            return
        for field in settings.declared(type(self)):
            if getattr(self, field.name) != field.default:
                raise self.refused(field.name, "goes with --devices; give that too")
