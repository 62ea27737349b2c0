"""Gives every process one form: `next` takes state and clients, returns two values.

Imports TensorFlow.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import Any, Optional, Protocol, runtime_checkable

import numpy as np
import tensorflow_federated as tff

from tfl_research.errors import SettingError
from tfl_research.program.states import WeightsOf, model_weights

_PROCESS = (
    "give a tff.templates.IterativeProcess, an object with `initialize` and `next`, or "
    "a tff.Computation of clients' values"
)


@runtime_checkable
class HasInitializeAndNext(Protocol):
    """Protocol of processes that are no objects of TFF's classes."""

    @property
    def initialize(self) -> tff.Computation: ...

    @property
    def next(self) -> tff.Computation: ...


@dataclasses.dataclass(frozen=True)
class ProcessForm:
    """A process in the form that engines execute.

    Attributes:
      process: `next` takes the state and, with a `client_type`, one value for each
        client; it returns the state and the metrics.
      client_type: type of a client's value; None if `next` takes no clients.
      metrics_type: type of the metrics.
      is_computation: whether the user gave a computation without a state.
      weights_of: returns the model in a state; None for a process without a model.
    """

    process: tff.templates.IterativeProcess
    client_type: Optional[tff.Type]
    metrics_type: tff.Type
    is_computation: bool
    weights_of: WeightsOf

    @property
    def state_type(self) -> tff.Type:
        """The type of the state that `next` takes, without its placement."""
        found = self.process.state_type
        return found.member if isinstance(found, tff.FederatedType) else found


def form_of(process: Any) -> ProcessForm:
    """Converts a user's process to the form that engines execute.

    Raises:
      SettingError: the object is no process, or takes a value that is not one value for
        each client.
    """
    if isinstance(process, tff.Computation):
        made = _of_computation(process)
    elif isinstance(process, (tff.templates.IterativeProcess, HasInitializeAndNext)):
        made = _of_process(process)
    else:
        hint = ""
        if isinstance(
            process,
            (
                tff.aggregators.UnweightedAggregationFactory,
                tff.aggregators.WeightedAggregationFactory,
            ),
        ):
            hint = " (a factory makes a process by create(type))"
        raise SettingError(
            f"process must be a TFF process, got {type(process).__name__}{hint}; "
            f"{_PROCESS}"
        )
    parameter = made.next.type_signature.parameter
    clients = _arguments(parameter)[1:] if _has_clients(parameter) else []
    weights_of: WeightsOf = model_weights
    if isinstance(process, tff.learning.templates.LearningProcess):
        weights_of = _model_of(process)
    return ProcessForm(
        made,
        clients[0][1].member if clients else None,
        made.next.type_signature.result[1],
        isinstance(process, tff.Computation),
        weights_of,
    )


def _has_clients(parameter: Any) -> bool:
    return isinstance(parameter, tff.StructType) and len(parameter) == 2


def _arguments(parameter: Any) -> list[tuple[str, tff.Type]]:
    """Returns (name, type) of each argument of a computation."""
    if parameter is None:
        return []
    if not isinstance(parameter, tff.StructType):
        return [("clients", parameter)]
    elements = tff.structure.iter_elements(parameter)
    return [(n or f"argument_{i}", each) for i, (n, each) in enumerate(elements)]


def _is_placed(value_type: Any, placement: Any) -> bool:
    return (
        isinstance(value_type, tff.FederatedType) and value_type.placement is placement
    )


def _checked_clients(
    what: str, arguments: list[tuple[str, tff.Type]]
) -> list[tuple[str, tff.Type]]:
    for name, value_type in arguments:
        if not _is_placed(value_type, tff.CLIENTS) or value_type.all_equal:
            raise SettingError(
                f"process: {what} takes {name} of type {short_type(value_type)}, "
                "which is not one value for each client; bind it in a "
                "tff.federated_computation that takes the clients' values alone"
            )
    return arguments


def _clients_type(arguments: list[tuple[str, tff.Type]]) -> tff.FederatedType:
    """Returns the type of a client's value that holds all arguments."""
    if len(arguments) == 1:
        return arguments[0][1]
    members = tff.StructWithPythonType(
        [(name, each.member) for name, each in arguments], collections.OrderedDict
    )
    return tff.FederatedType(members, tff.CLIENTS)


