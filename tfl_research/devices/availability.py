"""Simulates when devices are available: idle, charging and on a free network."""

from __future__ import annotations

import dataclasses
import math

from tfl_research.data import derived_generator

DAY = 86_400.0


@dataclasses.dataclass(frozen=True)
class Availability:
    """Availability of devices with a probability that follows the time of day.

    Each device is available in a slot of time with probability
    `mean * (1 + a cos(2 pi (t - p) / 86400))`, independently of other devices and
    slots. Here t is the middle of the slot, a the device's amplitude and p the device's
    phase. Amplitudes are uniform within 0.2 of `amplitude`, and in [0, 1]. Phases are
    normal around `peak_hour`. By default about four times as many devices are available
    at the best hour as at the worst hour, as Bonawitz et al. 2019 (arXiv 1902.01046,
    section 9) report for one country. The cosine and the mean are assumptions.

    Attributes:
      mean: share of its time that a device is available, in (0, 1]; probabilities
        above 1 count as 1.
      amplitude: mean amplitude, in [0, 1].
      peak_hour: hour of the day, in [0, 24), with most devices.
      phase_spread_hours: standard deviation of the phases.
      slot_seconds: length of a slot, above 0.
      label_correlation: probability that a device's phase follows the dominant label
        of its examples and not `peak_hour`: devices of label l of L have their peak
        around hour 24 l / L, which makes the data block-cyclic (Eichner et al. 2019,
        arXiv 1904.10120).

    Raises:
      ValueError: a number is outside its range.
    """

    mean: float = 0.2
    amplitude: float = 0.8
    peak_hour: float = 2.0
    phase_spread_hours: float = 3.0
    slot_seconds: float = 600.0
    label_correlation: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.mean <= 1:
            raise ValueError(f"mean must be in (0, 1], got {self.mean}")
        for name in ("amplitude", "label_correlation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if not 0 <= self.peak_hour < 24:
            raise ValueError(f"peak_hour must be in [0, 24), got {self.peak_hour}")
        if not 0 <= self.phase_spread_hours < math.inf:
            raise ValueError(
                "phase_spread_hours must be at least 0 and finite, got "
                f"{self.phase_spread_hours}"
            )
        if not 0 < self.slot_seconds < math.inf:
            raise ValueError(
                f"slot_seconds must be above 0 and finite, got {self.slot_seconds}"
            )

    def slot(self, seconds: float) -> int:
        """Returns the number of the slot at a time."""
        return int(seconds // self.slot_seconds)

    def probability(self, seconds: float, amplitude: float, phase: float) -> float:
        """Computes the probability that a device is available at a time.

        Args:
          seconds: time in seconds since the simulation's first midnight.
          amplitude, phase: amplitude and phase of the device; the phase in seconds.
        """
        middle = (self.slot(seconds) + 0.5) * self.slot_seconds
        wave = math.cos(2 * math.pi * (middle - phase) / DAY)
        return min(1.0, self.mean * (1 + amplitude * wave))

    def drawn(
        self, seed: int, device: int, seconds: float, amplitude: float, phase: float
    ) -> bool:
        """Whether the device is available: a pure function of device and slot."""
        generator = derived_generator(
            "device available", seed, device, self.slot(seconds)
        )
        return bool(generator.random() < self.probability(seconds, amplitude, phase))
