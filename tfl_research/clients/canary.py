"""Client work of canaries, beside that of the clients that train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from tfl_research.clients.canary_directions import direction, direction_seed
from tfl_research.clients.client_work import (
    ClientFunction,
    ClientResult,
    ClientWork,
    WrappedWork,
    select,
)
from tfl_research.models.functional_model import FunctionalModel
from tfl_research.tasks.objectives import Objective


@dataclasses.dataclass(frozen=True)
class CanaryWork(WrappedWork):
    """Canaries send their own direction, other clients what they trained.

    Andrew et al. 2023 (arXiv 2302.03098), Algorithm 3. A client of role j > 0 reports
    `norm` times canary j's random unit vector, and a client of role j < 0 a zero
    update, both from no examples and with zero sums; clients of role 0 report what the
    base work computes. The norm should be far above what a mechanism lets through,
    which is then tested along. For canaries to weigh anything, the aggregator must be
    a `privacy.audit.ClaimedWeights`.

    Attributes:
      base: client work of the other clients.
      seed: of the directions.
      norm: l2 norm of a canary's update, above 0.

    Raises:
      ValueError: a norm that is not above 0 and finite.
    """

    base: ClientWork
    seed: int
    norm: float

    def __post_init__(self) -> None:
        if not 0 < self.norm < float("inf"):
            raise ValueError(f"norm must be above 0 and finite, got {self.norm}")

    def build(self, model: FunctionalModel, objective: Objective) -> ClientFunction:
        """See `ClientWork.build`; the local steps must have `role`, int32 `[]`.

        Raises:
          ValueError: a base whose clients keep a state, of which canaries have none.
        """
        if self.base.initial_client_state(model) is not None:
            raise ValueError(
                f"no canaries over {type(self.base).__name__}: its clients keep a state"
            )
        base = self.base.build(model, objective)
        shapes = [spec.shape for spec in model.weight_specs]
        key = direction_seed(self.seed)

        @tf.function
        def client_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
        ) -> ClientResult:
            if "role" not in batches:
                raise ValueError("canaries need client data with roles (`with_roles`)")
            role = batches["role"]
            trained = base(server_weights, batches, round_number)
            length = tf.where(role > 0, self.norm, 0.0)
            own = [length * d for d in direction(shapes, key, tf.abs(role))]
            zeros = tf.nest.map_structure(tf.zeros_like, trained.sums)
            # Not `!=`, which compares objects where TFF builds its graphs.
            is_canary = tf.not_equal(role, 0)
            return ClientResult(
                update=select(is_canary, own, list(trained.update)),
                num_examples=tf.where(is_canary, 0.0, trained.num_examples),
                sums=select(is_canary, zeros, trained.sums),
            )

        return client_function
