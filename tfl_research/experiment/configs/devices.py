"""Simulated devices in the place of clients that are always there."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Optional

from tfl_research import settings
from tfl_research.settings import Settings

OVER_SELECTION = 1.3


@dataclasses.dataclass(frozen=True)
class Devices(Settings):
    """Devices that are not always there, are slow, and drop out.

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
        "Simulates so many registered devices, which hold the clients' examples in "
        "turn; --cohort_size reports are awaited in a round. Not given: every sampled "
        "client reports.",
        minimum=1,
    )
    over_selection: Optional[float] = settings.real(
        None,
        f"Devices selected in a round, relative to --cohort_size; {OVER_SELECTION}. "
        "With privacy --cohort_size are selected, and all that report are taken.",
        minimum=1,
    )
    report_deadline: float = settings.real(
        600.0,
        "Simulated seconds after which a round waits no more. fed_buff waits for "
        "nobody, so that in a grid of algorithms this does not concern it.",
        above=0,
    )
    minimum_cohort: int = settings.integer(
        1,
        "Reports with fewer of which a round is abandoned; with privacy, devices that "
        "could report, since lateness tells of their data.",
        minimum=1,
    )
    drop_out: float = settings.real(
        0.08, "Probability that a selected device stops mid-round.", minimum=0, below=1
    )
    partial_work: bool = settings.switch(
        False, "Late devices report the local steps that they did until the deadline."
    )
    seconds_per_example: float = settings.real(
        0.02, "Median compute time of a device for one example, once.", above=0
    )
    download_rate: float = settings.real(
        1e6, "Median download speed, bytes a second.", above=0
    )
    upload_rate: float = settings.real(
        2.5e5, "Median upload speed, bytes a second.", above=0
    )
    speed_spread: float = settings.real(
        1.0,
        "Standard deviation of the logarithm of compute and of network speeds.",
        minimum=0,
    )
    mean_availability: float = settings.real(
        0.2, "Share of its time that a device is available.", above=0, maximum=1
    )
    diurnal_amplitude: float = settings.real(
        0.8,
        "How much availability swings with the time of day; 0 for not at all.",
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
