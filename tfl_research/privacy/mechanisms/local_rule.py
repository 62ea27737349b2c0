"""Robust rules over updates that clients have noised themselves."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any, Optional, Union

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.aggregators import SumFormats
from tfl_research.aggregators.contract import UpdateAggregator, declarations
from tfl_research.aggregators.secure_sums.summation import Numbers, federated_total
from tfl_research.privacy.mechanisms.independent import check_settings
from tfl_research.privacy.mechanisms.local_gaussian import noised_update
from tfl_research.privacy.mechanisms.noise import client_seeds
from tfl_research.privacy.mechanisms.noised_sum import seed_tensor

Rule = Union[
    tff.aggregators.WeightedAggregationFactory,
    tff.aggregators.UnweightedAggregationFactory,
]


@dataclasses.dataclass(frozen=True)
class LocallyNoisedFactory(
    UpdateAggregator, tff.aggregators.WeightedAggregationFactory
):
    """The factory that `local_gaussian_rule` returns."""

    l2_norm_clip: float
    noise_multiplier: float
    noise_seed: int = dataclasses.field(repr=False)
    rule: Rule
    secure_sums: Optional[SumFormats] = None
    client_secrets: bool = False

    @property
    def client_members(self) -> tuple[str, ...]:
        """Names the seed of a client's noise."""
        return (client_seeds.member(self.client_secrets),)

    @property
    def _stddev(self) -> float:
        return self.noise_multiplier * self.l2_norm_clip

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """Creates the aggregation of `value_type`, a structure of float32 tensors.

        Args:
          value_type: the type of updates.
          weight_type: `client_seeds.seeded_weight_type`.

        Raises:
          ValueError: the values are not float32, or the weights have no seed.
        """
        secret = self.client_secrets
        client_seeds.check_types(value_type, weight_type, secret=secret)

        @tff.tensorflow.computation
        def initial_state() -> Any:
            return collections.OrderedDict(
                round_number=tf.constant(0, tf.int32),
                noise_seed=seed_tensor(self.noise_seed),
            )

        noise_state_type = initial_state.type_signature.result

        @tff.tensorflow.computation(noise_state_type)
        def private_seed(state: Any) -> Any:
            return client_seeds.round_seeds(state["noise_seed"], state["round_number"])[
                1
            ]

        @tff.tensorflow.computation(noise_state_type)
        def advanced(state: Any) -> Any:
            return collections.OrderedDict(
                round_number=state["round_number"] + 1, noise_seed=state["noise_seed"]
            )

        @tff.tensorflow.computation(
            value_type, weight_type, private_seed.type_signature.result
        )
        def send(value: Any, weight: Any, private: Any) -> Any:
            stddev = tf.constant(self._stddev, tf.float32)
            sent = noised_update(
                tf.nest.flatten(value),
                weight["weight"],
                client_seeds.noise_seed(private, weight),
                l2_norm_clip=self.l2_norm_clip,
                stddev=stddev,
            )
            # Only the noised update depends on the client's data.
            unit = tf.constant(1.0)
            return tf.nest.pack_sequence_as(value, sent), unit, (stddev, unit)

        @tff.tensorflow.computation(np.float32, np.float32)
        def measured(total: tf.Tensor, reporting: tf.Tensor) -> tf.Tensor:
            # Without reporting clients there is no noise, and nothing is released.
            mean = total / tf.maximum(reporting, 1.0)
            return tf.where(reporting > 0, mean, self._stddev)[tf.newaxis]

        weighted = isinstance(self.rule, tff.aggregators.WeightedAggregationFactory)
        if isinstance(self.rule, tff.aggregators.WeightedAggregationFactory):
            inner = self.rule.create(value_type, tff.TensorType(np.float32))
        else:
            inner = self.rule.create(value_type)
        rule_type = inner.next.type_signature.result.measurements.member

        @tff.tensorflow.computation(rule_type, tff.TensorType(np.float32, [1]))
        def merged(of_rule: Any, stddev: tf.Tensor) -> Any:
            return collections.OrderedDict(
                [*_named(of_rule), ("client_noise_stddev", stddev)]
            )

        @tff.federated_computation
        def initialize() -> Any:
            noise_state = tff.federated_eval(initial_state, tff.SERVER)
            return tff.federated_zip((noise_state, inner.initialize()))

        @tff.federated_computation(
            initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_rule(state: Any, value: Any, weight: Any) -> Any:
            noise_state, rule_state = state
            private = tff.federated_broadcast(
                tff.federated_map(private_seed, noise_state)
            )
            sent = tff.federated_map(send, tff.federated_zip((value, weight, private)))
            arguments = (sent[0], sent[1]) if weighted else (sent[0],)
            output = inner.next(rule_state, *arguments)
            stddev = tff.federated_map(measured, self._summed(sent[2]))
            return tff.templates.MeasuredProcessOutput(
                tff.federated_zip(
                    (tff.federated_map(advanced, noise_state), output.state)
                ),
                output.result,
                tff.federated_map(
                    merged, tff.federated_zip((output.measurements, stddev))
                ),
            )

        return tff.templates.AggregationProcess(initialize, next_rule)

    def _summed(self, reported: Any) -> Any:
        """Sums pairs of a standard deviation and 1 over the clients."""
        if self.secure_sums is None:
            return tff.federated_sum(reported)
        # The sum is exact in units of the planned standard deviation.
        unit = self._stddev or 1.0

        @tff.tensorflow.computation(reported.type_signature.member)
        def in_units(pair: Any) -> Any:
            return ((pair[0] / unit, pair[1]),)

        numbers = self.secure_sums.deviations
        total, _ = federated_total(
            tff.federated_map(in_units, reported),
            [Numbers(numbers, numbers)],
            secure=self.secure_sums.secure,
        )

        @tff.tensorflow.computation(total.type_signature.member)
        def back(parts: Any) -> Any:
            stddev, reporting = parts[0]
            return stddev * unit, reporting

        return tff.federated_map(back, total)


def _named(measurements: Any) -> list[tuple[str, Any]]:
    """Names the measurements; a single measurement without a name becomes "rule"."""
    if isinstance(measurements, Mapping):
        return list(measurements.items())
    return [("rule", measurements)] if tf.nest.flatten(measurements) else []


def local_gaussian_rule(
    *,
    l2_norm_clip: float,
    noise_multiplier: float,
    noise_seed: int,
    rule: Rule,
    secure_sums: Optional[SumFormats] = None,
    client_secrets: bool = False,
) -> LocallyNoisedFactory:
    """Builds an aggregator that applies a rule to updates with the clients' own noise.

    `local_gaussian_aggregator` has the same noise, and takes the mean.

    Each client clips its model delta to l2 norm S and adds N(0, (zS)²) to each
    coordinate before the client sends the update. The server's work on noised updates
    is post-processing (Dwork and Roth 2014, Proposition 2.1) and costs no privacy, so a
    round is charged as a `LocalGaussianEvent` under any rule. A rule that takes weights
    gets the weight 1 for every client, also for clients without examples. The noise is
    large for a rule: even without an attack, updates are about zS√d apart.

    Args:
      l2_norm_clip: S, positive.
      noise_multiplier: z of every client's own noise, at least 0.
      noise_seed: secret; gives the clients the same noise as in
        `local_gaussian_aggregator`.
      rule: aggregates the noised updates. Its measurements are returned, together with
        `client_noise_stddev`, float32 `[1]`.
      secure_sums: the fixed-point formats of secure sums; None for plain sums. With
        formats, the rule must sum securely too.
      client_secrets: see `local_gaussian_aggregator`.

    Raises:
      ValueError: an argument is outside of its range, or the rule needs more from a
        client than the update.
    """
    check_settings(noise_multiplier, None, l2_norm_clip)
    members = declarations(rule).client_members
    if members:
        raise ValueError(
            f"{type(rule).__name__} needs the clients' {' and '.join(members)}, but "
            "noised updates come without them; give a rule of updates alone"
        )
    return LocallyNoisedFactory(
        l2_norm_clip, noise_multiplier, noise_seed, rule, secure_sums, client_secrets
    )
