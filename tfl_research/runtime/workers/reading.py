"""The computation by which a worker reads clients' examples from their files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.data import ArraySpec, Cohort
from tfl_research.errors import UserError
from tfl_research.runtime.workers.example_files import SUFFIX, ExampleFiles

_CHANGED = "tfl_research: changed file"
# Types that TensorFlow decodes; the bits of other types are cast.
_DECODED = (
    *(tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.complex64, tf.complex128),
    *(tf.bool, tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16),
)
# TensorFlow's messages escape some characters of a folder's name. A file's name has no
# such characters.
_NAME = re.compile(rf"(?P<name>[0-9a-f]{{64}}{re.escape(SUFFIX)})(; (?P<reason>.*))?")


class DataFileError(UserError):
    """A worker cannot read a client's file, or the file has another content there."""


class Reader:
    """Makes a chunk's leaves on a worker, as `chunks.gather` makes them here.

    Attributes:
      computation: a `tff.Computation` that takes the result of `argument`. It returns
        the leaves of the clients' type, and the int32 number of clients that have
        files.
      argument_type: TFF type of the result of `argument`.

    Args:
      names: members of a client's value, in their order.
      specs: specs of the stacked leaves, `[clients, ...]`, in the same order.
      arrays: specs of an example's arrays, by flat name.
    """

    def __init__(
        self,
        names: Sequence[str],
        specs: Sequence[tf.TensorSpec],
        arrays: Mapping[str, ArraySpec],
    ):
        self._names, self._arrays = tuple(names), dict(arrays)
        by_name = dict(zip(names, specs))
        self._sent = [n for n in names if n not in arrays and n != "mask"]
        sent = [
            tff.TensorType(by_name[n].dtype.as_numpy_dtype, by_name[n].shape)
            for n in self._sent
        ]
        files = [
            tff.TensorType(np.str_, [None]),
            tff.TensorType(np.uint8, [None, 8]),
            tff.TensorType(np.int64, [None, len(self._arrays) + 1]),
            tff.TensorType(np.int32, [None, None, None]),
        ]
        self.argument_type = tff.StructType([*files, *sent])

        @tff.tensorflow.computation(self.argument_type)
        def read(given: Any) -> Any:
            paths, fingerprints, ends, orders, *others = list(given)
            found = dict(zip(self._sent, others))
            read_arrays = self._read(paths, fingerprints, ends, orders)
            found.update(zip(self._arrays, read_arrays))
            found["mask"] = orders >= 0
            leaves = []
            for name in self._names:
                leaf = found[name]
                leaf.set_shape(by_name[name].shape)
                leaves.append(leaf)
            return [*leaves, tf.size(paths)]

        self.computation = read

    def argument(
        self, cohort: Cohort, files: ExampleFiles, shape: tuple[int, int]
    ) -> list[Any]:
        """Makes the values that a worker gets in the place of the cohort's examples.

        Args:
          cohort: the chunk's clients.
          files: the clients' files.
          shape: (clients, steps) to which the chunk is padded.
        """
        clients, steps = shape
        orders = np.full((clients, steps, cohort.batch_size), -1, np.int32)
        for row, order in enumerate(cohort.orders):
            orders[row, : len(order)] = order
        found = [files.of(cohort, client_id) for client_id in cohort.client_ids]
        stacked = cohort.without_examples().stacked(
            num_clients=clients, num_steps=steps
        )
        return [
            np.array([os.fsencode(file.path) for file in found], object),
            np.array([f.fingerprint for f in found], np.uint8).reshape(-1, 8),
            np.array([f.ends for f in found], np.int64).reshape(
                -1, len(self._arrays) + 1
            ),
            orders,
            *(stacked[name] for name in self._sent),
        ]

    def _read(
        self, paths: tf.Tensor, fingerprints: tf.Tensor, ends: tf.Tensor, orders: Any
    ) -> list[tf.Tensor]:
        """Reads arrays `[clients, steps, batch, ...]` of the clients with files."""
        count = tf.size(paths)

        def one(index: tf.Tensor) -> list[tf.Tensor]:
            content = _checked(paths[index], fingerprints[index])
            return [
                self._steps(content, ends[index], place, spec, orders[index])
                for place, spec in enumerate(self._arrays.values())
            ]

        arrays = tf.map_fn(
            one,
            tf.range(count),
            fn_output_signature=[
                tf.TensorSpec([None, None, *spec.shape], _dtype(spec))
                for spec in self._arrays.values()
            ],
        )
        padding = tf.shape(orders)[0] - count
        padded = []
        for array in arrays:
            shape = tf.concat([[padding], tf.shape(orders)[1:]], 0)
            shape = tf.concat([shape, tf.shape(array)[3:]], 0)
            padded.append(tf.concat([array, _blank(shape, array.dtype)], 0))
        return padded

    def _steps(
        self, content: Any, ends: Any, place: int, spec: ArraySpec, order: Any
    ) -> tf.Tensor:
        """Reads an array of one client by steps, padded with zeros."""
        part = tf.strings.substr(
            content,
            tf.cast(ends[place], tf.int64),
            tf.cast(ends[place + 1] - ends[place], tf.int64),
        )
        rows = _decoded(part, spec)
        blank = _blank(tf.concat([[1], tf.shape(rows)[1:]], 0), rows.dtype)
        number = tf.shape(rows)[0]
        # A step's empty places take the row after the last example.
        return tf.gather(
            tf.concat([rows, blank], 0), tf.where(order < 0, number, order)
        )


