"""Client work with canaries among the clients that train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from tfl_research import autograph
from tfl_research.clients.canary_directions import direction, direction_seed
from tfl_research.clients.client_work import (
    ClientFunction,
    ClientResult,
    ClientWork,
    WrappedWork,
    model_state_of,
    select,
)
from tfl_research.models.functional_model import FunctionalModel
from tfl_research.tasks.objectives import Objective


@dataclasses.dataclass(frozen=True)
class CanaryWork(WrappedWork):
    """Canaries send their own directions; other clients send what they trained.

    Andrew et al. 2023 (arXiv 2302.03098), Algorithm 3. A client of role j > 0 sends
    `norm` times the random unit vector of canary j. A client of role j < 0 sends a zero
    update. Both report no examples and zero sums. Clients of role 0 send the result of
    the base work. The norm should be far above the clip of a mechanism, so that the
    clip is tested too. Canaries have a weight only if the aggregator is a
    `privacy.audit.ClaimedWeights`.

    Attributes:
      base: client work of the other clients.
      seed: seed of the directions.
      norm: l2 norm of a canary's update, above 0.

    Raises:
      ValueError: the norm is not above 0 and finite.
    """

    base: ClientWork
    seed: int
    norm: float

    def __post_init__(self) -> None:
        if not 0 < self.norm < float("inf"):
            raise ValueError(f"norm must be above 0 and finite, got {self.norm}")

    def build(self, model: FunctionalModel, objective: Objective) -> ClientFunction:
        """Builds a client's function, which sends a canary's update by its role.

        The local steps must have `role`, int32 `[]`.

        Raises:
          ValueError: clients of the base keep a state, which canaries do not have.
        """
        if self.base.initial_client_state(model) is not None:
            raise ValueError(
                f"canaries cannot be added to {type(self.base).__name__}: its clients "
                "keep a state between rounds; give client work without a state"
            )
        base = self.base.build(model, objective)
        shapes = [spec.shape for spec in model.weight_specs]
        key = direction_seed(self.seed)

        @autograph.function
        def client_function(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
        ) -> ClientResult:
            if "role" not in batches:
                raise ValueError(
                    "canaries need client data with roles; use ClientData.with_roles"
                )
            role = batches["role"]
            trained = base(server_weights, batches, round_number)
            length = tf.where(role > 0, self.norm, 0.0)
            own = [length * d for d in direction(shapes, key, tf.abs(role))]
            zeros = tf.nest.map_structure(tf.zeros_like, trained.sums)
            # `!=` would compare objects when TFF builds its graphs.
            is_canary = tf.not_equal(role, 0)
            return ClientResult(
                update=select(is_canary, own, list(trained.update)),
                num_examples=tf.where(is_canary, 0.0, trained.num_examples),
                sums=select(is_canary, zeros, trained.sums),
                model_state=trained.model_state
                and select(
                    is_canary, model_state_of(model, batches), trained.model_state
                ),
            )

        return client_function
