"""Tasks of tf.data datasets, one for each client, and of TFF's `ClientData`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Optional, Protocol, Union, runtime_checkable

import numpy as np
import tensorflow as tf

from tfl_research.data import Examples, conversion, structures
from tfl_research.data.sequences import LONGEST
from tfl_research.tasks import own_data
from tfl_research.tasks.pooled import Pooled
from tfl_research.tasks.task import Task

# Examples that are read at once.
_BLOCK = 512
# The datasets of this many clients are read twice, to see whether both readings agree.
_COMPARED = 3
# Elements after which a dataset of unknown length counts as endless.
_MOST_OF_UNKNOWN = 1_000_000
_Keys = Union[None, str, Sequence[str], Mapping[str, str]]


@runtime_checkable
class _ClientDatasets(Protocol):
    """`tff.simulation.datasets.ClientData`, as far as it is used."""

    @property
    def client_ids(self) -> list[str]: ...

    def create_tf_dataset_for_client(self, client_id: str) -> tf.data.Dataset: ...


def from_datasets(
    clients: Any,
    *,
    model: Callable[[], Any],
    client_ids: Optional[Sequence[str]] = None,
    x: _Keys = None,
    y: _Keys = None,
    weight: Optional[str] = None,
    batched: Optional[bool] = None,
    **options: Any,
) -> Task:
    """Makes a task of a tf.data dataset for each client, or of TFF's `ClientData`.

    A client's dataset is read, as a whole, when the client is needed. The experiment
    divides the examples into local steps: batches of the datasets play no part, and
    `repeat` and `shuffle` must be left out (`batching` has epochs and shuffles).

    Args:
      clients: `{client id: dataset}`, where a function of no argument may stand for a
        dataset; a function from a client's id to its dataset, with `client_ids`; a
        `tff.simulation.datasets.ClientData`; or a list of datasets, whose ids are
        "client_0000" and so on. Elements are `(x, y)`, `(x, y, sample_weight)`, a dict
        with the names "x", "y" and "sample_weight", or a dict of other names with the
        arguments below. x and y may be dicts themselves.
      model: see `from_arrays`.
      client_ids: all clients, where `clients` is a function.
      x: the name of the input in dict elements; a list of names for a dict of inputs;
        or a dict from the inputs' names to the elements' names.
      y: the labels likewise; without it, elements named by `x` have no labels.
      weight: the name of the examples' weights in dict elements.
      batched: whether an element is a batch of examples. By default the shapes decide;
        shapes that leave it open are refused.
      options: objective, test (a share), held_out (a share), batching, seed, name,
        selection_metric, label_names, public_data, pooled, sequences and
        non_trainable, as in `from_arrays`.

    Raises:
      ValueError: other elements, datasets without an end, datasets that differ when
        they are read again, shapes that leave open what an example is, clients of other
        elements than the first (when they are read), or what `from_arrays` refuses.

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
    names = _Names(x, y, weight)

    def read(client_id: str) -> Examples:
        where = f"client {client_id!r}"
        try:
            dataset = open_dataset(client_id)
        except Exception as error:
            raise ValueError(
                f"{where}: the function that makes the dataset failed: "
                f"{type(error).__name__}: {_line(error)}"
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
        _check_specs(where, flat)
        in_batches = _is_batched(where, flat, batched, bool(sequences))
        arrays = _arrays(where, dataset, names, flat, in_batches)
        return conversion.converted(client_id, arrays, sequences)

    _check_repeatable(ids, read)
    return own_data.of_clients(ids, read, settings, pooled)


def _opener(
    clients: Any, client_ids: Optional[Sequence[str]]
) -> tuple[tuple[str, ...], Callable[[str], Any]]:
    """The clients' ids, and a function from an id to a dataset."""
    is_function = callable(clients) and not isinstance(clients, _ClientDatasets)
    if is_function != (client_ids is not None):
        raise ValueError(
            "client_ids goes with a function from a client's id to its dataset, and "
            f"only with such a function; got {type(clients).__name__}"
        )
    if client_ids is not None:
        if isinstance(client_ids, str):
            raise ValueError(
                f"client_ids must be a list of ids, got the text {client_ids!r}"
            )
        return tuple(client_ids), clients
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


class _Names:
    """Which component of an element is which array.

    Args:
      x: see `from_datasets`.
      y: see `from_datasets`.
      weight: see `from_datasets`.
    """

    def __init__(self, x: _Keys, y: _Keys, weight: Optional[str]):
        if x is None and not (y is None and weight is None):
            raise ValueError(
                "y is given without x; give x too: the name of the input in the "
                "elements"
            )
        self._x, self._y, self._weight = x, y, weight

    def flat(self, where: str, element: Any) -> dict[str, Any]:
        """The components of an element, or of its spec, by flat name.

        Raises:
          ValueError: an element of another kind.
        """
        if self._x is not None:
            parts = self._chosen(where, element)
        elif isinstance(element, Mapping):
            parts = dict(element)
        elif isinstance(element, tuple) and len(element) in (2, 3):
            parts = dict(zip(("x", "y", structures.SAMPLE_WEIGHT), element))
        elif isinstance(element, tuple):
            raise ValueError(
                f"{where}: elements are tuples of {len(element)}, expected (x, y) or "
                "(x, y, sample_weight)"
            )
        else:
            parts = {"x": element}
        flat: dict[str, Any] = {}
        for name, value in parts.items():
            if name not in ("x", "y", structures.SAMPLE_WEIGHT):
                raise ValueError(
                    f"{where}: elements have the name {name!r}, expected x, y and "
                    "sample_weight; name the input and the label by x= and y="
                )
            if isinstance(value, (tuple, list)):
                raise ValueError(
                    f"{where}: {name} is a {type(value).__name__} of tensors; give a "
                    "dict of them, by the names of the model's inputs"
                )
            try:
                flat.update(structures.flattened(name, value))
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
        return flat

    def _chosen(self, where: str, element: Any) -> dict[str, Any]:
        if not isinstance(element, Mapping):
            raise ValueError(
                f"{where}: x={self._x!r} names a component of dict elements, but "
                f"elements are {type(element).__name__}"
            )
        chosen: dict[str, Any] = {}
        for name, keys in (
            ("x", self._x),
            ("y", self._y),
            (structures.SAMPLE_WEIGHT, self._weight),
        ):
            if keys is None:
                continue
            if isinstance(keys, str):
                chosen[name] = _component(where, element, keys)
            else:
                pairs = keys if isinstance(keys, Mapping) else {k: k for k in keys}
                chosen[name] = {
                    part: _component(where, element, key) for part, key in pairs.items()
                }
        return chosen


def _component(where: str, element: Mapping[str, Any], key: str) -> Any:
    if key not in element:
        raise ValueError(
            f"{where}: elements have no {key!r}; they have {', '.join(element)}"
        )
    return element[key]


def _is_batched(
    where: str, specs: Mapping[str, Any], given: Optional[bool], sequences: bool
) -> bool:
    """Whether elements are batches; ValueError where nothing tells."""
    shapes = {name: spec.shape for name, spec in specs.items()}
    scalar = [n for n, shape in shapes.items() if shape.rank == 0]
    if given is not None:
        if given and scalar:
            raise ValueError(
                f"{where}: {scalar[0]} has no axis of examples, but batched=True is "
                "given; give batched=False"
            )
        return given
    if scalar:
        return False
    if any(shape.rank is None for shape in shapes.values()):
        raise ValueError(
            f"{where}: components of unknown rank; say batched=True or batched=False"
        )
    first = {shape[0] for shape in shapes.values()}
    if len(first) > 1:
        return False
    sequences = sequences or all(shape.rank == 1 for shape in shapes.values())
    if first == {None} and not sequences and len(shapes) > 1:
        return True
    shown = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    raise ValueError(
        f"{where}: the shapes of elements ({shown}) do not tell whether these are "
        "batches; say batched=True or batched=False"
    )


def _check_specs(where: str, specs: Mapping[str, Any]) -> None:
    """Raises ValueError unless the components are tensors, dense or ragged."""
    for name, spec in specs.items():
        if isinstance(spec, tf.SparseTensorSpec):
            raise ValueError(
                f"{where}: {name} is sparse; make it dense by tf.sparse.to_dense"
            )
        if not isinstance(spec, (tf.TensorSpec, tf.RaggedTensorSpec)):
            raise ValueError(
                f"{where}: {name} is a {type(spec).__name__}, expected a tensor"
            )


def _elements(where: str, dataset: tf.data.Dataset, size: int) -> Iterator[Any]:
    """The elements; an error within the dataset in one line.

    Args:
      where: names the client in an error.
      dataset: the elements.
      size: the number of the user's elements in each.

    Raises:
      ValueError: the dataset fails, or has a number of elements that TensorFlow does
        not know, and gives more than any real dataset.
    """
    unknown = dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY
    number = 0
    try:
        for element in dataset:
            number += size
            if unknown and number > _MOST_OF_UNKNOWN:
                raise ValueError(
                    f"{where}: the dataset has gone on for {number} elements and does "
                    "not tell their number; if it has an end, say so by "
                    ".apply(tf.data.experimental.assert_cardinality(n))"
                )
            yield element
    except tf.errors.OpError as error:
        raise ValueError(
            f"{where}: the dataset failed after element {number}: {_line(error)}"
        ) from error


def _line(error: Exception) -> str:
    """The first line of an error, without TensorFlow's name of the place."""
    text = re.sub(r"^\{\{function_node .*?\}\}\s*", "", str(error))
    return (text.splitlines() or [type(error).__name__])[0]


def _arrays(
    where: str,
    dataset: tf.data.Dataset,
    names: _Names,
    specs: Mapping[str, Any],
    batched: bool,
) -> dict[str, Any]:
    """All examples of a dataset, by flat name; lists of rows where shapes vary."""
    shapes = {n: s.shape[1:] if batched else s.shape for n, s in specs.items()}
    fixed = all(
        isinstance(spec, tf.TensorSpec) and shapes[name].is_fully_defined()
        for name, spec in specs.items()
    )
    size = 1
    if fixed and not batched:
        dataset, batched, size = dataset.batch(_BLOCK), True, _BLOCK
    found: dict[str, list[Any]] = {name: [] for name in specs}
    padding = _OwnPadding(where, specs) if batched and not fixed else None
    for element in _elements(where, dataset, size):
        parts = names.flat(where, element)
        if padding is not None:
            padding.check(parts)
        for name, value in parts.items():
            found[name].extend(value if batched and not fixed else [value])
    rows = {name: [_row(value) for value in values] for name, values in found.items()}
    if not fixed:
        return rows
    return {
        name: np.concatenate(
            [structures.blank((0, *shapes[name]), spec.dtype.as_numpy_dtype)]
            + rows[name]
        )
        for name, spec in specs.items()
    }


class _OwnPadding:
    """Refuses batches that a dataset has padded to different lengths.

    Nothing tells the padding from the elements of such a batch.
    """

    def __init__(self, where: str, specs: Mapping[str, Any]):
        self._where = where
        self._lengths: dict[str, Optional[tuple[int, ...]]] = {
            name: None
            for name, spec in specs.items()
            if isinstance(spec, tf.TensorSpec) and not spec.shape[1:].is_fully_defined()
        }
        self._has_rows = dict.fromkeys(self._lengths, False)

    def check(self, parts: Mapping[str, Any]) -> None:
        """Raises ValueError if a batch has another length than the batches before."""
        for name, before in self._lengths.items():
            shape = tuple(parts[name].shape)
            self._has_rows[name] |= shape[0] > 1
            if before not in (None, shape[1:]) and self._has_rows[name]:
                raise ValueError(
                    f"{self._where}: {name} has batches of rows of shape {before} and "
                    f"{shape[1:]}, as padded_batch() makes them, and nothing says "
                    "which values are padding; leave padded_batch() out and give "
                    "sequences=tasks.Sequences(...), or pad every batch to one length "
                    "by padded_shapes="
                )
            self._lengths[name] = shape[1:]


def _row(value: Any) -> Any:
    """A row as NumPy has it."""
    return value.numpy() if isinstance(value, (tf.Tensor, tf.RaggedTensor)) else value


def _check_repeatable(
    client_ids: Sequence[str], read: Callable[[str], Examples]
) -> None:
    """Raises ValueError if a client's examples come in another order at each reading.

    The split into training and test examples goes by a row's place, so that an order
    that changes would let a test example into training.
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
