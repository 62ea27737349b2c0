"""The local work of a device: its steps, and the examples in the steps."""

from __future__ import annotations

import dataclasses

from tfl_research.data.batching import Batching


@dataclasses.dataclass(frozen=True)
class Workload:
    """The local work of a client with some number of examples.

    Attributes:
      num_examples: number of examples of the client.
      batching: how examples become local steps.
    """

    num_examples: int
    batching: Batching

    @property
    def _pool(self) -> int:
        limit = self.batching.max_examples
        return self.num_examples if limit is None else min(self.num_examples, limit)

    @property
    def _steps_per_epoch(self) -> int:
        return -(-self._pool // self.batching.batch_size)

    @property
    def steps(self) -> int:
        """Number of local steps in a round, as in `data.batching.step_order`."""
        if self._pool == 0:
            return 0
        return self.batching.steps or self.batching.epochs * self._steps_per_epoch

    def examples_in(self, steps: int) -> int:
        """Number of examples in the first `steps` steps, with repetitions."""
        if self._pool == 0:
            return 0
        epochs, rest = divmod(steps, self._steps_per_epoch)
        return epochs * self._pool + min(rest * self.batching.batch_size, self._pool)

    @property
    def examples(self) -> int:
        """Number of examples in a round, with repetitions."""
        return self.examples_in(self.steps)

    def steps_within(self, examples: float) -> int:
        """Largest number of whole steps with at most `examples` examples."""
        low, high = 0, self.steps
        while low < high:
            middle = (low + high + 1) // 2
            if self.examples_in(middle) <= examples:
                low = middle
            else:
                high = middle - 1
        return low
