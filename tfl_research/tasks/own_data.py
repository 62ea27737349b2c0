"""Makes tasks of a user's own data: the shared part of all `from_...` functions."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np

from tfl_research.data import (
    Batching,
    ClientData,
    Examples,
    PoissonBatching,
    client_splits,
    conversion,
    hold_out,
)
from tfl_research.data.arrays import structures
from tfl_research.data.arrays.listed import listed
from tfl_research.data.arrays.sequences import Sequences, by_array
from tfl_research.data.client_data import AnyBatching, check_fits, specs_of
from tfl_research.tasks import own_models
from tfl_research.tasks.pooled import Pooled
from tfl_research.tasks.task import Card, Task

BATCHING = Batching()
# Clients whose examples stay in memory: training and evaluation read the same clients
# again and again.
_CACHED_CLIENTS = 256


@dataclasses.dataclass(frozen=True)
class TaskSettings:
    """The arguments of a task of a user's own data, except the data.

    Attributes:
      model: see `from_arrays`, which also explains the attributes not named here.
      source: where the data come from, for the card.
      public_knowledge: see `Card.public_knowledge`.
    """

    model: Any
    objective: Any = None
    test: float = 0.2
    held_out: float = 0.0
    batching: AnyBatching = BATCHING
    seed: int = 0
    name: str = "own"
    selection_metric: Optional[str] = None
    label_names: Sequence[str] = ()
    public_data: bool = False
    pooled: Sequence[Pooled] = ()
    sequences: Union[Sequences, Mapping[str, Sequences], None] = None
    non_trainable: Optional[str] = None
    source: str = "arrays in memory"
    public_knowledge: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        own_models.check_builder(self.model)
        for name, value in (("test", self.test), ("held_out", self.held_out)):
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                raise ValueError(
                    f"{name} must be a share of at least 0 and below 1, got {value!r}"
                )
        self._check_types()

    def _check_types(self) -> None:
        """Raises ValueError for a setting of the wrong type.

        Without this check, any text would count as true.
        """
        for name, is_fine, value, expected in (
            (
                "public_data",
                isinstance(self.public_data, bool),
                self.public_data,
                "True or False",
            ),
            (
                "seed",
                isinstance(self.seed, numbers.Integral),
                self.seed,
                "a whole number",
            ),
            ("name", isinstance(self.name, str), self.name, "text"),
            (
                "batching",
                isinstance(self.batching, (Batching, PoissonBatching)),
                self.batching,
                "a Batching or a PoissonBatching",
            ),
        ):
            if not is_fine:
                raise ValueError(f"{name} must be {expected}, got {value!r}")
        listed("label_names", self.label_names)
        for name, values, kind, expected in (
            ("pooled", self.pooled, Pooled, "tasks.Pooled(...)"),
            ("label_names", self.label_names, str, "text"),
        ):
            if isinstance(values, str) or not all(isinstance(v, kind) for v in values):
                raise ValueError(f"{name} must be a list of {expected}, got {values!r}")

    def sequences_by_array(self) -> dict[str, Sequences]:
        """Returns sequences by flat name; a single one is for x and token labels."""
        names = ("x", "y") if self.objective == "next_token" else ("x",)
        return by_array(self.sequences, names)

    @property
    def _named(self) -> Any:
        return own_models.ASSUMED if self.objective is None else self.objective

    def labelled(
        self,
        client_id: str,
        examples: Examples,
        place: Optional[conversion.Place] = None,
    ) -> Examples:
        """Returns a client's arrays, with labels in the form of the named objective.

        Args:
          client_id: the client.
          examples: the client's converted arrays.
          place: names the labels and their rows in an error.

        Raises:
          ValueError: there are no labels or several arrays of labels, or the objective
            does not take the values.
        """
        labels = [name for name in examples if structures.of(name) == "y"]
        if labels == ["y"]:
            place = place or conversion.Place(f"client {client_id!r}: y")
            if isinstance(self._named, str) and self._named == "next_token":
                pads = {n: each.pad for n, each in self.sequences_by_array().items()}
                own_models.check_tokens(place, examples, pads)
            return own_models.with_labels(place, examples, self._named)
        is_own = isinstance(self._named, str) and self._named == own_models.MODEL
        if labels and isinstance(self._named, str) and not is_own:
            raise ValueError(
                f"objective {self._named!r} expects one array of labels, got "
                f"{', '.join(labels)}; give losses by name, or an Objective of your "
                "own"
            )
        if not labels and own_models.needs_labels(self._named):
            raise ValueError(
                f"client {client_id!r} has no 'y'; objective {self._named!r} needs "
                f"labels, got {', '.join(map(repr, examples))}"
            )
        return examples

    def task(
        self,
        train: ClientData,
        test: ClientData,
        held_out: Optional[ClientData],
        pooled: Sequence[Pooled] = (),
    ) -> Task:
        """Makes the task of these splits.

        Args:
          train: the training clients' training examples.
          test: the same clients' test examples.
          held_out: the held-out clients, or None.
          pooled: facts that the constructor computed from pooled rows.
        """
        build_objective, metric = own_models.objective(
            self.objective, self.model, self.sequences_by_array().get("y")
        )
        unlabelled = not any(structures.of(name) == "y" for name in train.specs)
        card = Card(
            title=self.name,
            client_unit="client",
            target="none" if unlabelled else "y",
            source=self.source,
            licence="the licence of the data",
            label_names=tuple(self.label_names),
            public_data=self.public_data,
            public_knowledge=self.public_knowledge,
        )
        return Task(
            self.name,
            card,
            train.with_batching(self.batching),
            test,
            held_out,
            self.model,
            build_objective,
            self.selection_metric or metric,
            pooled=(*self.pooled, *pooled),
            non_trainable=self.non_trainable,
        )


def check_options(options: Mapping[str, Any]) -> None:
    """Raises ValueError for an option that the constructors do not have."""
    known = [
        field.name
        for field in dataclasses.fields(TaskSettings)
        if field.name not in ("model", "source", "public_knowledge")
    ]
    for name in options:
        if name not in known:
            raise ValueError(
                f"unknown option {name!r}; expected one of {', '.join(known)}"
            )


def check_ids(client_ids: Iterable[object]) -> None:
    """Raises ValueError unless there are clients, with distinct texts for ids."""
    seen = set()
    for client_id in client_ids:
        conversion.check_id(client_id)
        if client_id in seen:
            raise ValueError(f"client {client_id!r} is given twice; give each id once")
        seen.add(client_id)
    if not seen:
        raise ValueError("a task needs at least one client, got none")


def _digest(examples: Examples) -> bytes:
    """Computes a hash of a client's examples in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for name in structures.ordered(examples):
        array = examples[name]
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        text = array.dtype.hasobject
        digest.update(repr(array.tolist()).encode() if text else array.tobytes())
    return digest.digest()


