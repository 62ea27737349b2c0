"""Models in two parts: shared weights, and personal weights of each client."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from tfl_research import models
from tfl_research.clients.client_work import MODEL_STATE
from tfl_research.clients.local_loop import LocalLoop, LocalRun


@dataclasses.dataclass(frozen=True)
class PersonalPart:
    """Makes the last weight tensors of a model personal to each client.

    The n local steps of a round have two phases, each with a new optimizer. The first
    k = share * n steps (rounded, at least 1 and at most n - 1) train the personal
    tensors and fix the shared tensors. The other steps train the shared tensors and fix
    the personal tensors. A client with a single step takes this step in both phases.

    Attributes:
      tensors: number of personal tensors; 2 are the kernel and the bias of a dense
        last layer.
      share: share of the steps that train the personal part, above 0 and below 1.

    Raises:
      ValueError: fewer than 1 tensor, or a share outside its range.
    """

    tensors: int = 2
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.tensors < 1:
            raise ValueError(f"tensors must be at least 1, got {self.tensors}")
        if not 0 < self.share < 1:
            raise ValueError(f"share must be above 0 and below 1, got {self.share}")

    def check(self, specs: Sequence[tf.TensorSpec]) -> None:
        """Checks that the model keeps at least one shared tensor.

        Args:
          specs: specs of the model's weights.

        Raises:
          ValueError: all tensors of the model would be personal.
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
        """Joins these personal tensors with the shared tensors of `weights`."""
        return [*list(weights)[: -self.tensors], *personal]

    def shared_bytes(self, model: models.FunctionalModel) -> int:
        """Bytes of the shared tensors, the only tensors that are sent or received."""
        return sum(w.nbytes for w in model.initial_weights[: -self.tensors])

    def of(self, weights: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the personal tensors of `weights`."""
        return list(weights)[-self.tensors :]

    def shared_update(
        self, new: Sequence[tf.Tensor], old: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
        """Returns new - old for shared tensors, and zeros for personal tensors."""
        first = len(old) - self.tensors
        return [
            n - o if index < first else tf.zeros_like(o)
            for index, (n, o) in enumerate(zip(new, old))
        ]

    def personal_steps(self, num_steps: tf.Tensor) -> tf.Tensor:
        """Computes k, int32 `[]`, from n, int32 `[]`; see the class."""
        rounded = tf.cast(
            tf.floor(self.share * tf.cast(num_steps, tf.float32) + 0.5), tf.int32
        )
        k = tf.maximum(tf.minimum(rounded, num_steps - 1), 1)
        return tf.minimum(k, num_steps)

    def phases(
        self, batches: Mapping[str, tf.Tensor]
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Returns the steps for the personal tensors, and those for the shared ones."""
        # num_steps may also count padding.
        real = tf.reduce_any(batches["mask"], axis=1)
        n = tf.reduce_sum(tf.cast(real, tf.int32))
        k, index = self.personal_steps(n), tf.range(tf.shape(real)[0])
        personal = _only(batches, index < k)
        # The loop runs at least k steps, and fewer than all steps.
        personal["num_steps"] = self.personal_steps(batches["num_steps"])
        return personal, _only(batches, index >= tf.minimum(k, n - 1))

    def train_personal(
        self,
        loop: LocalLoop,
        start: Sequence[tf.Tensor],
        batches: Mapping[str, tf.Tensor],
        round_number: tf.Tensor,
    ) -> LocalRun:
        """Trains the personal tensors with all local steps."""
        return self._train(loop, start, batches, round_number, personal=True)

    def train(
        self,
        loop: LocalLoop,
        start: Sequence[tf.Tensor],
        batches: Mapping[str, tf.Tensor],
        round_number: tf.Tensor,
    ) -> LocalRun:
        """Trains the personal tensors, then the shared tensors; see the class."""
        personal, shared = self.phases(batches)
        own = self._train(loop, start, personal, round_number, personal=True)
        shared[MODEL_STATE] = own.model_state
        common = self._train(loop, own.weights, shared, round_number, personal=False)
        return LocalRun(
            common.weights,
            tf.nest.map_structure(tf.add, own.sums, common.sums),
            own.num_steps + common.num_steps,
            common.model_state,
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

        # Gradients of fixed tensors are zeroed, so that they count neither in a clip
        # norm nor in the optimizer's moments. Fixed weights are restored, since weight
        # decay changes weights without a gradient.
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
    """Keeps the local steps that are true in `steps`, bool `[n]`; pads the others."""
    return {**batches, "mask": batches["mask"] & steps[:, tf.newaxis]}
