"""Compiled programs, and choices of modes, that equal processes share."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Optional

import numpy as np

# Numbers that compilers remove from products and sums.
_LEFT_OUT = frozenset((0.0, 1.0, -1.0))
# The number of programs with their own constants that are kept for each name and mode.
_MOST = 8


def _bits(constants: Sequence[float]) -> np.ndarray:
    """Bit patterns of constants, so that NaN equals NaN, and 0 differs from -0."""
    return np.array(constants, np.float32).view(np.uint32)


def _is_exact(value: float) -> bool:
    """Whether a product with a number, or a quotient, is not rounded.

    This is so for powers of two: x / 2 and x * (1 / 2) have the same bits, and so have
    (x * 2) * c and x * (2 * c). A trial with such numbers, or with zero, infinity or
    NaN, shows nothing.
    """
    mantissa, _ = np.frexp(np.float32(value))
    return not np.isfinite(value) or abs(mantissa) in (0.0, 0.5)


def _is_power(value: float) -> bool:
    """Whether compilers may replace a power with this exponent or base.

    They do so for some whole numbers, halves and quarters, as in square and square
    root.
    """
    return not np.isfinite(value) or float(4 * value).is_integer()


@dataclasses.dataclass
class Program:
    """A compiled program.

    Attributes:
      constants: the constants of the program's graphs, of the process for which it was
        built.
      lifted: indices of the constants that are arguments of the program.
      call: takes these constants and the program's arguments.
      function: the object that must outlive `call`.
      agrees: whether a trial showed that the program gives the same bits as a program
        that contains the constants; None before the trial.
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
    """The programs of one name and mode, of graphs that differ only in constants.

    Args:
      first: a program with its constants. All other programs also take its arguments as
        arguments; no trial is needed for these.
    """

    def __init__(self, first: Program):
        self._always = first.lifted
        self._whole, self._lifted = [first], list[Program]()

    def whole(self, constants: Sequence[float]) -> Optional[Program]:
        """Finds a program with these constants in it, except the common arguments."""
        return next((p for p in self._whole if p.serves(constants)), None)

    def lifted(self, constants: Sequence[float]) -> Optional[Program]:
        """Finds a program with further arguments for constants, and equal results."""
        usable = (p for p in self._lifted if p.agrees is not False)
        return next((p for p in usable if p.serves(constants)), None)

    def to_try(
        self, constants: Sequence[float], *, powers: bool
    ) -> Optional[tuple[Program, list[int]]]:
        """Finds a program for a trial of a new program with arguments.

        Args:
          constants: the constants of the program's graphs.
          powers: whether the program computes powers.

        Returns:
          A program that contains its constants, and the indices of the constants that
          the new program takes as arguments. None if no program can show how compilers
          treat these constants.
        """

        def is_special(value: float) -> bool:
            return value in _LEFT_OUT or (powers and _is_power(value))

        for program in self._whole:
            differing = set(program.differing(constants)) - set(self._always)
            further = {*self._earlier(), *differing} - set(self._always)
            shown = (program.constants[index] for index in further)
            if any(is_special(value) or _is_exact(value) for value in shown):
                continue
            if not any(is_special(constants[index]) for index in differing):
                return program, sorted({*self._always, *further})
        return None

    def _earlier(self) -> set[int]:
        """Returns the indices of constants that are arguments of a usable program."""
        return {i for p in self._lifted if p.agrees is not False for i in p.lifted}

    @property
    def disagree(self) -> bool:
        """Whether compilers compute other bits for constants than for arguments."""
        return any(p.agrees is False for p in self._lifted)

    def add(self, program: Program) -> None:
        """Keeps a program, and the first one with constants of its own."""
        if program.lifted != self._always:
            self._lifted.append(program)
            return
        self._whole.append(program)
        if len(self._whole) > _MOST:
            del self._whole[1]


# Modes and reasons, by the shapes and hardware with which they were measured.
Measured = dict[Hashable, tuple[str, str, str]]


@dataclasses.dataclass
class Family:
    """What processes of one structure share beside their programs.

    Attributes:
      steps, sums: see `family`.
      shapes: (clients, steps) of the chunks of all processes whose clients take the
        same steps; see `chunks.Shapes`.
      alike: modes and reasons of all processes whose clients take the same steps, and
        whose reports are summed in the same way. Under another attack, a client does
        the same work and then changes its update.
      measured: mode and reason as in `choice_cache`, by the shapes of a chunk's leaves
        and the kind of hardware and of compared time.
    """

    steps: str
    sums: str
    shapes: set[tuple[int, int]]
    alike: Measured
    measured: Measured = dataclasses.field(default_factory=dict)


_lock = threading.Lock()
# Families by the fingerprints of all graphs of a process.
_families: dict[tuple[str, ...], Family] = {}
# Programs by the fingerprints of the graphs that they contain. A second engine of an
# equal process, another seed, or a second run of a sweep compiles no program. Points
# with different rules have one program of the clients if their reports are collected in
# the same way. A process that differs in some scalar constants shares the programs that
# do not use these constants, and programs in which these constants are arguments.
_programs: dict[Hashable, Programs] = {}


def forget() -> None:
    """Forgets all families and programs, as in a new Python process."""
    with _lock:
        _families.clear()
        _programs.clear()


def known(key: Hashable) -> Optional[Programs]:
    """The programs with these graphs and this name and mode; None before the first."""
    return _programs.get(key)


def keep(key: Hashable, programs: Programs) -> None:
    """Keeps the programs with these graphs and this name and mode."""
    _programs[key] = programs


def family(structure: tuple[str, ...], steps: str = "", sums: str = "") -> Family:
    """Returns the family of a process.

    Args:
      structure: fingerprints of the process' graphs.
      steps: digest of the loops over clients' steps; empty if there are no loops.
      sums: digest of the computation that adds a client's report.
    """
    with _lock:
        if structure not in _families:
            same = [f for f in _families.values() if steps and f.steps == steps]
            alike = [f.alike for f in same if f.sums == sums]
            _families[structure] = Family(
                steps,
                sums,
                same[0].shapes if same else set(),
                alike[0] if alike else {},
            )
        return _families[structure]
