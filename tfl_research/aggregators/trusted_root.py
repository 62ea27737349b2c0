"""FLTrust: updates are weighed by their cosine with the server's own update."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.aggregators import rules
from tfl_research.aggregators.contract import UpdateAggregator
from tfl_research.aggregators.roles import role_weight_type
from tfl_research.aggregators.stack import Layout, stack_computations


@dataclasses.dataclass(frozen=True)
class TrustedRootFactory(UpdateAggregator, tff.aggregators.WeightedAggregationFactory):
    """Stacks a cohort's updates and weighs each by its cosine with a trusted update.

    FLTrust, Cao et al. 2021 (arXiv 2012.13995), section IV. The server holds a small
    clean data set, the root, and trains on the root like a client. From the root's
    update g_0 and the clients' updates g_i the server computes

        TS_i = max(0, <g_i, g_0> / (||g_i|| ||g_0||))         (equation 2)
        ĝ_i = ||g_0|| / ||g_i|| · g_i                         (equation 3)
        g = Σ TS_i ĝ_i / Σ TS_i                               (equation 4)

    The root takes part in every cohort as a participant with its own role. The root's
    update is not among the rows of the stack. It is the sum over the participants that
    have the root's role; there must be exactly one such participant.

    `create(value_type, weight_type)` gives a process with weights of
    `role_weight_type()`. A weight only tells whether a client is absent (weight 0). The
    measurements are int32 scalars: `stacked`, `excluded` and `dropped` clients as in
    `StackingFactory`; `trusted`, the number of clients with a trust above 0; `skipped`,
    1 if the round's result is zero because there was not exactly one finite root
    update, or because no client was trusted (the paper leaves this case open).

    Attributes:
      capacity: number of clients that fit into the stack, without the root.
      root_role: the root's `role`, see `data.ClientData.roles`; at least 1.
      rewrite: see `StackingFactory`.

    Raises:
      ValueError: the capacity or the role is below 1.
    """

    capacity: int
    root_role: int
    rewrite: Optional[Callable[[rules.Rows, tf.Tensor], rules.Rows]] = None

    screens_updates = True
    client_members = ("role",)

    def __post_init__(self) -> None:
        for name in ("capacity", "root_role"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 1, got {getattr(self, name)}"
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
                "the role tells which update is the root's: weights must be "
                f"{role_weight_type()}, got {weight_type}; processes.build_fed_avg "
                "gives such weights to aggregators with client_members"
            )
        layout = Layout.of(value_type)
        stack = stack_computations(
            self.capacity, layout, value_type, tff.TensorType(np.float32)
        )

        @tff.tensorflow.computation
        def initial_state() -> Any:
            return tf.constant(0, tf.int32)

        @tff.tensorflow.computation(weight_type)
        def client_weight(weight: Any) -> Any:
            is_root = tf.equal(weight["role"], self.root_role)
            # The stack ignores a row with weight 0.
            return tf.where(is_root, 0.0, weight["weight"])

        @tff.tensorflow.computation(value_type, weight_type)
        def root_part(value: Any, weight: Any) -> Any:
            is_root = tf.equal(weight["role"], self.root_role)
            vector = layout.flatten(value)
            # Clients add zeros, so that the sum is the root's update.
            part = tf.where(is_root, vector, tf.zeros_like(vector))
            return part, tf.cast(is_root, tf.int32)

        @tff.tensorflow.computation(
            np.int32,
            stack[3].type_signature.result,
            root_part.type_signature.result,
        )
        def aggregate(round_number: tf.Tensor, stacked: Any, roots: Any) -> Any:
            root, count = roots
            rows = rules.Rows(
                stacked["values"],
                stacked["weights"],
                stacked["excluded"],
                stacked["offered"],
            )
            if self.rewrite is not None:
                rows = self.rewrite(rows, round_number)
            usable = tf.reduce_all(tf.math.is_finite(root)) & tf.equal(count, 1)
            root = tf.where(usable, root, tf.zeros_like(root))
            trust = rules.trust_scores(rows, root=root)
            trusted = tf.reduce_sum(tf.cast(trust > 0, tf.int32))
            result = rules.trusted_root(rows, root=root)
            # Without a usable root update, g_0 is zero, and no client is trusted.
            skipped = tf.equal(trusted, 0)
            skipped |= tf.logical_not(tf.reduce_all(tf.math.is_finite(result)))
            result = tf.where(skipped, tf.zeros_like(result), result)
            measurements = collections.OrderedDict(
                stacked=stacked["stored"],
                excluded=rows.excluded,
                dropped=stacked["dropped"],
                trusted=trusted,
                skipped=tf.cast(skipped, tf.int32),
            )
            return round_number + 1, layout.unflatten(result), measurements

        @tff.federated_computation
        def initialize() -> Any:
            return tff.federated_eval(initial_state, tff.SERVER)

        @tff.federated_computation(
            initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_trusted(state: Any, value: Any, weight: Any) -> Any:
            zero, accumulate, merge, report = stack
            own = tff.federated_map(client_weight, weight)
            stacked = tff.federated_aggregate(
                tff.federated_zip((value, own)), zero(), accumulate, merge, report
            )
            roots = tff.federated_sum(
                tff.federated_map(root_part, tff.federated_zip((value, weight)))
            )
            new_state, result, measurements = tff.federated_map(
                aggregate, tff.federated_zip((state, stacked, roots))
            )
            return tff.templates.MeasuredProcessOutput(new_state, result, measurements)

        return tff.templates.AggregationProcess(initialize, next_trusted)