def _lazy(client_ids: Sequence[str], read: Callable[[str], Examples]) -> ClientData:
    """Makes clients whose converted arrays are read when they are needed.

    The examples of a few hundred clients stay in memory. Names, shapes and dtypes are
    those of the first client that has examples; other clients are checked when they are
    read. A client that is read again must have the same examples in the same order. The
    split into training and test examples depends on a row's position, so with another
    order a test example could become a training example.

    Args:
      client_ids: the ids of all clients.
      read: returns a client's flat arrays; must be a pure function of the id.

    Raises:
      ValueError: there are no clients, or no client has an example.
    """
    check_ids(client_ids)
    examples = (read(client_id) for client_id in client_ids)
    sample = next((e for e in examples if structures.num_examples(e)), None)
    if sample is None:
        raise ValueError("no client has an example")
    specs = specs_of(sample)
    digests: dict[str, bytes] = {}

    @functools.lru_cache(maxsize=_CACHED_CLIENTS)
    def load(client_id: str) -> Examples:
        found = read(client_id)
        digest = digests.setdefault(client_id, _digest(found))
        if digest != _digest(found):
            raise ValueError(
                f"client {client_id!r}: reading the examples again gave other examples "
                "or another order; every reading must give the same examples in the "
                "same order, so leave shuffle() out: the experiment's batching shuffles"
            )
        if not structures.num_examples(found) and found.keys() == specs.keys():
            return structures.no_examples(specs)
        check_fits(client_id, found, specs)
        return found

    return ClientData(tuple(client_ids), load, specs)


