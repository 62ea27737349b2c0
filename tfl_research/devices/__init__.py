"""Simulated devices: availability, speed, and which devices report in time.

This package does not depend on TensorFlow, on algorithms, or on updates' content.
"""

from tfl_research.devices.availability import Availability
from tfl_research.devices.buffered import BufferedRounds
from tfl_research.devices.outcome import Outcome
from tfl_research.devices.paced import PacedRounds
from tfl_research.devices.population import Device, DevicePopulation, Speeds
from tfl_research.devices.registry import DeviceIds, registered
from tfl_research.devices.rounds import DeviceRounds, with_message_bytes
from tfl_research.devices.silos import SiloOutcome, UnreliableSilos
from tfl_research.devices.synchronous import SynchronousRounds
from tfl_research.devices.workload import Workload

__all__ = [
    "Availability",
    "BufferedRounds",
    "Device",
    "DeviceIds",
    "DevicePopulation",
    "DeviceRounds",
    "Outcome",
    "PacedRounds",
    "SiloOutcome",
    "Speeds",
    "SynchronousRounds",
    "UnreliableSilos",
    "Workload",
    "registered",
    "with_message_bytes",
]
