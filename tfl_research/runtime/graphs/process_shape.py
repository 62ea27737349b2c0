"""What a TFF process takes and gives."""

from __future__ import annotations

from typing import Any, Optional

import tensorflow_federated as tff


def parameters(process: tff.templates.IterativeProcess) -> list[tff.Type]:
    """Types of what `process.next` takes, the state first."""
    parameter = process.next.type_signature.parameter
    if parameter == process.initialize.type_signature.result:
        return [parameter]
    return [member for _, member in tff.structure.iter_elements(parameter)]


def client_type(process: tff.templates.IterativeProcess) -> Optional[tff.Type]:
    """Type of the value of one client; None for a process without clients.

    Raises:
      ValueError: `next` takes more than a state and one value.
    """
    _, *others = parameters(process)
    if not others:
        return None
    if len(others) > 1:
        raise ValueError(
            f"process.next takes {1 + len(others)} values, but an engine has a state "
            "and a cohort; wrap the process so that its clients' values are one "
            "structure"
        )
    (value,) = others
    if isinstance(value, tff.FederatedType):
        return value.member
    if isinstance(value, tff.StructType):
        members = [member for _, member in tff.structure.iter_elements(value)]
        if members and all(isinstance(m, tff.FederatedType) for m in members):
            raise ValueError(
                "process.next takes a structure of clients' values, but an engine has "
                "one value for each client; wrap the process so that its clients' "
                "values are one structure"
            )
    return value


def split(output: Any, process: tff.templates.IterativeProcess) -> tuple[Any, Any]:
    """The new state, and what else a round gives: its metrics, or ()."""
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


def as_process(computation: tff.Computation) -> tff.templates.IterativeProcess:
    """A TFF computation as a process without a state, for engines and `program.run`.

    Example:

        count = runtime.as_process(tff.analytics.build_...(...))
        with runtime.in_process(count) as engine:
            _, result = engine.next(engine.initialize(), clients)

    Args:
      computation: takes one value that is placed at the clients, or nothing; its
        result is placed at the server.

    Returns:
      A process whose metrics are the computation's result.

    Raises:
      ValueError: the computation takes more than one value, or its result is not
        placed at the server.
    """
    parameter = computation.type_signature.parameter
    result = computation.type_signature.result
    placed = _placed(result)
    if not placed:
        raise ValueError(
            f"the result of the computation must be placed at the server, got {result}"
        )
    if parameter is not None and not isinstance(parameter, tff.FederatedType):
        raise ValueError(
            "the computation must take one value that is placed at the clients, got "
            f"{parameter}"
        )
    empty = tff.FederatedType(tff.StructWithPythonType([], tuple), tff.SERVER)

    @tff.federated_computation
    def initialize() -> Any:
        return tff.federated_value((), tff.SERVER)

    if parameter is None:

        @tff.federated_computation(empty)
        def next_round(state: Any) -> Any:
            return state, computation()

    else:

        @tff.federated_computation(empty, parameter)
        def next_round(state: Any, values: Any) -> Any:
            return state, computation(values)

    return tff.templates.IterativeProcess(initialize, next_round)


def _placed(result: tff.Type) -> bool:
    if isinstance(result, tff.FederatedType):
        return result.placement is tff.SERVER
    return isinstance(result, tff.StructType) and all(
        _placed(member) for _, member in tff.structure.iter_elements(result)
    )
