"""Compiled programs that processes of equal structure share."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Optional

import numpy as np

# Numbers that compilers leave out of products and sums, and exponents that they write
# as products.
_LEFT_OUT = frozenset((0.0, 1.0, -1.0))
_EXPONENTS = frozenset((0.5, 2.0, 3.0))
# Programs with constants of their own that are kept for each name and mode.
_MOST = 8


def _bits(constants: Sequence[float]) -> np.ndarray:
    """Bit patterns of constants, so that NaN equals NaN, and 0 differs from -0."""
    return np.array(constants, np.float32).view(np.uint32)


@dataclasses.dataclass
class Program:
    """A compiled program.

    Attributes:
      constants: of the process that it was built for, as far as the program has them.
      lifted: indices of the constants that are arguments of the program.
      call: takes these constants and the program's arguments.
      function: what must outlive `call`.
      agrees: whether it gives the same bits as a program that has the constants in it;
        None until this was tried.
    """

    constants: tuple[float, ...]
    lifted: tuple[int, ...]
    call: Callable[..., Any]
    function: Any
    agrees: Optional[bool] = None

    def serves(self, constants: Sequence[float]) -> bool:
        """Whether the program can take these constants."""
        return set(self.differing(constants)) <= set(self.lifted)

    def differing(self, constants: Sequence[float]) -> list[int]:
        """Indices of the constants with another bit pattern."""
        ours, theirs = _bits(self.constants), _bits(constants)
        return [int(index) for index in np.flatnonzero(ours != theirs)]


class Programs:
    """The programs of one name and mode, of the processes of one structure.

    Attributes:
      used: indices of the structure's constants that the program has.

    Args:
      used: see the attribute.
      first: a program with its constants.
    """

    def __init__(self, used: Sequence[int], first: Program):
        self.used = tuple(used)
        self._whole, self._lifted = [first], list[Program]()

    def own(self, constants: Sequence[float]) -> tuple[float, ...]:
        """The constants that the program has, of all of a process."""
        return tuple(constants[index] for index in self.used)

    def whole(self, constants: Sequence[float]) -> Optional[Program]:
        """A program that has exactly these constants."""
        return next((p for p in self._whole if p.serves(constants)), None)

    def lifted(self, constants: Sequence[float]) -> Optional[Program]:
        """A program that takes these constants as arguments, with the same results."""
        usable = (p for p in self._lifted if p.agrees is not False)
        return next((p for p in usable if p.serves(constants)), None)

    def reference(
        self, constants: Sequence[float], *, powers: bool
    ) -> Optional[Program]:
        """A program by which one with arguments can be tried.

        None if it would not show what compilers make of these constants.

        Args:
          constants: that the program has.
          powers: whether it raises to powers.
        """
        special = _LEFT_OUT | _EXPONENTS if powers else _LEFT_OUT

        def is_special(program: Program) -> bool:
            different = program.differing(constants)
            values = [(constants[i], program.constants[i]) for i in different]
            return any(value in special for pair in values for value in pair)

        return next((p for p in self._whole if not is_special(p)), None)

    def to_lift(self, reference: Program, constants: Sequence[float]) -> list[int]:
        """Indices of constants that a new program takes as arguments."""
        earlier = (i for p in self._lifted if p.agrees is not False for i in p.lifted)
        return sorted({*earlier, *reference.differing(constants)})

    @property
    def disagree(self) -> bool:
        """Whether compilers make something of constants that arguments do not get."""
        return any(p.agrees is False for p in self._lifted)

    def add(self, program: Program) -> None:
        """Keeps a program, and the first one with constants of its own."""
        if program.lifted:
            self._lifted.append(program)
            return
        self._whole.append(program)
        if len(self._whole) > _MOST:
            del self._whole[1]


class Family:
    """The programs of processes of one structure, by name and mode."""

    def __init__(self) -> None:
        self._programs: dict[Hashable, Programs] = {}

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._programs)

    def get(self, key: Hashable) -> Optional[Programs]:
        """The programs of a name and mode, if one was built."""
        return self._programs.get(key)

    def put(self, key: Hashable, programs: Programs) -> None:
        """Keeps the programs of a name and mode."""
        self._programs[key] = programs


# Families by the fingerprints of the graphs. A second engine of an equal process,
# another seed, or a second run of a sweep compiles nothing. A process that differs in
# some scalar constants shares the programs that do not have these constants, and
# programs in which these constants are arguments.
_lock = threading.Lock()
_families: dict[tuple[str, ...], Family] = {}


def family(structure: tuple[str, ...]) -> Family:
    """Returns the family of programs of a process.

    Args:
      structure: fingerprints of the process' graphs.
    """
    with _lock:
        return _families.setdefault(structure, Family())
