"""Bounds the addition to δ because noise comes from finitely many random bits.

The noise of a run is not exactly the noise for which ε is computed. Two normal numbers
are made from 96 random bits, and from 32 bits that 256 numbers share. Integer noise is
drawn from a table of 62-bit thresholds. This module bounds the difference.

A normal number has a radius, a function of u = (j + v) 2^-64 mod 1 with a uniform
64-bit integer j around 0, and v = e 2^-32 with a uniform 32-bit integer e in
[-2^31, 2^31) (`stateless_random.normal`). Let V = (e + W) 2^-32, where W is uniform on
[0, 1). Then (j + V) 2^-64 mod 1 is exactly uniform on [0, 1), and the radius of an
exact draw is the function of this number. The numbers j + v and j + V agree to 24
significant bits where j is not 0, since then |j + V| >= 1/2 and |v - V| <= 2^-32, and
where j = 0 and |V| >= 2^-8. The remaining case has probability 2^-64 2^-7 = 2^-71. In
all other cases the radius is the radius of an exact draw, up to the rounding of
float32.

128 radii share one e, where exact draws have a V each. Another V changes j + V only in
bits beyond 24 significant ones if |j| >= 2^24. So the radii are those of separate V
unless two of the 128 have |j| < 2^24, which has probability below 2^-39 for one of
them. For m of the radii this is at most m^2/2 2^-78 <= m 2^-72.

A number has one radius. So with probability of at least
1 - n (2^-71 + 2^-72) >= 1 - n 2^-70, all n numbers of a run are exact draws, rounded.

An integer is drawn from a table whose distribution is within 2^-61 of the exact
distribution in total variation (`noise_tables.alias_table`), so that n integers are
exact draws with probability of at least 1 - n 2^-61.

Let M be the mechanism with exact noise, (ε, δ)-differentially private, and M' the
mechanism as run. If both agree with probability of at least 1 - η on every input, then
for neighbours D and D' and every set S of outputs

  P(M'(D) in S) <= P(M(D) in S) + η <= e^ε P(M(D') in S) + δ + η
                <= e^ε P(M'(D') in S) + δ + (1 + e^ε) η.

The bound does not cover the rounding of float32 itself: an attacker who sees the
low-order bits of an output can learn more than ε says (Mironov 2012, On significance of
the least significant bits for differential privacy). The pseudo-random generator is not
a cryptographic generator.
"""

from __future__ import annotations

import dataclasses
import math

# The probability that one number is no exact draw; see above.
NORMAL_DISTANCE = 2.0**-70
INTEGER_DISTANCE = 2.0**-61


@dataclasses.dataclass(frozen=True)
class Draws:
    """Counts the random numbers from which the noise of a run is made.

    Attributes:
      normal: normal numbers, at least 0.
      integers: integers from `noise_tables`, at least 0.
    """

    normal: int = 0
    integers: int = 0

    @property
    def distance(self) -> float:
        """Bounds the probability that some of these numbers is no exact draw."""
        return self.normal * NORMAL_DISTANCE + self.integers * INTEGER_DISTANCE


@dataclasses.dataclass(frozen=True)
class RunSize:
    """The size of a run, from which mechanisms count their draws.

    Attributes:
      dimension: scalars in an update.
      rounds: the number of rounds of the run, including rounds that were repeated with
        new noise.
      clients: largest number of clients of a round.
    """

    dimension: int
    rounds: int
    clients: int


def sampler_delta(draws: Draws, epsilon: float) -> float:
    """Computes the addition to δ at ε for noise that is not exact, at most 1.

    Args:
      draws: the draws of all rounds together.
      epsilon: ε of all rounds together, at least 0; may be infinite.

    Returns:
      (1 + e^ε) times the probability that some draw is not exact.

    Example:
      >>> from tfl_research.privacy.accounting import sampler_rest
      >>> draws = sampler_rest.Draws(normal=10**6 * 1500)
      >>> sampler_rest.sampler_delta(draws, 3.0)
      2.6...e-11
    """
    distance = draws.distance
    if distance == 0:
        return 0.0
    if epsilon > 700:
        return 1.0
    return min(1.0, (1.0 + math.exp(epsilon)) * distance)
