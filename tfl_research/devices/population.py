"""Devices' properties, each a pure function of (seed, device)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection
from typing import Optional

import numpy as np

from tfl_research.data import derived_generator
from tfl_research.devices.availability import DAY, Availability

# In populations up to this size, every device is tested for availability.
_SEARCHED_WHOLE = 4096
# In larger populations, the largest number of draws for each wanted device.
_DRAWS = 200

# Returns a device's dominant label, and the number of labels.
LabelOfDevice = Callable[[int], tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Speeds:
    """Log-normal compute and network speeds, independent of each other.

    The traces in FedScale (Lai et al. 2022, arXiv 2105.11367, section 3) show that
    phones differ by an order of magnitude in both speeds. The log-normal shape is an
    assumption, and the medians are round figures; neither is fitted.

    Attributes:
      seconds_per_example: median time of a device for one example in one epoch.
      download_bytes_per_second, upload_bytes_per_second: median network speeds.
      compute_spread, network_spread: standard deviations of the logarithms, at least
        0; 1 puts the 95th percentile 5.2 times above the median. A device's two
        network speeds are one draw.

    Raises:
      ValueError: a median is not above 0, or a spread is negative.
    """

    seconds_per_example: float = 0.02
    download_bytes_per_second: float = 1e6
    upload_bytes_per_second: float = 2.5e5
    compute_spread: float = 1.0
    network_spread: float = 1.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            spread = field.name.endswith("spread")
            if not 0 <= value < math.inf or (value == 0 and not spread):
                bound = "at least 0" if spread else "above 0"
                raise ValueError(f"{field.name} must be {bound}, got {value}")


@dataclasses.dataclass(frozen=True)
class Device:
    """The properties of one device.

    Attributes:
      seconds_per_example: time for one example in one epoch.
      download_bytes_per_second, upload_bytes_per_second: network speeds.
      amplitude, phase: parameters of the availability; the phase in seconds.
    """

    seconds_per_example: float
    download_bytes_per_second: float
    upload_bytes_per_second: float
    amplitude: float
    phase: float

    def seconds(self, bytes_down: int, examples: int, bytes_up: int) -> float:
        """Seconds from the start of the download to the end of the upload."""
        return (
            bytes_down / self.download_bytes_per_second
            + examples * self.seconds_per_example
            + bytes_up / self.upload_bytes_per_second
        )


@dataclasses.dataclass(frozen=True)
class DevicePopulation:
    """Devices 0 to `count` - 1, computed when needed and not kept in memory.

    Attributes:
      count: number of registered devices, at least 1.
      seed: seed of the devices' properties and availability.
      speeds, availability: distributions of the devices' properties.
      label: returns a device's dominant label; needed if availability follows labels.

    Raises:
      ValueError: the count is below 1, or availability follows labels and `label` is
        missing.
    """

    count: int
    seed: int = 0
    speeds: Speeds = dataclasses.field(default_factory=Speeds)
    availability: Availability = dataclasses.field(default_factory=Availability)
    label: Optional[LabelOfDevice] = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")
        if self.availability.label_correlation > 0 and self.label is None:
            raise ValueError("label_correlation above 0 needs `label`, got None")

    def device(self, number: int) -> Device:
        """Computes the properties of a device."""
        draws = derived_generator("device", self.seed, number)
        compute, network, phase = draws.normal(size=3)
        spread, follows = draws.random(2)
        speeds, hours = self.speeds, self.availability
        faster = math.exp(speeds.network_spread * network)
        amplitude = hours.amplitude + 0.4 * (spread - 0.5)
        peak = hours.peak_hour
        if self.label is not None and follows < hours.label_correlation:
            label, labels = self.label(number)
            peak = 24.0 * label / labels
        return Device(
            speeds.seconds_per_example * math.exp(speeds.compute_spread * compute),
            speeds.download_bytes_per_second * faster,
            speeds.upload_bytes_per_second * faster,
            0.0 if hours.amplitude == 0 else min(1.0, max(0.0, amplitude)),
            (peak + hours.phase_spread_hours * phase) * DAY / 24,
        )

    def available(self, number: int, seconds: float) -> bool:
        """Whether a device is available at a time."""
        device = self.device(number)
        return self.availability.drawn(
            self.seed, number, seconds, device.amplitude, device.phase
        )

    def draw_available(
        self,
        wanted: int,
        seconds: float,
        generator: np.random.Generator,
        busy: Collection[int] = (),
    ) -> list[int]:
        """Draws random available devices, uniformly and without replacement.

        The time is proportional to `wanted`: large populations are sampled by
        rejection. The result has fewer devices if fewer are available, or if 200 draws
        for each wanted device were not enough.

        Args:
          wanted: number of devices.
          seconds: the time.
          generator: draws the candidates.
          busy: devices that cannot be drawn.
        """
        drawn: list[int] = []
        seen = set(busy)
        if self.count <= _SEARCHED_WHOLE:
            candidates = generator.permutation(self.count)
        else:
            candidates = generator.integers(0, self.count, _DRAWS * max(wanted, 10))
        for number in map(int, candidates):
            if len(drawn) == wanted:
                break
            if number in seen:
                continue
            seen.add(number)
            if self.available(number, seconds):
                drawn.append(number)
        return drawn
