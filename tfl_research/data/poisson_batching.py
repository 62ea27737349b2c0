"""Local steps with Poisson-sampled examples, for DP-SGD."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np

# Says whether a row of examples ends nothing, a microbatch, or a local step (with its
# last microbatch).
ROW_ENDS_NOTHING, ROW_ENDS_MICROBATCH, ROW_ENDS_STEP = 0, 1, 2
_WIDEST_ROW = 64


class PoissonSteps(NamedTuple):
    """One client's local steps in one round.

    Attributes:
      order: int64 `[rows, batch]` example indices, -1 = padding.
      ends: int32 `[rows]`, for each row one of the constants `ROW_ENDS_...`.
      num_examples: number of examples that the client holds.
      noise_seed: int64 `[2]`, the seed of the noise that the client adds.
    """

    order: np.ndarray
    ends: np.ndarray
    num_examples: int
    noise_seed: np.ndarray


@dataclasses.dataclass(frozen=True)
class PoissonBatching:
    """Local steps that take each of a client's examples with the same probability.

    In each of `steps` local steps, each of the client's n examples takes part
    independently with probability q = min(1, expected_batch_size / n) (Abadi et al.
    2016, arXiv 1607.00133, section 2, "lots"). A step can have any size, also 0: its
    examples fill as many rows of `batch_size` as they need, and no example is cut off.

    With microbatches, every example that takes part is put into one of
    ⌈min(expected_batch_size, n) / microbatch_size⌉ microbatches, uniformly and
    independently of all other examples. So adding or removing an example changes a
    single microbatch; if microbatches were filled in order, it would change several.

    Attributes:
      steps: local steps of every client, at least 1.
      expected_batch_size: expected examples of a step, above 0; need not be whole.
      microbatch_size: expected examples of a microbatch, at least 1; with 1 every
        example is a microbatch.
      batch_size: examples in a row, computed together; 0 for a size that follows from
        the expected size. Changes results only by float rounding.

    Raises:
      ValueError: a number is out of range, or microbatches are larger than the batch.
    """

    steps: int
    expected_batch_size: float
    microbatch_size: int = 1
    batch_size: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "microbatch_size"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 1, got {getattr(self, name)}"
                )
        size = self.expected_batch_size
        if not (size > 0 and math.isfinite(size)):
            raise ValueError(f"expected_batch_size must be above 0, got {size}")
        if self.microbatch_size > max(1.0, size):
            raise ValueError(
                f"microbatch_size must be at most expected_batch_size = {size:g}, got "
                f"{self.microbatch_size}"
            )
        if self.batch_size < 0:
            raise ValueError(f"batch_size must be at least 0, got {self.batch_size}")
        if self.batch_size == 0:
            expected = size if self.microbatch_size == 1 else self.microbatch_size
            width = math.ceil(expected + math.sqrt(expected))
            object.__setattr__(self, "batch_size", min(width, _WIDEST_ROW))

    def sampling_rate(self, num_examples: int) -> float:
        """Returns q of a client with `num_examples` examples; 1 without examples."""
        if num_examples <= self.expected_batch_size:
            return 1.0
        return self.expected_batch_size / num_examples

    def num_microbatches(self, num_examples: int) -> int:
        """Returns the number of microbatches in a step of a client."""
        expected = min(self.expected_batch_size, float(num_examples))
        return max(1, math.ceil(expected / self.microbatch_size))

    def draw(self, num_examples: int, generator: np.random.Generator) -> PoissonSteps:
        """Draws a round's local steps; none for a client without examples.

        The generator must come from a secret seed: amplification by sampling needs
        draws, and noise needs a seed, that are unknown to everybody who sees results.
        """
        noise_seed = generator.integers(-(2**63), 2**63 - 1, 2, np.int64, endpoint=True)
        if num_examples == 0:
            empty = np.zeros((0, self.batch_size), np.int64)
            return PoissonSteps(empty, np.zeros(0, np.int32), 0, noise_seed)
        rate = self.sampling_rate(num_examples)
        rows: list[np.ndarray] = []
        ends: list[int] = []
        for _ in range(self.steps):
            # A binomial number of examples without replacement: the distribution is
            # the same as with a coin for each example, and the cost is lower.
            count = int(generator.binomial(num_examples, rate))
            drawn = generator.choice(num_examples, count, replace=False, shuffle=False)
            drawn.sort()
            for members in self._microbatches(drawn, num_examples, generator):
                padded = -(-len(members) // self.batch_size) * self.batch_size
                filled = np.full(padded, -1, np.int64)
                filled[: len(members)] = members
                rows.extend(filled.reshape(-1, self.batch_size))
                ends.extend([ROW_ENDS_NOTHING] * (padded // self.batch_size))
                ends[-1] = ROW_ENDS_MICROBATCH
            if count == 0:
                rows.append(np.full(self.batch_size, -1, np.int64))
                ends.append(ROW_ENDS_STEP)
            ends[-1] = ROW_ENDS_STEP
        return PoissonSteps(
            np.stack(rows), np.array(ends, np.int32), num_examples, noise_seed
        )

    def _microbatches(
        self, drawn: np.ndarray, num_examples: int, generator: np.random.Generator
    ) -> list[np.ndarray]:
        """The non-empty microbatches of a step; a single array for size 1."""
        if len(drawn) == 0:
            return []
        if self.microbatch_size == 1:
            return [drawn]
        slots = generator.integers(self.num_microbatches(num_examples), size=len(drawn))
        return [drawn[slots == slot] for slot in np.unique(slots)]
