"""Tasks of tf.data datasets, one for each client, and of TFF's `ClientData`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional, Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from tfl_research.data import Examples, conversion
from tfl_research.data.arrays.listed import listed
from tfl_research.data.arrays.sequences import LONGEST
from tfl_research.errors import users_line
from tfl_research.tasks import own_data
from tfl_research.tasks.datasets import elements, reading
from tfl_research.tasks.pooled import Pooled
from tfl_research.tasks.task import Task

# The datasets of this many clients are read twice, to see whether both readings agree.
_COMPARED = 3


@runtime_checkable
class _ClientDatasets(Protocol):
    """The used part of `tff.simulation.datasets.ClientData`."""

    @property
    def client_ids(self) -> list[str]: ...

    def create_tf_dataset_for_client(self, client_id: str) -> tf.data.Dataset: ...


def from_datasets(
    clients: Any,
    *,
    model: Callable[[], Any],
    client_ids: Optional[Sequence[str]] = None,
    x: elements.Keys = None,
    y: elements.Keys = None,
    weight: Optional[str] = None,
    batched: Optional[bool] = None,
    **options: Any,
) -> Task:
    """Makes a task of a tf.data dataset for each client, or of TFF's `ClientData`.

    A client's whole dataset is read when the client is needed. The experiment divides
    the examples into local steps, so the batches of the datasets have no effect. The
    datasets must not have `repeat` and `shuffle` (`batching` has epochs and shuffles).

    Args:
      clients: `{client id: dataset}`, in which a function without arguments may replace
        a dataset; a function from a client's id to its dataset, with `client_ids`; a
        `tff.simulation.datasets.ClientData`; or a list of datasets, whose ids are
        "client_0000" and so on. Elements are `(x, y)`, `(x, y, sample_weight)`, a dict
        with the names "x", "y" and "sample_weight", or a dict of other names, which the
        arguments below name. x and y may be dicts themselves.
      model: see `from_arrays`.
      client_ids: the ids of all clients, if `clients` is a function.
      x: the name of the input in dict elements; a list of names for a dict of inputs;
        or a dict from the inputs' names to the elements' names.
      y: the name or names of the labels, given in the same forms as `x`. If only `x` is
        given, there are no labels.
      weight: the name of the examples' weights in dict elements.
      batched: whether an element is a batch of examples. By default the shapes decide;
        shapes that leave it open are refused.
      options: objective, test (a share), held_out (a share), batching, seed, name,
        selection_metric, label_names, public_data, pooled, sequences and
        non_trainable, as in `from_arrays`.

    Raises:
      ValueError: elements have another form; a dataset has no end, or differs when it
        is read again; the shapes do not show what an example is; a client's elements
        differ from the first client's (when the client is read); or `from_arrays`
        refuses the data or an argument.

    Example:
      >>> import tensorflow as tf
      >>> from tfl_research import tasks
      >>> ward = tf.data.Dataset.from_tensor_slices(([[30.0], [40.0]], [0, 1]))
      >>> def model():
      ...     layers = [tf.keras.layers.Input([1]), tf.keras.layers.Dense(2)]
      ...     return tf.keras.Sequential(layers)
      >>> task = tasks.from_datasets(
      ...     {"north": ward, "south": ward.batch(2)}, model=model, test=0
      ... )
      >>> task.train.load("south")["x"].tolist()
      [[30.0], [40.0]]
    """
    own_data.check_options(options)
    settings = own_data.TaskSettings(model, source="tf.data datasets", **options)
    ids, open_dataset = _opener(clients, client_ids)
    own_data.check_ids(ids)
    pooled: tuple[Pooled, ...] = ()
    if isinstance(clients, (list, tuple)):
        pooled = (
            Pooled(
                "the clients' ids",
                "their places in the list",
                remedy="give {client id: dataset}",
            ),
        )
    sequences = settings.sequences_by_array()
    for name, sequence in sequences.items():
        if sequence.length == LONGEST:
            raise ValueError(
                f"sequences: {name} has length={LONGEST!r}, but datasets are read "
                "only when they are needed, so the longest row is not known; give a "
                "number"
            )
    names = elements.Names(x, y, weight)

    def read(client_id: str) -> Examples:
        where = f"client {client_id!r}"
        try:
            dataset = open_dataset(client_id)
        except Exception as error:
            kind, said = type(error).__name__, reading.line(error)
            said = said if said.startswith(kind) else f"{kind}: {said}"
            raise ValueError(
                f"{where}: the function that makes the dataset failed: {said}"
                f"{users_line(error)}"
            ) from error
        if not isinstance(dataset, tf.data.Dataset):
            raise ValueError(
                f"{where} must have a tf.data.Dataset, got {type(dataset).__name__}"
            )
        if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                f"{where}: the dataset has no end; leave repeat() out, because the "
                "experiment's batching says how many epochs there are"
            )
        flat = names.flat(where, dataset.element_spec)
        elements.check_specs(where, flat)
        in_batches = elements.is_batched(where, flat, batched, bool(sequences))
        arrays = reading.arrays(where, dataset, names, flat, in_batches)
        return conversion.converted(client_id, arrays, sequences)

    _check_repeatable(ids, read)
    return own_data.of_clients(ids, read, settings, pooled)


def _opener(
    clients: Any, client_ids: Optional[Sequence[str]]
) -> tuple[tuple[str, ...], Callable[[str], Any]]:
    """Returns the clients' ids, and a function from an id to a dataset."""
    is_function = callable(clients) and not isinstance(clients, _ClientDatasets)
    if is_function != (client_ids is not None):
        raise ValueError(
            "client_ids goes with a function from a client's id to its dataset, and "
            f"only with such a function; got {type(clients).__name__}"
        )
    if client_ids is not None:
        return listed("client_ids", client_ids), clients
    if isinstance(clients, _ClientDatasets):
        return tuple(clients.client_ids), clients.create_tf_dataset_for_client
    if isinstance(clients, (list, tuple)):
        clients = {f"client_{i:04d}": dataset for i, dataset in enumerate(clients)}
    if not isinstance(clients, Mapping):
        raise ValueError(
            "clients must be datasets by client, {client id: dataset}, a list of them, "
            "a function with client_ids, or a TFF ClientData, got "
            f"{type(clients).__name__}"
        )

    def by_id(client_id: str) -> Any:
        dataset = clients[client_id]
        if isinstance(dataset, tf.data.Dataset) or not callable(dataset):
            return dataset
        return dataset()

    return tuple(clients), by_id


def _check_repeatable(
    client_ids: Sequence[str], read: Callable[[str], Examples]
) -> None:
    """Raises ValueError if a client's examples come in another order at each reading.

    The split into training and test examples depends on a row's position. If the order
    changed, a test example could become a training example.
    """
    for client_id in client_ids[:_COMPARED]:
        one, other = read(client_id), read(client_id)
        for name, array in one.items():
            if not np.array_equal(array, other[name]):
                raise ValueError(
                    f"client {client_id!r}: reading the dataset twice gave other "
                    f"examples or another order of {name}; leave shuffle() out, "
                    "because the experiment's batching shuffles"
                )
