"""Clients' data as the values that a process takes. Imports TensorFlow."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.data import ClientData
from tfl_research.errors import SettingError
from tfl_research.experiment.own_process.process_form import short_type
from tfl_research.runtime.graphs.structures import flatten, leaf_types, pack
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
            parts = [_digest(self.checked(client_id)) for _ in range(2)]
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
            tuple(values), client_type, lambda name, *_: values[name], True
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
        raise SettingError(f"client_ids: has {twice!r} twice; give each client once")
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


def as_value(where: str, value: Any, value_type: tff.Type) -> Any:
    """A value of a type, with members in the type's order.

    TFF takes the members of a mapping in their order and not by their names.

    Args:
      where: begins the messages.
      value: as a user gives it.
      value_type: of TFF.

    Raises:
      SettingError: a value that is not of the type.
    """
    if isinstance(value_type, tff.SequenceType):
        return _as_sequence(where, value, value_type)
    try:
        found = flatten(value, value_type)
    except ValueError as error:
        raise _refused(where, value, value_type, str(error)) from error
    if isinstance(value_type, tff.StructType):
        _check_members(where, value, value_type)
    leaves = [
        _as_sequence(where, leaf, each)
        if isinstance(each, tff.SequenceType)
        else _as_tensor(where, leaf, each, value_type)
        for leaf, each in zip(found, leaf_types(value_type))
    ]
    return pack(iter(leaves), value_type)


def _check_members(where: str, value: Any, value_type: tff.StructType) -> None:
    """Refuses members that the type has not, which nobody would use."""
    names = [name for name, _ in tff.structure.iter_elements(value_type)]
    if isinstance(value, Mapping) and None not in names:
        # The toolkit's own local steps have more than every process takes.
        further = [name for name in value if name not in names and "mask" not in value]
        if further:
            raise _refused(where, value, value_type, f"has a further {further[0]!r}")
    if isinstance(value, (list, tuple)) and len(value) != len(names):
        raise _refused(where, value, value_type, f"has {len(value)} members")


def _as_tensor(where: str, value: Any, leaf: tff.TensorType, whole: tff.Type) -> Any:
    is_text = np.issubdtype(leaf.dtype, np.str_)
    try:
        array = np.asarray(value)
        if is_text:
            if array.dtype.kind not in "OSU":
                raise ValueError(f"is {array.dtype}")
            array = _as_bytes(array)
        elif array.dtype != leaf.dtype:
            if isinstance(value, (np.ndarray, np.generic, tf.Tensor)):
                raise ValueError(f"is {array.dtype}; convert it to {leaf.dtype}")
            exact = array.astype(leaf.dtype)
            if array.dtype.kind == "f" and exact.dtype.kind in "iub":
                raise ValueError(f"is {array.dtype}; convert it to {leaf.dtype}")
            array = exact
        if leaf.shape is not None:
            expected = tf.TensorShape(leaf.shape)
            if not expected.is_compatible_with(array.shape):
                raise ValueError(f"has shape {list(array.shape)}")
    except (ValueError, TypeError) as error:
        raise _refused(where, value, leaf, str(error), whole) from error
    return array


def _as_bytes(array: np.ndarray) -> np.ndarray:
    texts = np.empty(array.size, object)
    texts[:] = [t.encode() if isinstance(t, str) else bytes(t) for t in array.flat]
    return texts.reshape(array.shape)


def _as_sequence(where: str, value: Any, sequence: tff.SequenceType) -> Any:
    if isinstance(value, tf.data.Dataset):
        return _as_dataset(where, value, sequence)
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise _refused(
            where, value, sequence, "give a tf.data.Dataset, or a list of its elements"
        )
    elements = [
        as_value(f"{where}, element {number}", element, sequence.element)
        for number, element in enumerate(value)
    ]
    return _dataset_of(elements, sequence.element)


def _dataset_of(elements: list[Any], element_type: tff.Type) -> tf.data.Dataset:
    """A dataset of elements whose shapes may differ, in their order."""
    types = leaf_types(element_type)
    rows = [[np.asarray(x) for x in flatten(e, element_type)] for e in elements]
    parts = []
    for _, same in itertools.groupby(rows, lambda row: [x.shape for x in row]):
        columns = [np.stack(column) for column in zip(*same)]
        parts.append(_slices(columns, element_type))
    if not parts:
        shapes = [[1, *(size or 0 for size in each.shape or ())] for each in types]
        columns = [
            np.full(shape, b"", object)
            if np.issubdtype(each.dtype, np.str_)
            else np.zeros(shape, each.dtype)
            for shape, each in zip(shapes, types)
        ]
        return _slices(columns, element_type).take(0)
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.concatenate(part)
    return whole


def _slices(columns: list[np.ndarray], element_type: tff.Type) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(pack(iter(columns), element_type))


def _as_dataset(
    where: str, dataset: tf.data.Dataset, sequence: tff.SequenceType
) -> tf.data.Dataset:
    spec = dataset.element_spec
    expected = sequence.element
    if expected.is_assignable_from(tff.types.tensorflow_to_type(spec)):
        return dataset
    try:
        specs = flatten(spec, expected)
        if isinstance(expected, tff.StructType):
            _check_members(where, spec, expected)
    except (ValueError, SettingError) as error:
        raise _refused(where, spec, sequence, f"has elements {_specs(spec)}") from error
    for leaf, each in zip(specs, leaf_types(expected)):
        fits = isinstance(leaf, tf.TensorSpec) and each.is_assignable_from(
            tff.types.tensorflow_to_type(leaf)
        )
        if not fits:
            raise _refused(
                where, spec, sequence, f"has elements {_specs(spec)}"
            ) from None
    # The same members in another order or container.
    return dataset.map(lambda *given: _packed(given, expected))


def _packed(given: tuple[Any, ...], expected: tff.Type) -> Any:
    element = given if len(given) > 1 else given[0]
    return pack(iter(flatten(element, expected)), expected)


def _specs(spec: Any) -> str:
    try:
        return short_type(tff.types.tensorflow_to_type(spec))
    except (TypeError, ValueError):
        return " ".join(str(spec).split())[:120]


def _refused(
    where: str,
    value: Any,
    expected: tff.Type,
    why: str,
    whole: Optional[tff.Type] = None,
) -> SettingError:
    of = "" if whole is None or whole is expected else f" in {short_type(whole)}"
    return SettingError(
        f"{where}: a {type(value).__name__} {' '.join(why.split())}; the process takes "
        f"{short_type(expected)}{of}"
    )


def _digest(value: Any) -> str:
    """SHA-256 of a client's value."""
    digest = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, tf.data.Dataset):
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
