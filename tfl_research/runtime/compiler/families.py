"""Compiled programs, shared by the processes that can use them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np


def _bits(constants: Sequence[float]) -> np.ndarray:
    """NaN is equal to NaN, and 0 is not -0."""
    return np.array(constants, np.float32).view(np.uint32)


@dataclasses.dataclass
class Family:
    """Processes of one structure that share compiled programs.

    Attributes:
      constants: of the first of them, over all graphs.
      lifted: indices of the constants that are arguments of the programs.
      programs: by name and mode.
    """

    constants: tuple[float, ...]
    lifted: tuple[int, ...]
    programs: dict[Any, Any]

    def serves(self, constants: Sequence[float]) -> bool:
        """Whether its programs can take these constants."""
        return set(self.differing(constants)) <= set(self.lifted)

    def differing(self, constants: Sequence[float]) -> list[int]:
        """Indices of the constants that are others, bit by bit."""
        ours, theirs = _bits(self.constants), _bits(constants)
        return [int(index) for index in np.flatnonzero(ours != theirs)]


# By the fingerprints of their graphs: another engine of an equal process, a second
# seed, or a second pass over a sweep's grid compiles nothing again, and a process
# that differs in some scalar constants shares programs in which those are arguments.
_lock = threading.Lock()
_families: dict[tuple[str, ...], list[Family]] = {}


def family(structure: tuple[str, ...], constants: tuple[float, ...]) -> Family:
    """The programs that a process can use.

    Args:
      structure: fingerprints of its graphs.
      constants: their scalar constants, one graph's after another's.
    """
    with _lock:
        known = _families.setdefault(structure, [])
        for candidate in known:
            if candidate.serves(constants):
                return candidate
        # The first of a structure keeps its constants: compilers make use of them.
        lifted: set[int] = set()
        for candidate in known:
            lifted.update(candidate.lifted, candidate.differing(constants))
        known.append(Family(constants, tuple(sorted(lifted)), {}))
        return known[-1]
