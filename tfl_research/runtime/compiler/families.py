"""Compiled programs that processes of equal structure share."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np


def _bits(constants: Sequence[float]) -> np.ndarray:
    """Bit patterns of constants, so that NaN equals NaN, and 0 differs from -0."""
    return np.array(constants, np.float32).view(np.uint32)


@dataclasses.dataclass
class Family:
    """Processes of one structure that share compiled programs.

    Attributes:
      constants: constants of the first process, over all graphs.
      lifted: indices of the constants that are arguments of the programs.
      programs: compiled programs by name and mode.
    """

    constants: tuple[float, ...]
    lifted: tuple[int, ...]
    programs: dict[Any, Any]

    def serves(self, constants: Sequence[float]) -> bool:
        """Whether the programs can take these constants."""
        return set(self.differing(constants)) <= set(self.lifted)

    def differing(self, constants: Sequence[float]) -> list[int]:
        """Indices of the constants with another bit pattern."""
        ours, theirs = _bits(self.constants), _bits(constants)
        return [int(index) for index in np.flatnonzero(ours != theirs)]


# Families by the fingerprints of the graphs. A second engine of an equal process,
# another seed, or a second run of a sweep compiles nothing. A process that differs in
# some scalar constants shares programs in which these constants are arguments.
_lock = threading.Lock()
_families: dict[tuple[str, ...], list[Family]] = {}


def family(structure: tuple[str, ...], constants: tuple[float, ...]) -> Family:
    """Returns the family of programs that a process can use.

    Args:
      structure: fingerprints of the process' graphs.
      constants: scalar constants of all graphs, in order.
    """
    with _lock:
        known = _families.setdefault(structure, [])
        for candidate in known:
            if candidate.serves(constants):
                return candidate
        # The first process of a structure keeps its constants, which compilers use.
        lifted: set[int] = set()
        for candidate in known:
            lifted.update(candidate.lifted, candidate.differing(constants))
        known.append(Family(constants, tuple(sorted(lifted)), {}))
        return known[-1]
