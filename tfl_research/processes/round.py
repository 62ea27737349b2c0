"""One round as a TFF computation, assembled from its parts."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from functools import partial
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.aggregators import declarations
from tfl_research.clients.vectors import all_finite
from tfl_research.data import CLIENT_SECRET
from tfl_research.errors import SettingError
from tfl_research.processes import checked_results, known_work
from tfl_research.processes.aggregation import may_skip
from tfl_research.processes.client_states import POSITION, collect
from tfl_research.processes.client_sums import client_sums
from tfl_research.processes.federated_process import (
    FederatedProcess,
    count_scalars,
    size_in_bytes,
)
from tfl_research.processes.round_parts import RoundParts, client_computation
from tfl_research.processes.server_work import Aggregated

_INTEGER = tff.TensorType(tf.int32.as_numpy_dtype)


def assemble(parts: RoundParts) -> FederatedProcess:
    """Assembles the process from its parts; see `build_fed_avg`."""
    specs = tuple(parts.model.weight_specs)
    state_specs = tuple(parts.model.state_specs)
    averaged = parts.model.averaged
    weights_type, state_type = _tuple_type(specs), _tuple_type(state_specs)
    # An update has the changes of the trainable weights, then those of the averaged
    # non-trainable weights.
    update_type = _tuple_type([*specs, *(state_specs[index] for index in averaged)])
    client_data_type = parts.client_data_type
    aggregation, weighted = known_work.aggregation(
        parts.aggregator, update_type, parts.weighting, client_data_type
    )
    checked_results.check_aggregation(aggregation, update_type)
    skips = may_skip(aggregation)
    server_work, states = parts.server_work, parts.client_states
    declared = declarations(parts.aggregator)

    @tff.tensorflow.computation
    def initial_model() -> Any:
        weights = tuple(tf.constant(w) for w in parts.model.initial_weights)
        state = tuple(tf.constant(s) for s in parts.model.initial_state)
        server_state = checked_results.initial(server_work, weights)
        return weights, server_state, tf.constant(0, tf.int32), state

    server_type = initial_model.type_signature.result[1]

    @tff.tensorflow.computation(weights_type, server_type, _INTEGER, state_type)
    def sent(
        weights: Any, server_state: Any, round_number: tf.Tensor, state: Any
    ) -> Any:
        shared = checked_results.shared(server_work, weights, server_state)
        message = (tuple(weights), round_number)
        message += () if shared is None else (shared,)
        return message + ((tuple(state),) if state_specs else ())

    sent_type = sent.type_signature.result
    shares = len(sent_type) > 2
    train_client = client_computation(parts, sent_type)
    sums_type = train_client.type_signature.result["sums"]
    checked_results.check_sums(sums_type)
    counts_type = train_client.type_signature.result["counts"]
    report_type = train_client.type_signature.result["report"]
    if parts.plan is not None and (states is not None or size_in_bytes(report_type)):
        raise SettingError(
            "--algorithm: its clients report or keep more than their update, but a "
            "privacy plan covers only updates; give --algorithm=fed_avg or fed_prox, "
            "or build the process without privacy"
        )
    adds_noise = "noise_stddev" in dict(
        tff.structure.iter_elements(train_client.type_signature.result)
    )

    @tff.tensorflow.computation(
        weights_type,
        server_type,
        update_type,
        report_type,
        counts_type,
        _INTEGER,
        state_type,
    )
    def update_server(
        weights: Any,
        server_state: Any,
        update: Any,
        report: Any,
        counts: Any,
        round_number: tf.Tensor,
        state: Any,
    ) -> Any:
        weight = counts["report_weight"]
        mean = tf.nest.map_structure(lambda r: tf.math.divide_no_nan(r, weight), report)
        moves = list(update)
        aggregated = Aggregated(
            moves[: len(specs)], mean, counts["reporting"], round_number
        )
        new_weights, new_server = checked_results.applied(
            server_work, tuple(weights), server_state, aggregated
        )
        if parts.model.constrain is not None:
            new_weights = tuple(parts.model.constrain(new_weights))
        new_state = list(state)
        for index, change in zip(averaged, moves[len(specs) :]):
            new_state[index] += change
        return new_weights, new_server, round_number + 1, tuple(new_state)

    @tff.tensorflow.computation(
        update_server.type_signature.result,
        weights_type,
        server_type,
        update_type,
        counts_type,
        _INTEGER,
        state_type,
    )
    def unless_waiting(
        updated: Any,
        weights: Any,
        server_state: Any,
        update: Any,
        counts: Any,
        skipped: tf.Tensor,
        state: Any,
    ) -> Any:
        # With a zero update, the optimizer's momentum would still move the model.
        waits = skipped > 0
        if parts.plan is None:
            waits |= (counts["reporting"] <= 0) & _says_nothing(update)
        waiting = checked_results.waiting(server_work, weights, server_state)
        return (
            tf.nest.map_structure(partial(tf.where, waits), weights, updated[0]),
            tf.nest.map_structure(partial(tf.where, waits), waiting, updated[1]),
            updated[2],
            tf.nest.map_structure(
                partial(tf.where, waits), tuple(state), tuple(updated[3])
            ),
        )

    @tff.tensorflow.computation
    def never_skipped() -> Any:
        return tf.constant(0, tf.int32)

    @tff.tensorflow.computation(sums_type)
    def finalize_metrics(sums: Any) -> Any:
        return parts.finalize(sums)

    @tff.tensorflow.computation(counts_type)
    def cohort_metrics(counts: Any) -> Any:
        return collections.OrderedDict(
            (name, counts[name]) for name in ("clients", "examples", "excluded")
        )

    @tff.tensorflow.computation(tf.float32.as_numpy_dtype, _INTEGER)
    def client_mean(total: tf.Tensor, num_clients: tf.Tensor) -> tf.Tensor:
        return tf.math.divide_no_nan(total, tf.cast(num_clients, tf.float32))

    @tff.federated_computation
    def initialize() -> Any:
        start = tff.federated_eval(initial_model, tff.SERVER)
        return tff.federated_zip(
            _state(start[0], start[3], start[2], aggregation.initialize(), start[1])
        )

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(client_data_type, tff.CLIENTS),
    )
    def next_round(state: Any, cohort: Any) -> Any:
        weights, round_number = state.global_model_weights.trainable, state.client_work
        model_state = state.global_model_weights.non_trainable
        message = tff.federated_zip((weights, round_number))
        if shares:
            message = tff.federated_map(
                sent,
                tff.federated_zip(
                    (weights, state.finalizer, round_number, model_state)
                ),
            )
        trained = tff.federated_map(
            train_client, tff.federated_zip((tff.federated_broadcast(message), cohort))
        )
        weight = trained["weight"]
        members = declared.client_members
        if members:
            carried = {name: cohort[name] for name in members}
            weight = tff.federated_zip(
                collections.OrderedDict(weight=weight, **carried)
            )
        arguments = (trained["update"], weight) if weighted else (trained["update"],)
        aggregated = aggregation.next(state.aggregator, *arguments)
        totals = client_sums(parts.secure_sums, trained)
        counts = totals.of("counts")
        updated = tff.federated_map(
            update_server,
            tff.federated_zip(
                (
                    weights,
                    state.finalizer,
                    aggregated.result,
                    totals.of("report"),
                    counts,
                    round_number,
                    model_state,
                )
            ),
        )
        if skips or parts.plan is None:
            skipped = (
                aggregated.measurements["skipped"]
                if skips
                else tff.federated_eval(never_skipped, tff.SERVER)
            )
            updated = tff.federated_map(
                unless_waiting,
                tff.federated_zip(
                    (
                        updated,
                        weights,
                        state.finalizer,
                        aggregated.result,
                        counts,
                        skipped,
                        model_state,
                    )
                ),
            )
        new_weights, server_state, new_round, new_model_state = updated
        new_state = tff.federated_zip(
            _state(
                new_weights, new_model_state, new_round, aggregated.state, server_state
            )
        )
        metrics = collections.OrderedDict(
            train=tff.federated_map(finalize_metrics, totals.of("sums")),
            cohort=tff.federated_map(cohort_metrics, counts),
            aggregator=aggregated.measurements,
        )
        if adds_noise:
            metrics["client_noise_stddev"] = tff.federated_map(
                client_mean,
                tff.federated_zip((totals.of("noise_stddev"), counts["clients"])),
            )
        if totals.measured is not None:
            metrics["secure_sums"] = totals.measured
        if states is not None:
            metrics["client_states"] = collect(
                states, trained["state"], cohort[POSITION]
            )
        return tff.learning.templates.LearningProcessOutput(
            new_state, tff.federated_zip(metrics)
        )

    secure = parts.secure_sums
    # If the aggregator has its own message type, that type gives the bytes.
    message_type = declared.message_type(update_type)
    sent_bytes = parts.encoded_bytes
    if message_type is not None or sent_bytes is None:
        sent_bytes = size_in_bytes(
            update_type if message_type is None else message_type
        )
    else:
        sent_bytes += size_in_bytes(update_type) - size_in_bytes(weights_type)
    # Clients keep local statistics, which the server does not send.
    kept_bytes = sum(parts.model.initial_state[i].nbytes for i in parts.model.local)
    received_bytes = parts.received_bytes
    if received_bytes is None:
        # The 4 bytes of the round number do not count.
        received_bytes = size_in_bytes(sent_type) - 4 - kept_bytes
    elif state_specs:
        received_bytes += size_in_bytes(state_type) - kept_bytes
    reported_bytes = parts.reported_bytes
    if reported_bytes is None:
        reported_bytes = size_in_bytes(report_type)
    if secure is not None:
        # Masked values have full width, so a code or message type saves no bytes.
        sent_bytes = secure.coordinate_bytes * count_scalars(update_type)
        reported_bytes = secure.coordinate_bytes * count_scalars(report_type)
    return FederatedProcess(
        initialize,
        next_round,
        client_states=states,
        download_bytes=received_bytes,
        upload_bytes=sent_bytes + reported_bytes,
        plan=parts.plan,
        client_secrets=CLIENT_SECRET in declared.client_members,
    )


def _says_nothing(update: Sequence[tf.Tensor]) -> tf.Tensor:
    """Whether an aggregate over no client is zero or not finite, such as a mean 0/0."""
    zero = [tf.reduce_all(tf.equal(u, 0.0)) for u in update]
    return tf.reduce_all(tf.stack(zero)) | ~all_finite(update)


def _tuple_type(specs: Sequence[tf.TensorSpec]) -> tff.StructWithPythonType:
    return tff.StructWithPythonType(
        [(None, tff.TensorType(s.dtype.as_numpy_dtype, s.shape)) for s in specs], tuple
    )


def _state(
    weights: Any, model_state: Any, round_number: Any, aggregator: Any, optimizer: Any
) -> Any:
    return tff.learning.templates.LearningAlgorithmState(
        global_model_weights=tff.learning.models.ModelWeights(weights, model_state),
        distributor=(),
        client_work=round_number,
        aggregator=aggregator,
        finalizer=optimizer,
    )
