"""Rounds of devices whose course tells nothing of data, for private runs."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfl_research.devices.outcome import Outcome
from tfl_research.devices.synchronous import SynchronousRounds
from tfl_research.sampling import Amplification


@dataclasses.dataclass(frozen=True)
class PacedRounds(SynchronousRounds):
    """Rounds that last until the deadline and take every report that is in time.

    How long a device works depends on how many examples it holds. Where the first
    reports end a round, one device's data move the clock, and with it who is available
    and selected in all later rounds: nothing bounds what that tells. Here

    - every round lasts exactly `report_deadline`;
    - `cohort_size` devices are selected, which depends on seed, clock and
      availability;
    - each of them that reports in time is in the cohort, however many do; one that
      drops out or is late contributes nothing;
    - a round is abandoned if fewer than `minimum_cohort` of the selected devices
      could report, which are those that do not drop out and whose network alone is
      fast enough. That a device is late for having many examples does not count.

    So of everything that happens in a round, a device's data decide what this device
    contributes and nothing else: populations that differ in one device's data differ
    in one term of each round's sum.

    Attributes:
      over_selection: 1; all reports are taken, and there is nothing to select for.
      every_device_sends: every device that could report is in the cohort, with no
        local step if it would be late. For mechanisms that noise at the clients,
        whose guarantee holds against a server that sees who sends.

    Raises:
      ValueError: another over-selection, availability that follows labels, and see
        `SynchronousRounds`.
    """

    over_selection: float = 1.0
    every_device_sends: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.over_selection != 1:
            raise ValueError(
                "over_selection must be 1 where every report is taken, got "
                f"{self.over_selection}"
            )
        if self.devices.availability.label_correlation > 0:
            raise ValueError(
                "availability must not depend on data where a round's course is to "
                "tell nothing of them, got a label_correlation of "
                f"{self.devices.availability.label_correlation}"
            )

    @classmethod
    def of(
        cls, rounds: SynchronousRounds, *, every_device_sends: bool = False
    ) -> PacedRounds:
        """Paced rounds of the same devices; `over_selection` is left out.

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
        """Of a round that is not abandoned: 0 where all its devices can be late."""
        return int(self.minimum_cohort) if self.every_device_sends else 0

    @property
    def amplification(self) -> Amplification:
        """None, under zero-out.

        Selection is no secret, and a device may be selected in every round. Who is
        drawn depends on which devices there are, so that neighbours have the same
        ones, and in one of them a device's contributions are zero (zero-out, as
        Kairouz et al. 2021, arXiv 2103.00039, have it), as they are where it is late.
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
            private_columns=(
                ("late",)
                if self.every_device_sends
                else ("cohort_size", "late", "bytes_up")
            ),
        )
