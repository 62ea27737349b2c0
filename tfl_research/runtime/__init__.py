"""Engines that execute TFF processes, and the lifetime of what they start.

What is executed is assembled in `processes`.
"""

from tfl_research.runtime.engine import ClientValues, Engine
from tfl_research.runtime.in_process import InProcessEngine, in_process
from tfl_research.runtime.map_reduce import UnsupportedProcess
from tfl_research.runtime.mode import Mode
from tfl_research.runtime.remote import RemoteEngine, remote
from tfl_research.runtime.remote_worker import WorkerUnavailable
from tfl_research.runtime.tff_local import TffLocalEngine, tff_local
from tfl_research.runtime.worker import Worker

__all__ = [
    "ClientValues",
    "Engine",
    "InProcessEngine",
    "Mode",
    "RemoteEngine",
    "TffLocalEngine",
    "UnsupportedProcess",
    "Worker",
    "WorkerUnavailable",
    "in_process",
    "remote",
    "tff_local",
]
