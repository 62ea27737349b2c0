"""Flags of simulated devices, and what they make of an experiment."""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar, Optional

import numpy as np

from tfl_research import devices
from tfl_research.data import ClientData
from tfl_research.data.batching import Batching
from tfl_research.devices import DevicePopulation
from tfl_research.flags import assembly, declare
from tfl_research.flags.declare import FlagError, FlagGroup
from tfl_research.sampling import Sampler
from tfl_research.tasks import Task

_OVER_SELECTION = 1.3


@dataclasses.dataclass(frozen=True)
class DeviceFlags(FlagGroup):
    """Devices that are not always there, are slow, and drop out."""

    TITLE: ClassVar[str] = "Devices"

    devices: Optional[int] = declare.integer(
        None,
        "Simulates so many registered devices, which hold the clients' examples in "
        "turn; --cohort_size reports are awaited in a round. Not given: every sampled "
        "client reports.",
        minimum=1,
    )
    over_selection: Optional[float] = declare.real(
        None,
        f"Devices selected in a round, relative to --cohort_size; {_OVER_SELECTION}. "
        "With privacy --cohort_size are selected, and all that report are taken.",
        minimum=1,
    )
    report_deadline: float = declare.real(
        600.0,
        "Simulated seconds after which a round waits no more. fed_buff waits for "
        "nobody, so that in a grid of algorithms this does not concern it.",
        above=0,
    )
    minimum_cohort: int = declare.integer(
        1,
        "Reports with fewer of which a round is abandoned; with privacy, devices that "
        "could report, since lateness tells of their data.",
        minimum=1,
    )
    drop_out: float = declare.real(
        0.08, "Probability that a selected device stops mid-round.", minimum=0, below=1
    )
    partial_work: bool = declare.switch(
        False, "Late devices report the local steps that they did until the deadline."
    )
    seconds_per_example: float = declare.real(
        0.02, "Median compute time of a device for one example, once.", above=0
    )
    download_rate: float = declare.real(
        1e6, "Median download speed, bytes a second.", above=0
    )
    upload_rate: float = declare.real(
        2.5e5, "Median upload speed, bytes a second.", above=0
    )
    speed_spread: float = declare.real(
        1.0,
        "Standard deviation of the logarithm of compute and of network speeds.",
        minimum=0,
    )
    mean_availability: float = declare.real(
        0.2, "Share of its time that a device is available.", above=0, maximum=1
    )
    diurnal_amplitude: float = declare.real(
        0.8,
        "How much availability swings with the time of day; 0 for not at all.",
        minimum=0,
        maximum=1,
    )
    availability_by_label: float = declare.real(
        0.0,
        "Share of devices whose best hour depends on their most frequent label.",
        minimum=0,
        maximum=1,
    )

    def check(self) -> None:
        """See `FlagGroup.check`."""
        if self.devices is not None:
            return
        for field in dataclasses.fields(self):
            if getattr(self, field.name) != field.default:
                raise self.refused(field.name, "goes with --devices; give that too")

    def setup(self, buffering: Optional[tuple[int, int]] = None) -> assembly.Setup:
        """`assembly.setup`, with devices in the place of clients if there are any.

        Args:
          buffering: (concurrency, largest staleness) where devices report to a buffer
            as they please; None for rounds that they are selected for.

        Raises:
          FlagError: see `assembly.setup`; and a sampler other than fixed, a minimum
            above the cohort, or local steps or labels that cannot be simulated.
        """
        if self.devices is None:
            if buffering is not None:
                raise FlagError("--devices is missing: fed_buff needs devices; give it")
            return assembly.setup()
        if buffering is not None:
            for name in ("over_selection", "minimum_cohort", "partial_work"):
                if getattr(self, name) != getattr(type(self)(), name):
                    raise self.refused(
                        name, "devices of fed_buff are not selected for rounds"
                    )
        count, owners = self.devices, []

        def register(task: Task) -> Task:
            if not isinstance(task.train.batching, Batching):
                raise self.refused("devices", "cannot go with Poisson batches")
            if self.availability_by_label > 0 and task.train.specs["y"].shape:
                raise self.refused(
                    "availability_by_label",
                    "this task's examples have no single label; leave it out",
                )
            owners.append(task.train)
            train = devices.registered(task.train, count)
            return dataclasses.replace(task, train=train)

        parts = assembly.setup(register)
        if parts.cohort.sampler != "fixed":
            raise FlagError(
                f"--sampler={parts.cohort.sampler}: --devices decides who takes part; "
                "give --sampler=fixed"
            )
        size = int(parts.sampler.expected_cohort_size)
        if self.minimum_cohort > size:
            raise self.refused(
                "minimum_cohort", f"must be at most --cohort_size={size}"
            )
        label = None
        if self.availability_by_label > 0:
            label = _labels(owners[0], len(parts.task.card.label_names))
        population = devices.DevicePopulation(
            count,
            parts.run.seed,
            devices.Speeds(
                self.seconds_per_example,
                self.download_rate,
                self.upload_rate,
                self.speed_spread,
                self.speed_spread,
            ),
            devices.Availability(
                mean=self.mean_availability,
                amplitude=self.diurnal_amplitude,
                label_correlation=self.availability_by_label,
            ),
            label,
        )
        sampler = self._rounds(population, parts, size, buffering)
        return dataclasses.replace(parts, sampler=sampler)

    def _rounds(
        self,
        population: DevicePopulation,
        parts: assembly.Setup,
        size: int,
        buffering: Optional[tuple[int, int]],
    ) -> Sampler:
        if buffering is None:
            return devices.SynchronousRounds(
                population,
                parts.task.train,
                size,
                parts.run.seed,
                drop_out=self.drop_out,
                over_selection=self.over_selection or _OVER_SELECTION,
                report_deadline=self.report_deadline,
                minimum_cohort=self.minimum_cohort,
                partial_work=self.partial_work,
            )
        concurrency, max_staleness = buffering
        try:
            return devices.BufferedRounds(
                population,
                parts.task.train,
                size,
                parts.run.seed,
                drop_out=self.drop_out,
                concurrency=concurrency,
                max_staleness=max_staleness,
            )
        except ValueError as error:
            raise self.refused("devices", str(error)) from error


def _labels(clients: ClientData, named: int) -> devices.population.LabelOfDevice:
    """Devices' most frequent label; the lowest of several, 0 without examples."""
    count = named or 1 + max(
        (int(held["y"].max()) for _, held in clients.items() if len(held["y"])),
        default=0,
    )

    @functools.cache
    def of_client(index: int) -> int:
        held = clients.load(clients.client_ids[index])["y"].astype(np.int64)
        return int(np.argmax(np.bincount(held))) if len(held) else 0

    def of_device(number: int) -> tuple[int, int]:
        return of_client(number % len(clients.client_ids)), count

    return of_device
