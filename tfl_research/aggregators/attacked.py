"""Simulates attacks on a stacked aggregation: rewrites rows before the rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Union

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import stateless_random
from tfl_research.aggregators import rules
from tfl_research.aggregators.contract import UpdateAggregator
from tfl_research.aggregators.roles import role_weight_type
from tfl_research.aggregators.stacking import StackingFactory
from tfl_research.aggregators.trusted_root import TrustedRootFactory

# (updates [n, d], malicious [n], present [n], seed [2]) -> updates [n, d].
RowAttack = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class AttackedFactory(UpdateAggregator, tff.aggregators.WeightedAggregationFactory):
    """Simulates attackers that see all updates of the cohort before they send theirs.

    `create(value_type, weight_type)` gives the process of `inner` with weights of
    `role_weight_type()`. Each client's role is stacked with its update. When the stack
    is complete, the attack rewrites the rows of the malicious clients; their weights do
    not change. The rule aggregates the rewritten rows. Rewritten rows that are not
    finite are excluded and counted, as if a client had sent them.

    Attributes:
      inner: stacks the updates and applies the rule, see
        `AggregatorSettings.build_stacked`. The attack does not see a trusted root's
        update.
      attack: see `attacks.update_attacks`.
      malicious_role: the role of the clients that attack, at least 1.
      seed: seed of the attack's randomness, together with the round number.

    Raises:
      ValueError: the role is below 1.
    """

    inner: Union[StackingFactory, TrustedRootFactory]
    attack: RowAttack
    malicious_role: int = 1
    seed: int = 0

    screens_updates = True
    client_members = ("role",)

    def __post_init__(self) -> None:
        if self.malicious_role < 1:
            raise ValueError(
                f"malicious_role must be at least 1, got {self.malicious_role}"
            )

    @property
    def plan(self) -> Any:
        """The privacy plan of `inner`."""
        return self.inner.plan

    def _rewritten(self, rows: rules.Rows, round_number: tf.Tensor) -> rules.Rows:
        """Applies the attack to stacked rows, whose last entry is the role.

        The last entry of every row of the result is 0, so it does not affect any rule.
        """
        values, roles = rows.values[:, :-1], rows.values[:, -1]
        seed = stateless_random.fold_in(
            tf.constant([self.seed % 2**31, 1], tf.int32), round_number
        )
        malicious = tf.equal(roles, float(self.malicious_role))
        sent = self.attack(values, malicious, rows.present, seed)
        screened = rules.screen(tf.pad(sent, [[0, 0], [0, 1]]), rows.weights)
        return dataclasses.replace(
            screened,
            excluded=rows.excluded + screened.excluded,
            offered=rows.offered,
        )

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """Creates the aggregation of `value_type`, a structure of float32 tensors.

        Raises:
          ValueError: the values are not float32, a shape is not static, or the weights
            have no role.
        """
        if not role_weight_type().is_assignable_from(weight_type):
            raise ValueError(
                "an attack needs the clients' roles: weights must be "
                f"{role_weight_type()}, got {weight_type}; processes.build_fed_avg "
                "gives such weights to aggregators with client_members"
            )
        inner = dataclasses.replace(self.inner, rewrite=self._rewritten)
        # The role is the last entry of a row, where `_rewritten` expects it.
        with_role = tff.StructWithPythonType(
            [(None, value_type), (None, tff.TensorType(np.float32))], tuple
        )
        needs_role = isinstance(inner, TrustedRootFactory)
        process = inner.create(
            with_role, weight_type if needs_role else tff.TensorType(np.float32)
        )

        @tff.tensorflow.computation(value_type, weight_type)
        def join(value: Any, weight: Any) -> Any:
            role = tf.cast(weight["role"], tf.float32)
            # Other roles become 0, so that a root's update does not contain its role.
            role *= tf.cast(tf.equal(weight["role"], self.malicious_role), tf.float32)
            return (value, role), weight if needs_role else weight["weight"]

        @tff.tensorflow.computation(with_role)
        def part(joined: Any) -> Any:
            return joined[0]

        @tff.federated_computation(
            process.initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_attacked(state: Any, value: Any, weight: Any) -> Any:
            joined = tff.federated_map(join, tff.federated_zip((value, weight)))
            output = process.next(state, joined[0], joined[1])
            return tff.templates.MeasuredProcessOutput(
                output.state,
                tff.federated_map(part, output.result),
                output.measurements,
            )

        return tff.templates.AggregationProcess(process.initialize, next_attacked)
