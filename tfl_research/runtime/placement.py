"""Where the programs of a round are executed: on the CPU, or clients' work on GPUs.

The server's programs stay on the CPU: aggregation, clipping bounds and the noise of
user-level privacy are computed by the same kernels with and without a GPU.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, Optional

import tensorflow as tf

from tfl_research.errors import UserError
from tfl_research.runtime import cores

_LOG = logging.getLogger(__name__)

NONE, GPU = "none", "gpu"
ACCELERATORS = (NONE, GPU)
_HOST = "CPU:0"
# Makes XLA compile sums on GPUs that have the same bits each time.
_DETERMINISTIC = "--xla_gpu_deterministic_ops"
_RANDOM_ORDER = re.compile(rf"{_DETERMINISTIC}=(false|0)\b", re.IGNORECASE)
_DRIVER = pathlib.Path("/proc/driver/nvidia/version")


class Placement:
    """The devices that execute the programs of a round.

    Attributes:
      accelerator: "none" or "gpu".
      devices: TensorFlow's names of the GPUs that execute clients' work; empty for the
        CPU.
      description: a text that names the kind of hardware; the fastest mode depends on
        the hardware.
    """

    def __init__(
        self, accelerator: str, devices: Sequence[str] = (), description: str = ""
    ):
        self.accelerator = accelerator
        self.devices = tuple(devices)
        self.description = description

    def clients(self, index: int) -> contextlib.AbstractContextManager[Any]:
        """Returns a context with the device of the chunk `index`: GPUs take turns.

        If all GPUs are of one type, results do not depend on the GPU that computed a
        chunk: chunks are added up in the order of their numbers.
        """
        if not self.devices:
            return self.server()
        return tf.device(self.devices[index % len(self.devices)])

    def server(self) -> contextlib.AbstractContextManager[Any]:
        """Returns a context with the CPU, for the server's programs."""
        if not self.devices and not tf.config.get_visible_devices("GPU"):
            # TensorFlow has no other device.
            return contextlib.nullcontext()
        return tf.device(_HOST)

    def to_server(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Copies the results of a chunk's program to the CPU's memory."""
        if not self.devices:
            return list(tensors)
        with self.server():
            return [tf.identity(tensor) for tensor in tensors]


def prepare(
    accelerator: str = NONE, *, operation_threads: Optional[int] = None
) -> list[str]:
    """Sets whether TensorFlow uses GPUs in this process, and how many threads.

    Call this before TensorFlow executes anything. A later call has less effect: with
    "none" the GPUs stay visible (engines do not use them), with "gpu" TensorFlow takes
    all memory of a GPU, and the number of threads does not change.

    Example, for rounds of at least as many clients as the machine has cores:

        runtime.prepare(operation_threads=1)
        engine = runtime.in_process(process)

    With "gpu": operations are deterministic, so that a run that goes on from a
    checkpoint gets the same bits. An operation without a deterministic kernel fails.
    Products of float32 matrices have float32's precision (TensorFlow's default is
    TF32, with 10 bits).

    Args:
      accelerator: "none" or "gpu".
      operation_threads: number of threads that TensorFlow gives each operation on the
        CPU, in rounds and in everything else (`runtime.cores`); None for TensorFlow's
        number, as many as there are cores.

    Returns:
      The kinds of GPU that are used, such as "NVIDIA H100".

    Raises:
      ValueError: the accelerator is unknown, or the number of threads is below 1.
      UserError: the accelerator is "gpu", and TensorFlow finds no GPU or XLA_FLAGS
        switches deterministic operations off; or TensorFlow has already started with
        another number of threads.
    """
    if accelerator not in ACCELERATORS:
        raise ValueError(f"accelerator must be one of {ACCELERATORS}: {accelerator!r}")
    if operation_threads is not None and not cores.set_operation_threads(
        operation_threads
    ):
        raise UserError(
            f"--operation_threads={operation_threads}: TensorFlow has started with "
            f"{cores.operation_threads()} in this process; give the number before "
            f"anything is executed, or start Python with {cores.VARIABLE}="
            f"{operation_threads}"
        )
    if accelerator == NONE:
        with contextlib.suppress(RuntimeError):
            # Fails if TensorFlow has executed something.
            tf.config.set_visible_devices([], "GPU")
        return []
    given = os.environ.get("XLA_FLAGS", "")
    if _RANDOM_ORDER.search(given):
        raise UserError(
            f"--accelerator=gpu: XLA_FLAGS={given!r} switches {_DETERMINISTIC} off, so "
            "a resumed run would give differently rounded results; remove the flag"
        )
    if _DETERMINISTIC not in given:
        os.environ["XLA_FLAGS"] = f"{given} {_DETERMINISTIC}=true".strip()
    found = tf.config.get_visible_devices("GPU")
    if not found:
        raise UserError(f"--accelerator=gpu: TensorFlow finds no GPU: {_why_none()}")
    tf.config.experimental.enable_op_determinism()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    for device in found:
        try:
            tf.config.experimental.set_memory_growth(device, True)
        except RuntimeError:
            _LOG.info("TensorFlow has started, and takes all memory of %s", device.name)
    return _cards(found)


def placement(accelerator: str) -> Placement:
    """Returns the devices of an engine; see `prepare`.

    Raises:
      ValueError: the accelerator is unknown.
      UserError: the accelerator is "gpu", and TensorFlow finds no GPU.
    """
    if accelerator == NONE:
        return Placement(NONE)
    cards = prepare(accelerator)
    names = [device.name for device in tf.config.list_logical_devices("GPU")]
    return Placement(GPU, names, f"{len(names)} x {', '.join(cards)}")


def _cards(devices: Sequence[Any]) -> list[str]:
    details = tf.config.experimental.get_device_details
    return sorted({str(details(gpu).get("device_name", "a GPU")) for gpu in devices})


def _why_none() -> str:
    """Says why TensorFlow finds no GPU and what to do, as far as this process knows."""
    if tf.config.list_physical_devices("GPU"):
        return (
            "this process began without GPUs, as a run without --accelerator=gpu does; "
            "start a new process for a run with GPUs"
        )
    if not _DRIVER.exists():
        return (
            f"this machine has no NVIDIA driver ({_DRIVER} is missing); leave "
            "--accelerator out, or install the driver"
        )
    if importlib.util.find_spec("nvidia") is None:
        return "CUDA's libraries are missing; run scripts/install_gpu"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return f"CUDA_VISIBLE_DEVICES={hidden!r} hides the GPUs; unset the variable"
    return "TensorFlow could not load CUDA 11.8; set TF_CPP_MIN_LOG_LEVEL=0 to see why"