def _dtype(spec: ArraySpec) -> tf.DType:
    dtype = np.dtype(spec.dtype)
    return tf.string if dtype.hasobject else tf.as_dtype(dtype)


def _blank(shape: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    return tf.fill(shape, tf.zeros([], dtype))


def _checked(path: tf.Tensor, fingerprint: tf.Tensor) -> tf.Tensor:
    content = tf.io.read_file(path)
    found = tf.raw_ops.Fingerprint(data=content[tf.newaxis], method="farmhash64")[0]
    # `==` does not compare the elements of tensors where TFF builds graphs.
    is_same = tf.reduce_all(tf.equal(found, fingerprint))
    check = tf.debugging.Assert(is_same, [_CHANGED, path], summarize=1)
    with tf.control_dependencies([check]):
        return tf.identity(content)


def _decoded(part: tf.Tensor, spec: ArraySpec) -> tf.Tensor:
    dtype = _dtype(spec)
    shape = [-1, *spec.shape]
    if dtype == tf.string:
        return tf.reshape(tf.io.parse_tensor(part, tf.string), shape)
    size = int(np.prod(spec.shape, dtype=np.int64)) * dtype.size
    count = tf.strings.length(part) // max(size, 1)
    shape[0] = count
    if dtype in _DECODED:
        return tf.reshape(tf.io.decode_raw(part, dtype), shape)
    raw = tf.reshape(tf.io.decode_raw(part, tf.uint8), [*shape, dtype.size])
    return tf.bitcast(raw, dtype)


def file_error(
    message: str, address: str, paths: Sequence[bytes]
) -> Optional[DataFileError]:
    """Makes the error of a file that a worker's message is about.

    Args:
      message: the worker's message, in one line.
      address: the worker's address.
      paths: paths of the files that the worker was to read.

    Returns:
      The error; None if the message is not about a file.
    """
    known = {os.path.basename(path): path for path in map(os.fsdecode, paths)}
    found = _NAME.search(message)
    if found is None or found["name"] not in known:
        return None
    path = known[found["name"]]
    if _CHANGED in message:
        return DataFileError(
            f"the worker at {address}: {path} has another content than the driver "
            "wrote; copy the folder to the worker again"
        )
    if found["reason"] is None:
        return None
    return DataFileError(
        f"the worker at {address}: {path}: {found['reason']}; the worker must reach "
        "the folder by the same path"
    )
