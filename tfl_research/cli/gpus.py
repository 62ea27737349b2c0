"""scripts/install_gpu: names the GPUs that TensorFlow finds after the installation."""

from __future__ import annotations

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

import sys
from collections.abc import Sequence

from tfl_research.cli import last_resort


def _named() -> int:
    from tfl_research.runtime import placement

    cards = ", ".join(placement.prepare(placement.GPU))
    sys.stdout.write(f"TensorFlow finds {cards}; give --accelerator=gpu\n")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Prints the GPUs.

    Returns:
      The exit code: 0, or 2 with a line on stderr if TensorFlow finds no GPU.
    """
    del arguments
    return last_resort.guarded("install_gpu", _named)


if __name__ == "__main__":
    last_resort.exit_with("install_gpu", main)
