"""Synchronous rounds of devices that can be slow, drop out or be unavailable."""

from __future__ import annotations

import collections
import dataclasses
import math

import numpy as np

from tfl_research.data import derived_generator
from tfl_research.devices.outcome import Outcome
from tfl_research.devices.rounds import DeviceRounds
from tfl_research.sampling.cohort_sizes import check_round

# Number of outcomes that are kept; the ends of all rounds are kept too.
_KEPT = 4


@dataclasses.dataclass(frozen=True)
class SynchronousRounds(DeviceRounds):
    """Synchronous rounds with over-selection, a deadline and a minimum cohort.

    A round selects `ceil(over_selection * cohort_size)` of the devices that are
    available at its start. A device reports after download, local work and upload, or
    drops out. The round ends when `cohort_size` devices have reported, or at the
    deadline. The devices that have reported are the cohort (Bonawitz et al. 2019, arXiv
    1902.01046, sections 2.2 and 9). With fewer than `minimum_cohort` reports the round
    is abandoned: nothing is aggregated or released. The next round starts when a round
    ends.

    A round is a pure function of the fields and the round's number. To compute a later
    round, all rounds before it are computed, in time proportional to their cohorts.

    Attributes:
      over_selection: factor of the cohort size, at least 1.
      report_deadline: seconds from the round's start to its deadline, above 0.
      minimum_cohort: smallest cohort, from 1 to `cohort_size`.
      partial_work: whether a device that would be late reports at the deadline with the
        steps that it completed (FedProx; Li et al. 2020, arXiv 1812.06127, section 3),
        if it completed at least one step.

    Raises:
      ValueError: a number is out of range, or `DeviceRounds` raises.
    """

    over_selection: float = 1.3
    report_deadline: float = 600.0
    minimum_cohort: int = 1
    partial_work: bool = False
    _ends: list[float] = dataclasses.field(
        default_factory=list, init=False, repr=False, compare=False
    )
    _abandoned: list[int] = dataclasses.field(
        default_factory=list, init=False, repr=False, compare=False
    )
    _latest: collections.OrderedDict[int, Outcome] = dataclasses.field(
        default_factory=collections.OrderedDict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.over_selection < math.inf:
            raise ValueError(
                f"over_selection must be at least 1, got {self.over_selection}"
            )
        if not 0 < self.report_deadline < math.inf:
            raise ValueError(
                "report_deadline must be above 0 and finite, got "
                f"{self.report_deadline}"
            )
        if not 1 <= self.minimum_cohort <= self.cohort_size:
            raise ValueError(
                f"minimum_cohort must be from 1 to the cohort size of "
                f"{self.cohort_size}, got {self.minimum_cohort}"
            )

    @property
    def minimum_cohort_size(self) -> int:
        """`minimum_cohort`: rounds with fewer reports are abandoned."""
        return int(self.minimum_cohort)

    @property
    def selection_size(self) -> int:
        """Number of devices that a round selects, if enough devices are available."""
        # In floating point, 1.1 * 10 is slightly above 11.
        wanted = math.ceil(self.over_selection * self.cohort_size - 1e-9)
        return min(wanted, self.devices.count)

    def sample(self, round_number: int) -> tuple[str, ...]:
        """Returns the round's cohort; empty for an abandoned round."""
        return self.outcome(round_number).client_ids

    def abandoned_before(self, round_number: int) -> int:
        """Counts the abandoned rounds before a round."""
        check_round(round_number)
        if round_number == 1:
            return 0
        self._simulate(round_number - 1)
        return self._abandoned[round_number - 2]

    def outcome(self, round_number: int) -> Outcome:
        """Returns the outcome of the round."""
        check_round(round_number)
        self._simulate(round_number)
        if round_number not in self._latest:
            self._keep(round_number, self._round(round_number))
        return self._latest[round_number]

    def _simulate(self, round_number: int) -> None:
        while len(self._ends) < round_number:
            number = len(self._ends) + 1
            outcome = self._round(number)
            before = self._abandoned[-1] if self._abandoned else 0
            self._ends.append(outcome.end_seconds)
            self._abandoned.append(before + outcome.abandoned)
            self._keep(number, outcome)

    def _keep(self, round_number: int, outcome: Outcome) -> None:
        self._latest[round_number] = outcome
        while len(self._latest) > _KEPT:
            self._latest.popitem(last=False)

    def _selection(self, round_number: int) -> tuple[float, list[int], np.ndarray]:
        """Returns the clock at a round's start, the selected devices, and drop-outs.

        The end of the previous round must be known. No other part of earlier rounds is
        used.
        """
        start = self._ends[round_number - 2] if round_number > 1 else self.start_seconds
        generator = derived_generator("device round", self.seed, round_number)
        selected = self.devices.draw_available(self.selection_size, start, generator)
        return start, selected, generator.random(len(selected)) < self.drop_out

    def _round(self, round_number: int) -> Outcome:
        """Simulates a round; the end of the previous round must be known."""
        start, selected, dropped = self._selection(round_number)
        # (seconds from the start, position in the draw, device, steps)
        reports = []
        for position, number in enumerate(selected):
            if not dropped[position]:
                seconds, steps = self._report(number)
                reports.append((seconds, position, number, steps))
        in_time = sorted(r for r in reports if r[0] <= self.report_deadline)
        taken = in_time[: self.cohort_size]
        full = len(taken) == self.cohort_size
        length = taken[-1][0] if full else self.report_deadline
        abandoned = len(taken) < self.minimum_cohort
        cohort = [] if abandoned else sorted(taken, key=lambda report: report[2])
        max_steps = tuple(steps for *_, steps in cohort)
        return Outcome(
            tuple(self.client_ids[number] for _, _, number, _ in cohort),
            # Without bytes and examples a round takes no time; the clock still moves.
            start + max(length, 1e-3),
            selected=len(selected),
            dropped_out=int(np.sum(dropped)),
            late=len(reports) - len(taken),
            bytes_down=len(selected) * self.bytes_down,
            bytes_up=len(taken) * self.bytes_up,
            abandoned=abandoned,
            max_steps=max_steps if self.partial_work else None,
        )

    def _report(self, number: int) -> tuple[float, int]:
        """Returns seconds from start to a device's report, and steps in the report."""
        device, work = self.devices.device(number), self.workload(number)
        seconds = device.seconds(self.bytes_down, work.examples, self.bytes_up)
        if seconds <= self.report_deadline or not self.partial_work:
            return seconds, work.steps
        left = self.report_deadline - device.seconds(self.bytes_down, 0, self.bytes_up)
        steps = work.steps_within(left / device.seconds_per_example)
        return (self.report_deadline, steps) if steps else (seconds, work.steps)
