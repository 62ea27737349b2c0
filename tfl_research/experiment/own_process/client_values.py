"""Clients' data as the values that a process takes. Imports TensorFlow."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.data import ClientData
from tfl_research.errors import SettingError
from tfl_research.experiment.own_process.process_form import short_type
from tfl_research.experiment.own_process.typed_values import as_value
from tfl_research.tasks import Task


@dataclasses.dataclass(frozen=True)
class ProcessClients:
    """The clients of a process: ids, and a value for each client in each round.

    Attributes:
      client_ids: in a fixed order.
      client_type: of a value; None for a process that takes no clients.
      value: (client id, seed, round) -> what the user gave for the client.
      is_enumerable: whether all values can be read for a digest.
    """

    client_ids: tuple[str, ...]
    client_type: Optional[tff.Type]
    value: Callable[[str, int, int], Any]
    is_enumerable: bool

    def cohort(
        self, client_ids: Sequence[str], *, seed: int, round_number: int
    ) -> list[Any]:
        """The clients' values in a round.

        Raises:
          SettingError: a value that is not of the type; names the client.
        """
        return [self.checked(each, seed, round_number) for each in client_ids]

    def checked(self, client_id: str, seed: int = 0, round_number: int = 1) -> Any:
        """A client's value, its members in the order of the type."""
        where = f"clients[{client_id!r}]"
        try:
            given = self.value(client_id, seed, round_number)
        except SettingError:
            raise
        except Exception as error:
            raise SettingError(
                f"{where}: reading it failed ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]})"
            ) from error
        if self.client_type is None:
            return given
        return as_value(where, given, self.client_type)

    def digest(self) -> str:
        """SHA-256 of all clients' values.

        Raises:
          SettingError: a value that differs when it is read again.
        """
        total = hashlib.sha256()
        for client_id in self.client_ids:
            values = [self.checked(client_id) for _ in range(2)]
            try:
                parts = list(map(_digest, values))
            except (SettingError, tf.errors.OpError) as error:
                what = " ".join(str(error).split())[:200]
                raise SettingError(
                    f"clients[{client_id!r}]: its values cannot all be read ({what})"
                ) from error
            if parts[0] != parts[1]:
                raise SettingError(
                    f"clients[{client_id!r}]: has other values when it is read again, "
                    "as after a shuffle without a seed, so that a repeated round would "
                    "be another one; give every shuffle a seed and "
                    "reshuffle_each_iteration=False"
                )
            total.update(f"{client_id}\n{parts[0]}\n".encode())
        return total.hexdigest()


def clients_of(
    clients: Any, client_ids: Optional[Iterable[str]], client_type: Optional[tff.Type]
) -> ProcessClients:
    """The clients that a user gave.

    Args:
      clients: a mapping from ids to values, a function of an id, TFF's `ClientData`,
        the toolkit's `ClientData`, or a `Task`; None for a process without clients.
      client_ids: the ids, for a function.
      client_type: that the process takes; None for none.

    Raises:
      SettingError: another object, no clients, or ids where the clients have their own.
    """
    if isinstance(clients, Task):
        clients = clients.train
    if client_type is None:
        if clients is not None:
            raise SettingError(
                "clients: the process takes no clients' values; leave clients out"
            )
        return ProcessClients(("server",), None, lambda *_: None, False)
    is_function = callable(clients) and not isinstance(clients, Mapping)
    if client_ids is not None and not is_function:
        raise SettingError(
            "client_ids: goes with a function that gives a client's value; leave it out"
        )
    if isinstance(clients, ClientData):
        value = _batches(clients, client_type)
        return _checked_ids(clients.client_ids, client_type, value, True)
    if isinstance(clients, tff.simulation.datasets.ClientData):
        source = clients
        return _checked_ids(
            source.client_ids,
            client_type,
            lambda name, *_: source.create_tf_dataset_for_client(name),
            True,
        )
    if isinstance(clients, Mapping):
        values = {str(name): value for name, value in clients.items()}
        return _checked_ids(
            tuple(clients), client_type, lambda name, *_: values[name], True
        )
    if is_function:
        if client_ids is None:
            raise SettingError(
                "client_ids is missing: clients is a function of a client's id; give "
                "client_ids=[...]"
            )
        load = clients
        return _checked_ids(client_ids, client_type, lambda name, *_: load(name), False)
    if isinstance(clients, (list, tuple)):
        listed = {str(number): value for number, value in enumerate(clients)}
        return _checked_ids(
            tuple(listed), client_type, lambda name, *_: listed[name], True
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
    is_enumerable: bool,
) -> ProcessClients:
    ids = tuple(map(str, client_ids))
    if not ids:
        raise SettingError("clients: there are none; give at least one client")
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise SettingError(
            f"clients: there are two with the id {twice!r}; give each another id"
        )
    return ProcessClients(ids, client_type, value, is_enumerable)


def _batches(
    clients: ClientData, client_type: tff.Type
) -> Callable[[str, int, int], Any]:
    """Values of the toolkit's own client data: local steps, or a dataset of batches."""
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
    """The examples of a local step, as the element of a dataset."""
    rows = steps["mask"][step]
    parts = {name: steps[name][step][rows] for name in specs}
    members = [name for name, _ in tff.structure.iter_elements(element)]
    if len(members) == 2 and not {"x", "y"} & set(members) and set(parts) == {"x", "y"}:
        return [parts["x"], parts["y"]]
    return parts


def _digest(value: Any) -> str:
    """SHA-256 of a client's value."""
    digest = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, tf.data.Dataset):
            if int(part.cardinality()) == tf.data.INFINITE_CARDINALITY:
                raise SettingError("a dataset without an end; cut it, as by take")
            for element in part.as_numpy_iterator():
                digest.update(b"element")
                for leaf in tf.nest.flatten(element):
                    add(np.asarray(leaf))
        elif isinstance(part, Mapping):
            for member in part.values():
                add(member)
        elif isinstance(part, tff.structure.Struct):
            for _, member in tff.structure.iter_elements(part):
                add(member)
        elif isinstance(part, (list, tuple)):
            digest.update(b"%d members" % len(part))
            for member in part:
                add(member)
        else:
            array = np.asarray(part)
            digest.update(f"{array.dtype} {array.shape}".encode())
            texts = array.dtype.kind in "OSU"
            digest.update(repr(list(array.flat)).encode() if texts else array.tobytes())

    add(value)
    return digest.hexdigest()