def _of_computation(computation: tff.Computation) -> tff.templates.IterativeProcess:
    """Makes a process that counts its rounds and returns the result as metrics."""
    arguments = _checked_clients(
        "the computation", _arguments(computation.type_signature.parameter)
    )
    counts = tff.FederatedType(np.int32, tff.SERVER)

    @tff.tensorflow.computation(np.int32)
    def increased(count: Any) -> Any:
        return count + 1

    @tff.federated_computation
    def initialize() -> Any:
        return tff.federated_value(np.int32(0), tff.SERVER)

    def result(call: Callable[[], Any]) -> Any:
        value = _at_server("the computation", call())
        named = _is_named(value.type_signature.member)
        if named:
            return value
        return tff.federated_zip(collections.OrderedDict(result=value))

    if not arguments:

        @tff.federated_computation(counts)
        def next_alone(count: Any) -> Any:
            return tff.federated_map(increased, count), result(computation)

        return tff.templates.IterativeProcess(initialize, next_alone)

    @tff.federated_computation(counts, _clients_type(arguments))
    def next_round(count: Any, clients: Any) -> Any:
        values = _separated(clients, arguments)
        return (
            tff.federated_map(increased, count),
            result(lambda: computation(*values)),
        )

    return tff.templates.IterativeProcess(initialize, next_round)


def _separated(clients: Any, arguments: list[tuple[str, tff.Type]]) -> list[Any]:
    if len(arguments) == 1:
        return [clients]
    return [clients[index] for index in range(len(arguments))]


def _is_named(value_type: Any) -> bool:
    if not isinstance(value_type, tff.StructType) or not len(value_type):
        return False
    return all(name is not None for name, _ in tff.structure.iter_elements(value_type))


def _at_server(what: str, value: Any) -> Any:
    """Converts a computation's result to a value at the server."""
    if not isinstance(value, tff.Value):
        value = tff.to_value(value, None)
    value_type = value.type_signature
    if _is_placed(value_type, tff.SERVER):
        return value
    if isinstance(value_type, tff.FederatedType):
        raise SettingError(
            f"process: {what} returns {short_type(value_type)}, one value for each "
            "client; aggregate it, for example by tff.federated_sum"
        )
    try:
        if isinstance(value_type, tff.StructType) and len(value_type):
            return tff.federated_zip(value)
        if isinstance(value_type, tff.StructType):
            return tff.federated_value((), tff.SERVER)
        return tff.federated_value(value, tff.SERVER)
    except (TypeError, ValueError) as error:
        raise SettingError(
            f"process: {what} returns {short_type(value_type)}; expected values at the "
            "server"
        ) from error


def _of_process(process: Any) -> tff.templates.IterativeProcess:
    for name, part in (("initialize", process.initialize), ("next", process.next)):
        if not isinstance(part, tff.Computation):
            raise SettingError(
                f"process: its {name} is a {type(part).__name__}; {_PROCESS}"
            )
    if not isinstance(process, tff.templates.IterativeProcess):
        try:
            process = tff.templates.IterativeProcess(process.initialize, process.next)
        except TypeError as error:
            raise SettingError(
                f"process: {' '.join(str(error).split())}; {_PROCESS}"
            ) from error
    parameter, result = _signature(process)
    state_type = process.state_type
    arguments: list[tuple[str, tff.Type]] = []
    if not state_type.is_equivalent_to(parameter):
        arguments = _checked_clients("`next`", _arguments(parameter)[1:])
    alone = state_type.is_assignable_from(result)
    fits = not alone and len(result) == 2
    if fits and len(arguments) <= 1:
        return process
    return _wrapped(process, state_type, arguments, alone)


def _signature(process: Any) -> tuple[Any, Any]:
    signature = process.next.type_signature
    return signature.parameter, signature.result


def _wrapped(
    process: tff.templates.IterativeProcess,
    state_type: tff.Type,
    arguments: list[tuple[str, tff.Type]],
    alone: bool,
) -> tff.templates.IterativeProcess:
    """Wraps a process so that it has one argument for the clients, and two results."""

    def divided(output: Any) -> Any:
        if alone:
            return output, tff.federated_value((), tff.SERVER)
        elements = list(tff.structure.iter_elements(output.type_signature))
        metrics = [
            (name or f"output_{index}", _at_server("`next`", output[index]))
            for index, (name, _) in enumerate(elements)
        ][1:]
        if len(metrics) == 1:
            return output[0], metrics[0][1]
        return output[0], tff.federated_zip(collections.OrderedDict(metrics))

    if not arguments:

        @tff.federated_computation(state_type)
        def next_alone(state: Any) -> Any:
            return divided(process.next(state))

        return tff.templates.IterativeProcess(process.initialize, next_alone)

    @tff.federated_computation(state_type, _clients_type(arguments))
    def next_round(state: Any, clients: Any) -> Any:
        return divided(process.next(state, *_separated(clients, arguments)))

    return tff.templates.IterativeProcess(process.initialize, next_round)


def _model_of(process: tff.learning.templates.LearningProcess) -> WeightsOf:
    """Returns a function that gets the model from a learning process' state."""

    def weights_of(state: Any) -> Any:
        found = model_weights(state)
        return process.get_model_weights(state) if found is None else found

    return weights_of


def short_type(value_type: Any) -> str:
    text = " ".join(str(value_type).split())
    return text if len(text) <= 120 else f"{text[:117]}..."
