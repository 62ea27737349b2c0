"""Rounds of devices for private runs: their course does not depend on data."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfl_research.devices.outcome import Outcome
from tfl_research.devices.synchronous import SynchronousRounds
from tfl_research.sampling import Amplification


@dataclasses.dataclass(frozen=True)
class PacedRounds(SynchronousRounds):
    """Rounds that last until the deadline and take every report in time.

    The work time of a device depends on its number of examples. If the first reports
    end a round, the data of one device change the clock, and so which devices are
    available and selected in all later rounds. This discloses an unbounded amount of
    information. Therefore, in this class

    - every round lasts exactly `report_deadline`;
    - `cohort_size` devices are selected, which depends on seed, clock and
      availability;
    - all selected devices that report in time are in the cohort; a device that drops
      out or is late contributes nothing;
    - a round is abandoned if fewer than `minimum_cohort` of the selected devices could
      report. A device could report if it does not drop out and its network is fast
      enough. A device that is late because of its many examples could report.

    So the data of a device decide only its own contribution to a round. Two populations
    that differ in one device's data differ in only one term of each round's sum.

    Attributes:
      over_selection: 1, since all reports are taken.
      every_device_sends: whether every device that could report is in the cohort. A
        device that would be late then takes no local step. This is for mechanisms that
        add noise at the clients, whose guarantee holds against a server that sees which
        clients send.

    Raises:
      ValueError: `over_selection` is not 1, availability follows labels, or
        `SynchronousRounds` raises.
    """

    over_selection: float = 1.0
    every_device_sends: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.over_selection != 1:
            raise ValueError(
                "over_selection must be 1, since these rounds take every report that "
                f"comes in time, got {self.over_selection}"
            )
        if self.devices.availability.label_correlation > 0:
            raise ValueError(
                "label_correlation must be 0, since the course of these rounds must "
                "not depend on the clients' data, got "
                f"{self.devices.availability.label_correlation}"
            )

    @classmethod
    def of(
        cls, rounds: SynchronousRounds, *, every_device_sends: bool = False
    ) -> PacedRounds:
        """Makes paced rounds of the same devices; ignores `over_selection`.

        Raises:
          ValueError: see the class.
        """
        given = {
            field.name: getattr(rounds, field.name)
            for field in dataclasses.fields(rounds)
            if field.init and field.name != "over_selection"
        }
        return cls(**given, every_device_sends=every_device_sends)

    @property
    def minimum_cohort_size(self) -> int:
        """Smallest cohort of a round that counts; 0 if all its devices can be late."""
        return int(self.minimum_cohort) if self.every_device_sends else 0

    @property
    def amplification(self) -> Amplification:
        """No amplification, under the zero-out relation.

        Selection is not secret, and a device may be selected in every round. The draw
        depends on the set of devices. So neighbouring populations have the same
        devices, and in one of them the contributions of one device are zero (zero-out,
        as in Kairouz et al. 2021, arXiv 2103.00039). They are also zero when the device
        is late.
        """
        return dataclasses.replace(
            super().amplification, neighbouring_relation="zero_out"
        )

    def _round(self, round_number: int) -> Outcome:
        start, selected, dropped = self._selection(round_number)
        reports: list[tuple[int, int]] = []
        could_report = late = 0
        for number in (n for n, gone in zip(selected, dropped) if not gone):
            waiting = self.devices.device(number).seconds(
                self.bytes_down, 0, self.bytes_up
            )
            if waiting > self.report_deadline:
                late += 1
                continue
            could_report += 1
            seconds, steps = self._report(number)
            if seconds > self.report_deadline:
                late += 1
                if not self.every_device_sends:
                    continue
                steps = 0
            reports.append((number, steps))
        abandoned = could_report < self.minimum_cohort
        cohort = [] if abandoned else sorted(reports)
        shortened = self.partial_work or self.every_device_sends
        return Outcome(
            tuple(self.client_ids[number] for number, _ in cohort),
            start + self.report_deadline,
            selected=len(selected),
            dropped_out=int(np.sum(dropped)),
            late=late,
            bytes_down=len(selected) * self.bytes_down,
            bytes_up=len(reports) * self.bytes_up,
            abandoned=abandoned,
            max_steps=tuple(steps for _, steps in cohort) if shortened else None,
        )
