"""Reads the types of a TFF process' arguments and results."""

from __future__ import annotations

from typing import Any, Optional

import tensorflow_federated as tff


def parameters(process: tff.templates.IterativeProcess) -> list[tff.Type]:
    """Returns the types of the arguments of `process.next`, the state first."""
    parameter = process.next.type_signature.parameter
    if parameter == process.initialize.type_signature.result:
        return [parameter]
    return [member for _, member in tff.structure.iter_elements(parameter)]


def client_type(process: tff.templates.IterativeProcess) -> Optional[tff.Type]:
    """Returns the type of a client's value; None for a process without clients.

    Raises:
      ValueError: `next` takes more than a state and one value.
    """
    _, *others = parameters(process)
    if not others:
        return None
    if len(others) > 1:
        raise ValueError(
            f"process.next takes {1 + len(others)} values, but an engine passes two, "
            "a state and a cohort; wrap the process so that its clients' values are "
            "one structure"
        )
    (value,) = others
    if isinstance(value, tff.FederatedType):
        return value.member
    if isinstance(value, tff.StructType):
        members = [member for _, member in tff.structure.iter_elements(value)]
        if members and all(isinstance(m, tff.FederatedType) for m in members):
            raise ValueError(
                "process.next takes a structure of clients' values, but an engine "
                "passes one value for each client; wrap the process so that its "
                "clients' values are one structure"
            )
    return value


def split(output: Any, process: tff.templates.IterativeProcess) -> tuple[Any, Any]:
    """Splits a round's output into the new state, and the metrics or ()."""
    result = process.next.type_signature.result
    if result == process.initialize.type_signature.result:
        return output, ()
    state, *rest = _members(output)
    return state, rest[0] if len(rest) == 1 else tuple(rest)


def _members(output: Any) -> list[Any]:
    if hasattr(output, "__attrs_attrs__"):
        return [getattr(output, a.name) for a in output.__attrs_attrs__]
    if isinstance(output, dict):
        return list(output.values())
    return list(output)


def as_process(
    computation: tff.Computation, server: Any = None
) -> tff.templates.IterativeProcess:
    """Makes a process of a TFF computation, for engines and `program.run`.

    Example:

        sketch = tff.analytics.heavy_hitters.iblt.build_iblt_computation(...)
        with runtime.in_process(runtime.as_process(sketch)) as engine:
            _, found = engine.next(engine.initialize(), clients)

    Args:
      computation: takes a value at the clients, or a pair of a value at the server and
        a value at the clients, or nothing.
      server: the server's value, if the computation takes one.

    Returns:
      A process whose metrics are the computation's result. Its state is the server's
      value, and does not change; () without a state.

    Raises:
      ValueError: the computation takes other values, or its result is not placed at
        the server.
    """
    parameter = computation.type_signature.parameter
    result = computation.type_signature.result
    if not is_placed(result, tff.SERVER):
        raise ValueError(
            f"the result of the computation must be placed at the server, got {result}"
        )
    state_type: tff.Type = tff.FederatedType(
        tff.StructWithPythonType([], tuple), tff.SERVER
    )
    client_type, value = parameter, ()
    takes_state = isinstance(parameter, tff.StructType) and len(parameter) == 2
    if takes_state:
        state_type, client_type = (m for _, m in tff.structure.iter_elements(parameter))
        value = server
    at_clients = isinstance(client_type, tff.FederatedType) and (
        client_type.placement is tff.CLIENTS
    )
    if not is_placed(state_type, tff.SERVER) or not (at_clients or parameter is None):
        raise ValueError(
            "the computation must take a value that is placed at the clients, after a "
            f"value that is placed at the server if there is one, got {parameter}"
        )

    def zipped(found: Any) -> Any:
        return tff.federated_zip(found) if isinstance(result, tff.StructType) else found

    @tff.tensorflow.computation
    def first_state() -> Any:
        return value

    @tff.federated_computation
    def initialize() -> Any:
        return tff.federated_eval(first_state, tff.SERVER)

    if parameter is None:

        @tff.federated_computation(state_type)
        def next_round(state: Any) -> Any:
            return state, zipped(computation())

    else:

        @tff.federated_computation(state_type, client_type)
        def next_round(state: Any, clients: Any) -> Any:
            given = (state, clients) if takes_state else (clients,)
            return state, zipped(computation(*given))

    return tff.templates.IterativeProcess(initialize, next_round)


def is_placed(value_type: tff.Type, placement: Any) -> bool:
    """Whether all parts of a value or structure have a placement."""
    if isinstance(value_type, tff.FederatedType):
        return value_type.placement is placement
    return isinstance(value_type, tff.StructType) and all(
        is_placed(member, placement)
        for _, member in tff.structure.iter_elements(value_type)
    )
