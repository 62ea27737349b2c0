"""Fixed-point formats, which turn real numbers into integers for secure sums."""

from __future__ import annotations

import dataclasses
import math

# Bits of the widest number: int64 holds its sums, with room for the sign.
WIDEST = 62
# The fewest steps of a client's number; fewer steps would leave only a few bits.
_FEWEST_STEPS = 128
# The largest weight, report weight or number of examples of a client: float32 holds
# all whole numbers up to it.
_WEIGHT_BOUND = 2.0**24
_METRIC_BOUND = 2.0**36
_DEVIATION_BOUND = 2.0**16


@dataclasses.dataclass(frozen=True)
class FixedPoint:
    """Stores real numbers in [-bound, bound] as whole numbers of steps.

    Sums of these whole numbers are computed modulo 2^bits.

    Attributes:
      bits: the number of bits of a number, and of the sum; the modulus is 2^bits.
      fraction_bits: binary digits after the point; a step is 2^-fraction_bits.
      largest: largest magnitude of a client's number, in steps.
    """

    bits: int
    fraction_bits: int
    largest: int

    @classmethod
    def of(cls, bound: float, clients: int, bits: int) -> FixedPoint:
        """Returns the finest format in which `clients` numbers sum without overflow.

        The step is the smallest power of two with clients x bound <= (2^(bits-1) - 1)
        x step.

        Args:
          bound: largest magnitude of a client's number, above 0.
          clients: largest number of clients in a sum, at least 1.
          bits: the number of bits of a number, at most `WIDEST`.

        Raises:
          ValueError: the bound is not positive and finite, clients is below 1, bits is
            above `WIDEST`, or a client would have fewer than 128 steps.
        """
        if not (0 < bound < math.inf):
            raise ValueError(f"the bound must be positive and finite, got {bound}")
        if clients < 1:
            raise ValueError(f"clients must be at least 1, got {clients}")
        if bits > WIDEST:
            raise ValueError(f"bits must be at most {WIDEST}, got {bits}")
        most = (2 ** (bits - 1) - 1) // clients
        if most < _FEWEST_STEPS:
            raise ValueError(
                f"{bits} bits leave each of {clients} clients {most} steps, expected "
                f"at least {_FEWEST_STEPS}; give more bits"
            )
        fraction_bits = math.frexp(most / bound)[1] - 1
        while math.ldexp(bound, fraction_bits) > most:
            fraction_bits -= 1
        return cls(bits, fraction_bits, int(math.ldexp(bound, fraction_bits)))

    @classmethod
    def whole(cls, clients: int) -> FixedPoint:
        """Returns the format of whole numbers whose sum over `clients` is exact."""
        return cls(WIDEST, 0, (2 ** (WIDEST - 1) - 1) // clients)

    @property
    def step(self) -> float:
        """The distance between two neighbouring numbers."""
        return math.ldexp(1.0, -self.fraction_bits)

    @property
    def bound(self) -> float:
        """The largest magnitude of a client's number."""
        return math.ldexp(self.largest, -self.fraction_bits)

    @property
    def modulus(self) -> int:
        """2^bits."""
        return 1 << self.bits

    def largest_error(self, clients: int) -> float:
        """Returns the largest error of a sum of clients' numbers within the bound.

        Each number is rounded to the nearest step, so the error is half a step for each
        client. The sum of the rounded numbers is exact until it becomes float32.
        """
        return clients * self.step / 2


@dataclasses.dataclass(frozen=True)
class SumFormats:
    """The fixed-point formats of the numbers that clients report under secure sums.

    Every scalar has 62 bits, since scalars are few beside an update. Tensors of updates
    and reports have `bits`. A sum of rounded numbers does not depend on the order of
    the clients.

    Attributes:
      clients: largest number of clients in a cohort.
      bits: the number of bits of a coordinate of an update or report, at most 62.
      bound: largest magnitude of a coordinate, after it was multiplied by the client's
        weight. A larger coordinate is clipped, and the client is counted.
      secure: whether sums are TFF's secure sums; otherwise plain sums of the same
        integers, with the same results, for runtimes that execute no secure sums.

    Raises:
      ValueError: no format fits the clients, bits and bound; see `FixedPoint.of`.

    Example:
      >>> formats = tfl.aggregators.SumFormats(clients=50)
      >>> formats.tensors.step == 2**-35, formats.tensors.bound == 2**20
      (True, True)
      >>> tfl.aggregators.SumFormats(clients=50, bits=32, bound=16.0).tensors.step
      3.814697265625e-06
    """

    clients: int
    bits: int = WIDEST
    bound: float = 2.0**20
    secure: bool = True

    def __post_init__(self) -> None:
        # Making a format raises an error if the sizes do not fit.
        _ = self.tensors, self.units, self.metrics

    @property
    def tensors(self) -> FixedPoint:
        """The format for coordinates of updates and reports."""
        return FixedPoint.of(self.bound, self.clients, self.bits)

    @property
    def scalars(self) -> FixedPoint:
        """The format for scalars that have the same bound as coordinates."""
        return self.wide(self.bound)

    @property
    def units(self) -> FixedPoint:
        """The format for coordinates of updates whose l2 norm is at most 1."""
        return FixedPoint.of(1.0, self.clients, self.bits)

    @property
    def weights(self) -> FixedPoint:
        """The format for clients' weights: up to 2^24, exact for whole numbers."""
        return self.wide(_WEIGHT_BOUND)

    @property
    def counts(self) -> FixedPoint:
        """The exact format for numbers of clients and of examples."""
        return FixedPoint.whole(self.clients)

    @property
    def metrics(self) -> FixedPoint:
        """The format for the sums behind the train metrics: up to 2^36."""
        return self.wide(_METRIC_BOUND)

    @property
    def deviations(self) -> FixedPoint:
        """The format for standard deviations of clients' own noise: up to 2^16."""
        return self.wide(_DEVIATION_BOUND)

    def wide(self, bound: float) -> FixedPoint:
        """The format for scalars with this bound."""
        return FixedPoint.of(bound, self.clients, WIDEST)

    @property
    def coordinate_bytes(self) -> int:
        """Bytes of a coordinate of an update as a client sends it."""
        return -(-self.bits // 8)
