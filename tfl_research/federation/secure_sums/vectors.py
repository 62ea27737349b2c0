"""Vectors of integers that are summed modulo m, and their residues."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfl_research.federation.secure_sums.errors import SecureSumError

_DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
# The sum of two residues below this modulus fits into 64 bits.
LARGEST_MODULUS = 2**62


@dataclasses.dataclass(frozen=True)
class VectorSpec:
    """The shape, the dtype and the modulus of a vector that is summed.

    A modulus of 2**32 with int32, or 2**64 with int64 (and likewise for the other
    integer dtypes), gives the sum that the dtype itself has, wrap-around included.
    Every other modulus m gives the sum's residue in [0, m).

    Attributes:
      shape: the array's shape; () is one number, and lengths of 0 are allowed.
      dtype: the name of an integer dtype of NumPy, of at most 64 bits.
      modulus: 2**bits of the dtype, or 2 to 2**62, where every residue fits the dtype.

    Raises:
      SecureSumError: a shape, dtype or modulus is not one of these.

    Example:
      >>> spec = VectorSpec((2,), "int32", 2**32)
      >>> spec.values(spec.residues(np.array([-1, 5], np.int32)))
      array([-1,  5], dtype=int32)
    """

    shape: tuple[int, ...]
    dtype: str
    modulus: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if self.dtype not in _DTYPES:
            raise SecureSumError(
                f"a vector of dtype {self.dtype!r} cannot be summed securely: expected "
                f"one of {', '.join(_DTYPES)}"
            )
        if any(n < 0 for n in self.shape):
            raise SecureSumError(
                f"a vector's shape must have no negative length, got {self}"
            )
        modulus = self.modulus
        if isinstance(modulus, bool) or not isinstance(modulus, int):
            raise SecureSumError(f"a modulus must be an int, got {modulus!r}")
        if self._wraps:
            return
        most = min(LARGEST_MODULUS, int(np.iinfo(self.dtype).max) + 1)
        if not 2 <= modulus <= most:
            raise SecureSumError(
                f"modulus={modulus}: for {self.dtype} expected 2 to {most}, or "
                f"{2**self._bits}, with which sums wrap around as {self.dtype} does"
            )

    @property
    def _bits(self) -> int:
        return np.dtype(self.dtype).itemsize * 8

    @property
    def _wraps(self) -> bool:
        return self.modulus == 2**self._bits

    @property
    def size(self) -> int:
        """How many integers the vector has."""
        return math.prod(self.shape)

    @property
    def word(self) -> np.dtype[Any]:
        """The dtype in which residues are added: any two of them have a sum in it.

        Sums of residues modulo 2**32 and 2**64 wrap around, as they should.
        """
        narrow = self.modulus <= 2**31 or self.modulus == 2**32
        return np.dtype(np.uint32 if narrow else np.uint64)

    @property
    def wire(self) -> np.dtype[Any]:
        """The narrowest unsigned dtype that holds a residue."""
        bits = (8, 16, 32, 64)
        return np.dtype(f"uint{next(b for b in bits if self.modulus <= 2**b)}")

    def residues(self, values: np.ndarray) -> np.ndarray:
        """The residues in [0, modulus) of an array, flat, in the dtype `word`.

        Negative integers have the residue that Python's % gives.

        Raises:
          SecureSumError: the array has another shape or dtype.
        """
        values = np.asarray(values)
        if values.shape != self.shape or values.dtype != self.dtype:
            raise SecureSumError(
                f"a vector to sum has shape {values.shape} and dtype {values.dtype}; "
                f"expected {self.shape} and {self.dtype}"
            )
        flat = values.reshape(-1)
        if self._wraps:
            unsigned = flat.astype(values.dtype.newbyteorder("=")).view(
                f"u{flat.itemsize}"
            )
            return unsigned.astype(self.word)
        # The modulus fits the dtype, or is one above its largest value: then only
        # negative values change. In 64 bits both are plain.
        wide = flat.astype(np.uint64 if flat.dtype.kind == "u" else np.int64)
        return np.remainder(wide, wide.dtype.type(self.modulus)).astype(self.word)

    def values(self, residues: np.ndarray) -> np.ndarray:
        """The array, in its shape and dtype, whose residues these are."""
        if self._wraps:
            unsigned = residues.astype(f"u{self._bits // 8}")
            return unsigned.view(self.dtype).reshape(self.shape)
        return residues.astype(self.dtype).reshape(self.shape)

    def add(self, total: np.ndarray, residues: np.ndarray) -> None:
        """Adds residues to residues in place; both have the dtype `word`."""
        total += residues
        if self.modulus & (self.modulus - 1) == 0:
            if self.modulus != 2 ** (total.itemsize * 8):
                total &= total.dtype.type(self.modulus - 1)
        else:
            # If the total is below the modulus, the difference wraps around, and so is
            # the larger number.
            np.minimum(total, total - total.dtype.type(self.modulus), out=total)

    def subtract(self, total: np.ndarray, residues: np.ndarray) -> None:
        """Subtracts residues from residues in place; both have the dtype `word`."""
        total -= residues
        if self.modulus & (self.modulus - 1) == 0:
            if self.modulus != 2 ** (total.itemsize * 8):
                total &= total.dtype.type(self.modulus - 1)
        else:
            # A total below zero has wrapped around, and so is the larger number.
            np.minimum(total, total + total.dtype.type(self.modulus), out=total)

    def as_json(self) -> dict[str, Any]:
        """The three values as JSON has them."""
        return {"shape": list(self.shape), "dtype": self.dtype, "modulus": self.modulus}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> VectorSpec:
        """The reverse of `as_json`.

        Raises:
          SecureSumError: the object does not have the form that `as_json` gives.
        """
        try:
            shape, dtype, modulus = value["shape"], value["dtype"], value["modulus"]
            lengths = tuple(shape)
        except (KeyError, TypeError):
            raise SecureSumError(
                f"a vector's description needs shape, dtype and modulus, got {value!r}"
            ) from None
        if not isinstance(dtype, str) or not all(type(n) is int for n in lengths):
            raise SecureSumError(
                "a vector's shape must be a list of ints and its dtype a name, got "
                f"{value!r}"
            )
        return cls(lengths, dtype, modulus)
