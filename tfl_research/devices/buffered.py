"""Buffered asynchronous aggregation: the updates in the buffer and their staleness."""

from __future__ import annotations

import collections
import dataclasses
import heapq
import math
from collections.abc import Iterator

import numpy as np

from tfl_research.data import derived_generator
from tfl_research.devices.outcome import Outcome
from tfl_research.devices.rounds import DeviceRounds
from tfl_research.sampling.cohort_sizes import check_round

_KEPT = 4
# A run stops after this many slots in a row in which no device works or begins.
_IDLE_SLOTS = 1000


@dataclasses.dataclass(frozen=True)
class BufferedRounds(DeviceRounds):
    """The server steps of FedBuff (Nguyen et al. 2022, arXiv 2106.06639, Algorithm 1).

    `concurrency` devices train at once. A device trains from the model at the time when
    it began. When a device reports or drops out, another available device begins. When
    the buffer has `cohort_size` (K in the paper) updates, the server takes a step. A
    server step is a round. The staleness of an update is the number of server steps
    since its device began. An update with a staleness above `max_staleness` is
    discarded and counts as late. A device has at most one update that is under way or
    in the buffer.

    A server step is a pure function of the fields and the step's number. If a call asks
    for an earlier step than the last call, the simulation begins again.

    Attributes:
      concurrency: M in the paper, the number of devices that train at once, at least 1.
      max_staleness: largest staleness of an update, at least 0.

    Raises:
      ValueError: a number is out of range, `concurrency` plus `cohort_size` exceeds the
        number of devices, or `DeviceRounds` raises.
    """

    concurrency: int = 100
    max_staleness: int = 10
    _running: list[Iterator[Outcome]] = dataclasses.field(
        default_factory=list, init=False, repr=False, compare=False
    )
    _latest: collections.OrderedDict[int, Outcome] = dataclasses.field(
        default_factory=collections.OrderedDict, init=False, repr=False, compare=False
    )
    _done: list[int] = dataclasses.field(
        default_factory=lambda: [0], init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {self.concurrency}")
        if self.max_staleness < 0:
            raise ValueError(
                f"max_staleness must be at least 0, got {self.max_staleness}"
            )
        needed = self.concurrency + self.cohort_size
        if self.devices.count < needed:
            raise ValueError(
                f"concurrency plus cohort_size is {needed}, but there are only "
                f"{self.devices.count} devices; lower one of the two, or give more "
                "devices"
            )

    @property
    def minimum_cohort_size(self) -> int:
        """`cohort_size`: the buffer is always full."""
        return int(self.cohort_size)

    def sample(self, round_number: int) -> tuple[str, ...]:
        """The clients in the buffer of a server step, in population order."""
        return self.outcome(round_number).client_ids

    def abandoned_before(self, round_number: int) -> int:
        """0: no round is abandoned, since the server waits for a full buffer."""
        check_round(round_number)
        return 0

    def outcome(self, round_number: int) -> Outcome:
        """The updates in the buffer of a server step."""
        check_round(round_number)
        if round_number in self._latest:
            return self._latest[round_number]
        if not self._running or round_number <= self._done[0]:
            self._running[:] = [self._server_steps()]
            self._done[0] = 0
            self._latest.clear()
        while self._done[0] < round_number:
            self._done[0] += 1
            self._latest[self._done[0]] = next(self._running[0])
            while len(self._latest) > _KEPT:
                self._latest.popitem(last=False)
        return self._latest[round_number]

    def _server_steps(self) -> Iterator[Outcome]:
        clock, started, version = self.start_seconds, 0, 0
        # (end of the work, order of beginning, device, model version, reports?)
        at_work: list[tuple[float, int, int, int, bool]] = []
        busy: set[int] = set()
        buffer: list[tuple[int, int]] = []
        begun = dropped = late = received = idle_slots = 0
        while True:
            waits = False
            if idle_slots > _IDLE_SLOTS:
                raise ValueError(
                    f"no device was available in {_IDLE_SLOTS} slots of time; give "
                    "more devices or a higher mean availability"
                )
            while len(at_work) < self.concurrency and not waits:
                generator = derived_generator("device begins", self.seed, started)
                beginners = self.devices.draw_available(1, clock, generator, busy)
                started += 1
                waits = not beginners
                for number in beginners:
                    end, reports = self._work(number, clock, generator)
                    heapq.heappush(at_work, (end, started, number, version, reports))
                    busy.add(number)
                    begun += 1
            # If no device is available, wait for the next slot.
            slot = self.devices.availability.slot_seconds
            next_slot = (math.floor(clock / slot) + 1) * slot
            if next_slot <= clock:  # by rounding
                next_slot += slot
            if waits and (not at_work or next_slot < at_work[0][0]):
                idle_slots = idle_slots + 1 if not at_work else 0
                clock = next_slot
                continue
            idle_slots = 0
            clock, _, number, began, reports = heapq.heappop(at_work)
            if not reports:
                dropped += 1
                busy.discard(number)
                continue
            received += 1
            if version - began > self.max_staleness:
                late += 1
                busy.discard(number)
                continue
            buffer.append((number, version - began))
            if len(buffer) < self.cohort_size:
                continue
            buffer.sort()
            yield Outcome(
                tuple(self.client_ids[number] for number, _ in buffer),
                clock,
                selected=begun,
                dropped_out=dropped,
                late=late,
                bytes_down=begun * self.bytes_down,
                bytes_up=received * self.bytes_up,
                staleness=np.array([s for _, s in buffer], np.int32),
            )
            busy.difference_update(number for number, _ in buffer)
            buffer, version = [], version + 1
            begun = dropped = late = received = 0

    def _work(
        self, number: int, clock: float, generator: np.random.Generator
    ) -> tuple[float, bool]:
        """Returns when a device that begins now ends, and whether it reports."""
        device, work = self.devices.device(number), self.workload(number)
        seconds = device.seconds(self.bytes_down, work.examples, self.bytes_up)
        fate, share = generator.random(2)
        if fate < self.drop_out:
            return clock + share * seconds, False
        return clock + seconds, True
