"""The base class of samplers of simulated devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfl_research.data import ClientData
from tfl_research.data.batching import Batching
from tfl_research.devices.population import DevicePopulation
from tfl_research.devices.workload import Workload
from tfl_research.sampling import Amplification, Sampler


@dataclasses.dataclass(frozen=True)
class DeviceRounds:
    """Base of the simulated samplers.

    Attributes:
      devices: the devices; device i is the client `clients.client_ids[i]`.
      clients: the clients' data, of which only the numbers of examples are used.
      cohort_size: number of reports that a round needs, or size of the buffer; at least
        1.
      seed: seed of selection and drop-outs.
      bytes_down, bytes_up: bytes of a message to and from one device.
      drop_out: probability that a selected device never reports, in [0, 1); Bonawitz
        et al. 2019 (arXiv 1902.01046, section 9) saw 6% to 10%.
      start_seconds: the clock at the start, in seconds since midnight.

    Raises:
      ValueError: a number is outside its range, the numbers of devices and clients
        differ, or local steps are Poisson-sampled, so that their number is secret.
    """

    devices: DevicePopulation
    clients: ClientData
    cohort_size: int
    seed: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    drop_out: float = 0.08
    start_seconds: float = 0.0

    def __post_init__(self) -> None:
        population = len(self.clients.client_ids)
        if population != self.devices.count:
            raise ValueError(
                f"expected a device for each of the {population} clients, got "
                f"{self.devices.count} devices"
            )
        if not 1 <= self.cohort_size <= population:
            raise ValueError(
                f"cohort_size must be from 1 to {population}, got {self.cohort_size}"
            )
        if not 0 <= self.drop_out < 1:
            raise ValueError(f"drop_out must be in [0, 1), got {self.drop_out}")
        for name in ("bytes_down", "bytes_up", "start_seconds"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(
                    f"{name} must be at least 0 and finite, got {getattr(self, name)}"
                )
        if not isinstance(self.clients.batching, Batching):
            raise ValueError("devices need plain batching, got Poisson-sampled steps")

    @property
    def client_ids(self) -> Sequence[str]:
        """The population, in a fixed order."""
        return self.clients.client_ids

    @property
    def expected_cohort_size(self) -> float:
        """`cohort_size`; a round may have fewer."""
        return float(self.cohort_size)

    @property
    def maximum_cohort_size(self) -> int:
        """`cohort_size`."""
        return int(self.cohort_size)

    @property
    def amplification(self) -> Amplification:
        """No amplification: cohorts depend on clocks and speeds, not on secrets."""
        population = len(self.client_ids)
        return Amplification(
            "none",
            self.cohort_size / population,
            population,
            float(self.cohort_size),
            "replace_one",
        )

    def workload(self, number: int) -> Workload:
        """Returns the local work of a device."""
        batching = self.clients.batching
        if not isinstance(batching, Batching):
            raise TypeError(f"expected Batching, got {batching}")
        num_examples = self.clients.num_examples(self.client_ids[number])
        return Workload(num_examples, batching)


def with_message_bytes(sampler: Sampler, message_bytes: tuple[int, int]) -> Sampler:
    """Gives a sampler of simulated devices the sizes of the messages.

    Args:
      sampler: any sampler; a sampler that simulates no devices is returned unchanged.
      message_bytes: bytes to and from one device in a round
        (`processes.FederatedProcess.message_bytes`).
    """
    if not isinstance(sampler, DeviceRounds):
        return sampler
    bytes_down, bytes_up = message_bytes
    return dataclasses.replace(sampler, bytes_down=bytes_down, bytes_up=bytes_up)
