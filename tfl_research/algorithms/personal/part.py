"""Models in two parts: weights that all clients share, and weights of each client."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from tfl_research import models
from tfl_research.clients.local_loop import LocalLoop, LocalRun


@dataclasses.dataclass(frozen=True)
class PersonalPart:
    """The last weight tensors of a model are each client's own.

    A round's n local steps come in two phases, each with a new optimizer: the first
    k = share * n, rounded, but at least 1 and at most n - 1, train the personal
    tensors with the others fixed, the rest the others with the personal ones fixed. A
    client with a single step takes it twice, once for each part.

    Attributes:
      tensors: how many; 2 are the kernel and the bias of a dense last layer.
      share: of the steps that train the personal part, above 0 and below 1.

    Raises:
      ValueError: no tensors, or another share.
    """

    tensors: int = 2
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.tensors < 1:
            raise ValueError(f"tensors must be at least 1, got {self.tensors}")
        if not 0 < self.share < 1:
            raise ValueError(f"share must be above 0 and below 1, got {self.share}")

    def check(self, specs: Sequence[tf.TensorSpec]) -> None:
        """Raises ValueError where a model has no tensors beside the personal ones.

        Args:
          specs: of the model's weights.
        """
        total = len(specs)
        if self.tensors >= total:
            raise ValueError(
                f"{self.tensors} personal tensors leave nothing to share: the model "
                f"has {total} weight tensors; expected at most {total - 1} (2 are the "
                "kernel and the bias of a dense last layer)"
            )

    def joined(
        self, weights: Sequence[tf.Tensor], personal: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
        """The model with these personal tensors and the others of `weights`."""
        return [*list(weights)[: -self.tensors], *personal]

    def shared_bytes(self, model: models.FunctionalModel) -> int:
        """Bytes of the tensors that are not personal: all that is sent either way."""
        return sum(w.nbytes for w in model.initial_weights[: -self.tensors])

    def of(self, weights: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The personal tensors."""
        return list(weights)[-self.tensors :]

    def shared_update(
        self, new: Sequence[tf.Tensor], old: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
        """new - old, zero in the personal tensors."""
        first = len(old) - self.tensors
        return [
            n - o if index < first else tf.zeros_like(o)
            for index, (n, o) in enumerate(zip(new, old))
        ]

    def personal_steps(self, num_steps: tf.Tensor) -> tf.Tensor:
        """k, int32 `[]`, of n int32 `[]` steps; see the class."""
        rounded = tf.cast(
            tf.floor(self.share * tf.cast(num_steps, tf.float32) + 0.5), tf.int32
        )
        k = tf.maximum(tf.minimum(rounded, num_steps - 1), 1)
        return tf.minimum(k, num_steps)

    def phases(
        self, batches: Mapping[str, tf.Tensor]
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """The local steps of the personal tensors, and those of the others."""
        # Not num_steps, which may count padding too.
        real = tf.reduce_any(batches["mask"], axis=1)
        n = tf.reduce_sum(tf.cast(real, tf.int32))
        k, index = self.personal_steps(n), tf.range(tf.shape(real)[0])
        personal = _only(batches, index < k)
        # At least k, and cheaper than all.
        personal["num_steps"] = self.personal_steps(batches["num_steps"])
        return personal, _only(batches, index >= tf.minimum(k, n - 1))

    def train_personal(
        self,
        loop: LocalLoop,
        start: Sequence[tf.Tensor],
        batches: Mapping[str, tf.Tensor],
        round_number: tf.Tensor,
    ) -> LocalRun:
        """All of the local steps train the personal tensors."""
        return self._train(loop, start, batches, round_number, personal=True)

    def train(
        self,
        loop: LocalLoop,
        start: Sequence[tf.Tensor],
        batches: Mapping[str, tf.Tensor],
        round_number: tf.Tensor,
    ) -> LocalRun:
        """Both phases."""
        personal, shared = self.phases(batches)
        own = self._train(loop, start, personal, round_number, personal=True)
        common = self._train(loop, own.weights, shared, round_number, personal=False)
        return LocalRun(
            common.weights,
            tf.nest.map_structure(tf.add, own.sums, common.sums),
            own.num_steps + common.num_steps,
        )

    def _train(
        self,
        loop: LocalLoop,
        start: Sequence[tf.Tensor],
        batches: Mapping[str, tf.Tensor],
        round_number: tf.Tensor,
        *,
        personal: bool,
    ) -> LocalRun:
        first_personal = len(start) - self.tensors

        def trains(index: int) -> bool:
            return (index >= first_personal) == personal

        # Gradients too, so that what is fixed counts neither for a clip norm nor in an
        # optimizer's memory; weights, since a weight decay needs no gradient.
        return loop.run(
            start,
            batches,
            round_number,
            adjust=lambda gradient, *_: [
                g if trains(index) else tf.zeros_like(g)
                for index, g in enumerate(gradient)
            ],
            restrict=lambda _, new, old: [
                n if trains(index) else o for index, (n, o) in enumerate(zip(new, old))
            ],
        )


def _only(batches: Mapping[str, tf.Tensor], steps: tf.Tensor) -> dict[str, tf.Tensor]:
    """The local steps with only those set in bool `[steps]`; others become padding."""
    return {**batches, "mask": batches["mask"] & steps[:, tf.newaxis]}
