"""A row of the table of TFF processes, and the values of a run as plain lists."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

Built = Union[tff.templates.IterativeProcess, tff.Computation]


@dataclasses.dataclass(frozen=True)
class Row:
    """A TFF process, and what its clients hold in three rounds.

    Attributes:
      build: makes the process, or a plain computation.
      rounds: the clients' values in each round; None where there are no clients.
      covers: the public names of TFF that the row stands for.
      random_state: whether the state holds random numbers. They cancel out of the
        metrics, so that only these are compared.
      canonical: what is left of a round's metrics if an order is random. States are
        not compared then.
      tff_fails: a regular expression of TFF's own error, where TFF's runtime cannot
        run the process either.
      quick: whether the row runs by default.
    """

    build: Callable[[], Built]
    rounds: Sequence[Any]
    covers: tuple[str, ...] = ()
    random_state: bool = False
    canonical: Optional[Callable[[Any], list[Any]]] = None
    tff_fails: Optional[str] = None
    quick: bool = True


def leaves(value: Any) -> list[np.ndarray]:
    """All leaves of a nest of states or metrics, in order, but for points in time."""
    flat: list[np.ndarray] = []

    def walk(item: Any) -> None:
        if hasattr(item, "_fields"):
            item = item._asdict()
        elif hasattr(item, "__attrs_attrs__"):
            item = {a.name: getattr(item, a.name) for a in item.__attrs_attrs__}
        elif isinstance(item, tff.structure.Struct):
            item = collections.OrderedDict(
                (name or str(number), member)
                for number, (name, member) in enumerate(
                    tff.structure.iter_elements(item)
                )
            )
        if isinstance(item, tf.data.Dataset):
            item = list(item)
        if isinstance(item, Mapping):
            for name, member in item.items():
                if name != "round_timestamp":
                    walk(member)
        elif isinstance(item, (list, tuple)):
            for member in item:
                walk(member)
        elif item is not None:
            flat.append(np.asarray(item))

    walk(value)
    return flat


def plain(value: Any) -> list[Any]:
    """The leaves as JSON can hold them: numbers, truth values, text and lists."""

    def text(item: Any) -> Any:
        if isinstance(item, list):
            return [text(i) for i in item]
        return item.decode("latin-1") if isinstance(item, bytes) else item

    return [text(leaf.tolist()) for leaf in leaves(value)]


def assert_same(ours: Sequence[Any], theirs: Sequence[Any]) -> None:
    """Equal text and integers, and real numbers to 1e-5."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        one, two = np.asarray(a), np.asarray(b)
        assert one.shape == two.shape
        if one.dtype.kind in "US" or two.dtype.kind in "US":
            np.testing.assert_array_equal(one, two)
        else:
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


def of_aggregator(
    factory: Any, value_type: Any, weighted: bool = False
) -> tff.templates.IterativeProcess:
    """A process whose metrics are the aggregate of the clients' values."""
    if weighted:
        aggregation = factory.create(
            tff.to_type(value_type), tff.TensorType(np.float32)
        )
        client_type = tff.StructWithPythonType(
            [("value", tff.to_type(value_type)), ("weight", np.float32)],
            collections.OrderedDict,
        )
    else:
        aggregation = factory.create(tff.to_type(value_type))
        client_type = tff.to_type(value_type)
    state_type = aggregation.initialize.type_signature.result

    @tff.federated_computation()
    def initialize() -> Any:
        return aggregation.initialize()

    @tff.federated_computation(state_type, tff.FederatedType(client_type, tff.CLIENTS))
    def next_round(state: Any, clients: Any) -> Any:
        values = (clients["value"], clients["weight"]) if weighted else (clients,)
        output = aggregation.next(state, *values)
        measured = collections.OrderedDict(
            result=output.result, measurements=output.measurements
        )
        return output.state, tff.federated_zip(measured)

    return tff.templates.IterativeProcess(initialize, next_round)


def dataset(*elements: Any, dtype: Any = None) -> tf.data.Dataset:
    """A client's dataset of these elements."""
    return tf.data.Dataset.from_tensor_slices(tf.constant(list(elements), dtype))
