"""Builds TFF aggregation processes that sum updates noised by the clients."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.aggregators import SumFormats
from tfl_research.aggregators.secure_sums.summation import Numbers, federated_total
from tfl_research.privacy.mechanisms.noise import client_seeds
from tfl_research.privacy.mechanisms.noised_sum import seed_tensor

# (leaves of the update, weight float32 [], common seed, client's secret seed) ->
# (message of the client, variance float32 [] of its noise in each coordinate); seeds
# are int64 [2].
Encode = Callable[
    [list[tf.Tensor], tf.Tensor, tf.Tensor, tf.Tensor], tuple[Any, tf.Tensor]
]
# (sum of the messages, reporting clients int32 [], sum of the variances, common seed)
# -> (mean as leaves of an update, measurements).
Release = Callable[[Any, tf.Tensor, tf.Tensor, tf.Tensor], tuple[list[tf.Tensor], Any]]


def client_noised_sum(
    value_type: tff.Type,
    weight_type: tff.Type,
    *,
    noise_seed: int,
    encode: Encode,
    sum_factory: tff.aggregators.UnweightedAggregationFactory,
    release: Release,
    variance: float = 1.0,
    secure_sums: Optional[SumFormats] = None,
    secret: bool = False,
) -> tff.templates.AggregationProcess:
    """Builds a process: clients encode, messages are summed, the server releases.

    The state is (`round_number` and `noise_seed`, state of the summation). A client's
    noise is a function of round number and noise seed, and of the client's seed of the
    round or of the client's secret. The number of reporting clients and the size of
    their noise are no secrets: they are the same for all neighbours.

    Args:
      value_type: the type of updates, a structure of float32 tensors.
      weight_type: `client_seeds.seeded_weight_type()`.
      noise_seed: secret.
      encode: turns a client's update into its message, see `Encode`.
      sum_factory: sums the messages.
      release: turns the sum into the mean, see `Release`.
      variance: the planned standard deviation of a client's noise; the unit of the
        variances that are summed securely.
      secure_sums: the fixed-point formats of secure sums; None for plain sums. With
        formats, `sum_factory` must sum securely too.
      secret: whether clients have secrets, see `client_seeds.seeded_weight_type`.

    Raises:
      ValueError: the values are not float32, or the weights have no seed.
    """
    client_seeds.check_types(value_type, weight_type, secret=secret)
    specs = tff.types.type_to_tf_tensor_specs(value_type)

    @tff.tensorflow.computation
    def initial_state() -> Any:
        return collections.OrderedDict(
            round_number=tf.constant(0, tf.int32), noise_seed=seed_tensor(noise_seed)
        )

    noise_state_type = initial_state.type_signature.result

    @tff.tensorflow.computation(noise_state_type)
    def seeds(state: Any) -> Any:
        return client_seeds.round_seeds(state["noise_seed"], state["round_number"])

    @tff.tensorflow.computation(value_type, weight_type, seeds.type_signature.result)
    def send(value: Any, weight: Any, round_seeds: Any) -> Any:
        common, private = round_seeds
        seed = client_seeds.noise_seed(private, weight)
        sent, variance = encode(tf.nest.flatten(value), weight["weight"], common, seed)
        return sent, tf.constant(1, tf.int32), variance

    summation = sum_factory.create(send.type_signature.result[0])
    sum_type = summation.next.type_signature.result.result.member

    @tff.tensorflow.computation(noise_state_type, sum_type, np.int32, np.float32)
    def finished(
        state: Any, total: Any, reporting: tf.Tensor, variances: tf.Tensor
    ) -> Any:
        mean, measurements = release(total, reporting, variances, seeds(state)[0])
        new_state = collections.OrderedDict(
            round_number=state["round_number"] + 1, noise_seed=state["noise_seed"]
        )
        return new_state, tf.nest.pack_sequence_as(specs, mean), measurements

    of_sum = summation.next.type_signature.result.measurements.member
    measures = bool(tff.structure.flatten(of_sum))

    @tff.tensorflow.computation(finished.type_signature.result[2], of_sum)
    def merged(own: Any, others: Any) -> Any:
        further = others.items() if isinstance(others, Mapping) else ()
        return collections.OrderedDict([*own.items(), *further])

    @tff.federated_computation
    def initialize() -> Any:
        noise_state = tff.federated_eval(initial_state, tff.SERVER)
        return tff.federated_zip((noise_state, summation.initialize()))

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(value_type, tff.CLIENTS),
        tff.FederatedType(weight_type, tff.CLIENTS),
    )
    def next_sum(state: Any, value: Any, weight: Any) -> Any:
        noise_state, inner_state = state
        round_seeds = tff.federated_broadcast(tff.federated_map(seeds, noise_state))
        sent = tff.federated_map(send, tff.federated_zip((value, weight, round_seeds)))
        summed = summation.next(inner_state, sent[0])
        reporting, variances = _reported(sent, variance, secure_sums)
        new_noise_state, mean, measurements = tff.federated_map(
            finished,
            tff.federated_zip((noise_state, summed.result, reporting, variances)),
        )
        if measures:
            measurements = tff.federated_map(
                merged, tff.federated_zip((measurements, summed.measurements))
            )
        return tff.templates.MeasuredProcessOutput(
            tff.federated_zip((new_noise_state, summed.state)), mean, measurements
        )

    return tff.templates.AggregationProcess(initialize, next_sum)


def _reported(sent: Any, unit: float, secure_sums: Optional[SumFormats]) -> Any:
    """Sums the reporting clients and the variances of their noise, at the server.

    Secure sums add variances in units of the planned variance, so a client's variance
    is 1. So the sum is exact for any variance.
    """
    if secure_sums is None:
        return tff.federated_sum(sent[1]), tff.federated_sum(sent[2])

    @tff.tensorflow.computation(np.int32, np.float32)
    def in_units(reporting: tf.Tensor, variance: tf.Tensor) -> Any:
        return (reporting,), (variance / unit,)

    @tff.tensorflow.computation(np.float32)
    def back(total: tf.Tensor) -> tf.Tensor:
        return total * unit

    numbers = [
        Numbers(form, form) for form in (secure_sums.counts, secure_sums.deviations)
    ]
    total, _ = federated_total(
        tff.federated_map(in_units, tff.federated_zip((sent[1], sent[2]))),
        numbers,
        secure=secure_sums.secure,
    )
    return total[0][0], tff.federated_map(back, total[1][0])
