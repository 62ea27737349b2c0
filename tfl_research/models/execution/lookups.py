"""Replaces TensorFlow's lookup tables in models by pure operations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

_TABLES = (
    tf.lookup.StaticHashTable,
    tf.lookup.experimental.MutableHashTable,
    tf.lookup.experimental.DenseHashTable,
)
_BUCKETS = 2**62


class PureTable:
    """The content of a table as constants: keys are found by binary search.

    A table of TensorFlow is a resource, which cannot be part of a computation that is
    serialised, and whose lookups are not pure.

    Args:
      table: a table of TensorFlow, whose content does not change.

    Raises:
      ValueError: two keys have the same fingerprint, which is unlikely with less than
        millions of keys.
    """

    def __init__(self, table: Any):
        keys, values = (t.numpy() for t in table.export())
        if isinstance(table, tf.lookup.StaticHashTable):
            default = table.default_value
        else:
            default = table.lookup(tf.constant([_absent(keys)], table.key_dtype))[0]
        self.key_dtype, self.value_dtype = table.key_dtype, table.value_dtype
        self._size = len(keys)
        self._default = tf.get_static_value(tf.convert_to_tensor(default))
        places = _fingerprints(tf.constant(keys, table.key_dtype)).numpy()
        order = np.argsort(places)
        self._places, self._keys = places[order], keys[order]
        self._values = values[order]
        if len(np.unique(places)) != len(places):
            raise ValueError(
                f"two of a table's {len(keys)} keys have the same fingerprint; "
                "expected other keys"
            )

    def size(self) -> tf.Tensor:
        """Returns the number of keys, int64 `[]`."""
        return tf.constant(self._size, tf.int64)

    def lookup(self, keys: Any, name: Any = None) -> tf.Tensor:
        """Returns the values of keys of any shape; the default for absent keys."""
        del name
        keys = tf.convert_to_tensor(keys, self.key_dtype)
        default = tf.constant(self._default, self.value_dtype)
        if not self._size:
            return tf.fill(tf.shape(keys), default)
        flat = tf.reshape(keys, [-1])
        place = tf.searchsorted(tf.constant(self._places), _fingerprints(flat))
        place = tf.minimum(place, self._size - 1)
        found = tf.gather(tf.constant(self._keys, self.key_dtype), place)
        values = tf.gather(tf.constant(self._values, self.value_dtype), place)
        values = tf.where(tf.equal(found, flat), values, default)
        looked = tf.reshape(values, tf.shape(keys))
        looked.set_shape(keys.shape)
        return looked

    def __getitem__(self, keys: Any) -> tf.Tensor:
        return self.lookup(keys)


def _absent(keys: np.ndarray) -> Any:
    """Makes a key that is not in the table."""
    if keys.dtype == object:
        return b"-" * (1 + max((len(key) for key in keys), default=0))
    return keys.max() + 1 if len(keys) else 0


def _fingerprints(keys: tf.Tensor) -> tf.Tensor:
    if keys.dtype == tf.string:
        return tf.strings.to_hash_bucket_fast(keys, _BUCKETS)
    return tf.cast(keys, tf.int64)


def tables_in(modules: Sequence[Any]) -> list[tuple[Any, str, PureTable]]:
    """Makes pure tables for all tables in modules, with module and attribute.

    Call this outside of graphs.

    Raises:
      ValueError: a table has no content, as in a lookup layer that nobody adapted.
    """
    return [
        (module, name, _pure(module, value))
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, _TABLES)
    ]


def _pure(module: Any, table: Any) -> PureTable:
    try:
        return PureTable(table)
    except (tf.errors.AbortedError, tf.errors.FailedPreconditionError) as error:
        name = getattr(module, "name", type(module).__name__)
        raise ValueError(
            f"layer {name!r} has an empty lookup table; give the layer a vocabulary, "
            "or adapt it in the model builder"
        ) from error


@contextmanager
def replaced_tables(tables: Sequence[tuple[Any, str, PureTable]]) -> Iterator[None]:
    """Replaces the tables that modules hold by the pure tables of `tables_in`."""
    held = [vars(module)[name] for module, name, _ in tables]
    try:
        for module, name, table in tables:
            vars(module)[name] = table
        yield
    finally:
        for (module, name, _), table in zip(tables, held):
            vars(module)[name] = table
