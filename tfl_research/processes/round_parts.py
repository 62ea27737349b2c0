"""The parts of a round, and the client's computation that is built from them."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import autograph, clients, models
from tfl_research.aggregators import SumFormats, declarations
from tfl_research.aggregators.secure_sums.summation import rounded
from tfl_research.clients.client_work import MODEL_STATE
from tfl_research.clients.vectors import all_finite
from tfl_research.processes import checked_results, known_work
from tfl_research.processes.aggregation import Aggregator
from tfl_research.processes.client_states import STATE, ClientStateSpec
from tfl_research.processes.server_work import ServerWork
from tfl_research.processes.weighting import ClientWeighting


@dataclasses.dataclass(frozen=True)
class RoundParts:
    """The parts of a round; see `build_fed_avg`.

    Attributes:
      finalize: computes metrics from the objective's sums.
      client_data_type: TFF type of one client's local steps.
      plan: the privacy plan; None without a plan.
      encoded_bytes: bytes of an update as it is sent.
      received_bytes: bytes that the server sends to a client.
      reported_bytes: bytes of a client's report. For `encoded_bytes`, `received_bytes`
        and `reported_bytes`, None means the bytes of plain tensors.
      secure_sums: the fixed-point formats of secure sums; None for plain sums.
      sum_specs: computes the specs of the objective's sums from a client's local steps,
        to check client work that is not the toolkit's own; None for no check.
      client_key: a key of everything that `model` and `client_function` depend on; None
        if this is unknown.
    """

    model: models.FunctionalModel
    client_function: clients.ClientFunction
    finalize: Callable[[Any], Any]
    client_data_type: tff.StructWithPythonType
    server_work: ServerWork
    aggregator: Aggregator
    weighting: ClientWeighting
    client_states: Optional[ClientStateSpec]
    plan: Any = None
    encoded_bytes: Optional[int] = None
    received_bytes: Optional[int] = None
    reported_bytes: Optional[int] = None
    secure_sums: Optional[SumFormats] = None
    sum_specs: Optional[Callable[[Any], Mapping[str, tf.TensorSpec]]] = None
    client_key: Optional[Hashable] = None


def client_computation(parts: RoundParts, sent_type: tff.Type) -> tff.Computation:
    """Builds (message, local steps) -> update, weight, sums, counts, report, state."""
    if parts.client_key is None:
        return _traced(parts, sent_type)
    others = known_work.recipe_key(
        (
            repr(sent_type),
            repr(parts.client_data_type),
            parts.weighting,
            parts.secure_sums,
            parts.client_states is None,
            parts.server_work.averages_empty_updates,
            parts.server_work.weighs_reports,
            declarations(parts.aggregator).screens_updates,
        )
    )
    key = None if others is None else (parts.client_key, others)
    return known_work.traced_once(key, lambda: _traced(parts, sent_type))


def _traced(parts: RoundParts, sent_type: tff.Type) -> tff.Computation:
    """Traces the client computation; reads only parts that its key contains."""
    # Robust aggregators count non-finite updates as hostile.
    screens_updates = declarations(parts.aggregator).screens_updates
    weighting, server_work = parts.weighting, parts.server_work
    client_function = autograph.converted_as_needed(parts.client_function)

    @tff.tensorflow.computation(sent_type, parts.client_data_type)
    def train_client(message: Any, batches: Any) -> Any:
        weights, round_number, *shared = message
        state: tuple[Any, ...] = ()
        if parts.model.initial_state:
            state = tuple(shared.pop())
            batches = {**batches, MODEL_STATE: state}
        result = checked_results.trained(
            client_function(weights, batches, round_number, *shared),
            weights,
            None if parts.client_states is None else batches[STATE],
            None if parts.sum_specs is None else parts.sum_specs(batches),
        )
        changes = _state_changes(parts.model, state, result.model_state)
        update = (*result.update, *changes)
        # A weight below 0 has no bound in a mean, and no sensitivity.
        weighs = tf.math.is_finite(result.num_examples) & (result.num_examples >= 0)
        sent_back = [*update, *tf.nest.flatten(result.report)]
        finite = all_finite(sent_back) & weighs

        # The NaN loss of a diverged client would make the mean loss NaN.
        def kept(value: tf.Tensor) -> tf.Tensor:
            return tf.where(finite, value, tf.zeros_like(value))

        counted = result.num_examples
        if server_work.averages_empty_updates:
            counted = tf.maximum(counted, 1.0)
        weight = weighting.weight(counted)
        if parts.secure_sums is not None:
            # The weight of an update and the summed weight are the same number.
            weight = rounded(weight, parts.secure_sums.weights)
        reporting = tf.cast(finite & (result.num_examples > 0), tf.float32)
        report_weight = reporting * (weight if server_work.weighs_reports else 1.0)
        if not screens_updates:
            update, weight = tuple(kept(u) for u in update), kept(weight)
        client = collections.OrderedDict(
            update=update,
            weight=weight,
            sums=tf.nest.map_structure(kept, result.sums),
            counts=collections.OrderedDict(
                clients=tf.constant(1, tf.int32),
                examples=tf.where(weighs, result.num_examples, 0.0),
                excluded=tf.cast(tf.logical_not(finite), tf.int32),
                reporting=reporting,
                report_weight=report_weight,
            ),
            report=tf.nest.map_structure(
                lambda r: report_weight * kept(r), result.report
            ),
        )
        if tf.nest.flatten(result.noise_stddev):
            client["noise_stddev"] = result.noise_stddev
        if parts.client_states is not None:
            old, new = batches[STATE], result.client_state
            usable = finite & tf.reduce_all(tf.math.is_finite(new))
            client["state"] = tf.where(usable, new, old)
        return client

    return train_client


def _state_changes(
    model: models.FunctionalModel,
    old: Sequence[tf.Tensor],
    new: Optional[Sequence[tf.Tensor]],
) -> list[tf.Tensor]:
    """Computes a client's changes of the non-trainable weights that are averaged.

    Raises:
      ValueError: training changes non-trainable weights, and the client work does not
        return them.
    """
    if model.changing and new is None:
        raise ValueError(
            f"the client work does not return the model's non-trainable weights "
            f"({model.state_names[model.changing[0]]}), which training changes; "
            "expected ClientResult.model_state, or non_trainable='frozen'"
        )
    return [new[index] - old[index] for index in model.averaged] if new else []
