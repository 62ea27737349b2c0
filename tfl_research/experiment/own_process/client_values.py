"""Turns clients' data into the values that a process takes; imports TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow_federated as tff

from tfl_research.data import ClientData
from tfl_research.errors import SettingError, users_line
from tfl_research.experiment.own_process.process_form import short_type
from tfl_research.experiment.own_process.typed_values import as_value
from tfl_research.tasks import Task


class CohortValues(list[Any]):
    """The values of a round's clients, with the clients' ids for error messages.

    Args:
      values: a value for each client.
      client_ids: the clients, in the same order.
    """

    def __init__(self, values: Iterable[Any], client_ids: Sequence[str]):
        super().__init__(values)
        self.client_ids = tuple(client_ids)


@dataclasses.dataclass(frozen=True)
class ProcessClients:
    """The clients of a process: ids, and a value for each client in each round.

    Attributes:
      client_ids: the ids in a fixed order.
      client_type: the type of a client's value; None for a process that takes no
        clients.
      value: maps (client id, seed, round) to the user's value for the client.
      is_function: whether a user's function gives the values.
      is_held: whether the values are in a mapping or a list. Then all values except
        tf.data datasets are the same at each reading.
    """

    client_ids: tuple[str, ...]
    client_type: Optional[tff.Type]
    value: Callable[[str, int, int], Any]
    is_function: bool = False
    is_held: bool = False

    def cohort(
        self, client_ids: Sequence[str], *, seed: int, round_number: int
    ) -> list[Any]:
        """Returns the clients' values in a round.

        Raises:
          SettingError: a value has another type; the message names the client.
        """
        return CohortValues(
            (self.checked(each, seed, round_number) for each in client_ids), client_ids
        )

    def checked(self, client_id: str, seed: int = 0, round_number: int = 1) -> Any:
        """Returns a client's value, with its members in the order of the type."""
        return self.typed(client_id, self.given(client_id, seed, round_number))

    def given(self, client_id: str, seed: int = 0, round_number: int = 1) -> Any:
        """Returns a client's value as the user gave it."""
        try:
            return self.value(client_id, seed, round_number)
        except SettingError:
            raise
        except Exception as error:
            raise SettingError(
                f"clients[{client_id!r}]: reading it failed ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}{users_line(error)})"
            ) from error

    def typed(self, client_id: str, given: Any) -> Any:
        """Returns a value from `given`, with its members in the order of the type."""
        if self.client_type is None:
            return given
        return as_value(f"clients[{client_id!r}]", given, self.client_type)

    def check(self) -> None:
        """Checks every client's value before the first round.

        Raises:
          SettingError: a value has another type; the message names the client.
        """
        for client_id in self.client_ids:
            self.checked(client_id)


def clients_of(
    clients: Any, client_ids: Optional[Iterable[str]], client_type: Optional[tff.Type]
) -> ProcessClients:
    """Makes the clients of a process from the user's data.

    Args:
      clients: a mapping from ids to values, a function of an id, TFF's `ClientData`,
        the toolkit's `ClientData`, or a `Task`; None for a process without clients.
      client_ids: the ids, if `clients` is a function.
      client_type: the type of value that the process takes; None for no clients.

    Raises:
      SettingError: `clients` is another object, there are no clients, or ids are given
        although the clients have their own.
    """
    if isinstance(clients, Task):
        clients = clients.train
    if client_type is None:
        if clients is not None:
            raise SettingError(
                "clients: the process takes no clients' values; leave clients out"
            )
        return ProcessClients(("server",), None, lambda *_: None)
    is_function = callable(clients) and not isinstance(clients, Mapping)
    if client_ids is not None and not is_function:
        raise SettingError(
            "client_ids: goes with a function that gives a client's value; leave "
            "client_ids out"
        )
    if isinstance(clients, ClientData):
        value = _batches(clients, client_type)
        return _checked_ids(clients.client_ids, client_type, value)
    if isinstance(clients, tff.simulation.datasets.ClientData):
        source = clients
        return _checked_ids(
            source.client_ids,
            client_type,
            lambda name, *_: source.create_tf_dataset_for_client(name),
        )
    if isinstance(clients, Mapping):
        values = {str(name): value for name, value in clients.items()}
        return dataclasses.replace(
            _checked_ids(tuple(clients), client_type, lambda name, *_: values[name]),
            is_held=True,
        )
    if is_function:
        if client_ids is None:
            raise SettingError(
                "client_ids is missing: clients is a function of a client's id; give "
                "client_ids=[...]"
            )
        load = clients
        return _checked_ids(client_ids, client_type, lambda name, *_: load(name), True)
    if isinstance(clients, (list, tuple)):
        held = {str(number): value for number, value in enumerate(clients)}
        return dataclasses.replace(
            _checked_ids(tuple(held), client_type, lambda name, *_: held[name]),
            is_held=True,
        )
    raise SettingError(
        f"clients must be a mapping from ids to values of type "
        f"{short_type(client_type)}, a list of values, a function of an id, or "
        f"ClientData, got {type(clients).__name__}"
    )


def _checked_ids(
    client_ids: Iterable[str],
    client_type: tff.Type,
    value: Callable[[str, int, int], Any],
    is_function: bool = False,
) -> ProcessClients:
    ids = tuple(map(str, client_ids))
    if not ids:
        raise SettingError("clients: the list is empty; give at least one client")
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise SettingError(
            f"clients: two clients have the id {twice!r}; give each its own id"
        )
    return ProcessClients(ids, client_type, value, is_function)


def _batches(
    clients: ClientData, client_type: tff.Type
) -> Callable[[str, int, int], Any]:
    """Makes values from the toolkit's client data: local steps, or batches."""
    sequence = isinstance(client_type, tff.SequenceType)

    def value(client_id: str, seed: int, round_number: int) -> Any:
        cohort = clients.cohort([client_id], seed=seed, round_number=round_number)
        steps = cohort.batches(0)
        if not sequence:
            return steps
        return [
            _batch(steps, clients.specs, step, client_type.element)
            for step in range(int(steps["num_steps"]))
        ]

    return value


def _batch(
    steps: Mapping[str, np.ndarray],
    specs: Mapping[str, Any],
    step: int,
    element: tff.Type,
) -> Any:
    """Returns the examples of a local step as the element of a dataset."""
    rows = steps["mask"][step]
    parts = {name: steps[name][step][rows] for name in specs}
    members = [name for name, _ in tff.structure.iter_elements(element)]
    if len(members) == 2 and not {"x", "y"} & set(members) and set(parts) == {"x", "y"}:
        return [parts["x"], parts["y"]]
    return parts