def of_clients(
    client_ids: Sequence[str],
    read: Callable[[str], Examples],
    settings: TaskSettings,
    pooled: Sequence[Pooled] = (),
) -> Task:
    """Makes a task of clients that are read when they are needed.

    Args:
      client_ids: the ids of all clients.
      read: returns a client's converted arrays; must be a pure function of the id.
      settings: the settings of the task.
      pooled: facts that were computed from pooled rows.

    Raises:
      ValueError: see `TaskSettings`; there are no clients, or no client has an example;
        or a share is outside [0, 1).
    """
    clients = _lazy(client_ids, lambda i: settings.labelled(i, read(i)))
    train_ids, held_out_ids = hold_out.clients(
        clients.client_ids, fraction=settings.held_out, seed=settings.seed
    )
    train, test = client_splits.split_each_client(
        clients.subset(train_ids), test_fraction=settings.test, seed=settings.seed
    )
    held_out = clients.subset(held_out_ids) if held_out_ids else None
    return settings.task(train, test, held_out, pooled)


def with_types(
    clients: Mapping[str, Examples],
    sequences: Mapping[str, Sequences],
    dtypes: Mapping[str, np.dtype],
) -> dict[str, Examples]:
    """Gives sequences of clients without an element the type of the other clients'.

    A row without an element has no type, so a client with such rows alone has padding
    of a guessed type.

    Args:
      clients: flat arrays by client.
      sequences: how rows were padded, by flat name.
      dtypes: types by flat name; without a name, the first client with an element
        decides.
    """
    found = dict(clients)
    for name, sequence in sequences.items():
        held = {i: each[name] for i, each in clients.items() if name in each}
        empty = [i for i, a in held.items() if not (a != sequence.fill(a.dtype)).any()]
        kinds = [array.dtype for i, array in held.items() if i not in empty]
        dtype = dtypes.get(name) or next(iter(kinds), None)
        if dtype is None:
            continue
        for client_id in empty:
            padding = np.full(held[client_id].shape, sequence.fill(dtype), dtype)
            found[client_id] = {**found[client_id], name: padding}
    return found


def of_arrays(
    clients: Mapping[str, Examples],
    settings: TaskSettings,
    pooled: Sequence[Pooled] = (),
) -> Task:
    """Makes a task of converted arrays in memory, and splits them at once.

    Args:
      clients: flat arrays by client.
      settings: the settings of the task.
      pooled: facts that were computed from pooled rows.

    Raises:
      ValueError: see `TaskSettings`; there are no clients; the clients' arrays
        disagree; a share is outside [0, 1); or a named objective does not take the
        labels.
    """
    if not clients:
        raise ValueError("a task needs at least one client, got none")
    clients = {i: settings.labelled(i, each) for i, each in clients.items()}
    clients = with_types(clients, settings.sequences_by_array(), {})
    _, held_out_ids = hold_out.clients(
        tuple(clients), fraction=settings.held_out, seed=settings.seed
    )
    train, test, held_out = client_splits.split_arrays(
        clients,
        held_out=held_out_ids,
        test_fraction=settings.test,
        seed=settings.seed,
    )
    return settings.task(train, test, held_out, pooled)
