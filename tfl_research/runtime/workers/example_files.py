"""Clients' examples in files, which workers read instead of getting them by network.

A file holds one client's examples. Its name is the SHA-256 of its content, so that a
file never changes, and clients with the same examples share a file:

    FOLDER/3f/3f2a…c1.examples

The first line of the content is JSON: the version of the format, and for each array its
name, dtype and shape. The arrays follow one after another, numbers in little-endian
order, text as a serialised `tf.Tensor`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import stat
import uuid
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfl_research.data import ArraySpec, ClientData, Cohort
from tfl_research.data.cohort import Examples
from tfl_research.errors import UserError
from tfl_research.storage.files import atomic

VERSION = 1
SUFFIX = ".examples"


class ExampleFile(NamedTuple):
    """A client's file, as the driver describes it to a worker.

    Attributes:
      path: path of the file.
      fingerprint: FarmHash64 of the content, uint8 `[8]`, which workers check.
      ends: offsets in bytes where each array begins, and where the last array ends.
    """

    path: pathlib.Path
    fingerprint: np.ndarray
    ends: tuple[int, ...]


class ExampleFiles:
    """A folder with the examples of clients, which the driver and workers reach.

    Args:
      folder: path of the folder, the same on all machines. The first written file
        makes the folder.
      specs: specs of an example's arrays, by flat name.
    """

    def __init__(self, folder: pathlib.Path, specs: Mapping[str, ArraySpec]):
        self.folder = folder
        self.specs = dict(specs)
        self._source: object = None
        self._known: dict[str, ExampleFile] = {}

    def prepare(self, clients: ClientData) -> int:
        """Writes the files of all clients that the folder lacks; returns how many.

        Raises:
          UserError: a file of the folder is damaged, or cannot be written.
        """
        self._source, self._known = clients.load, {}
        written = 0
        for client_id, examples in clients.items():
            self._known[client_id], is_new = self._kept(examples)
            written += is_new
        return written

    def of(self, cohort: Cohort, client_id: str) -> ExampleFile:
        """Returns the file of a client of the cohort; writes a missing file.

        Raises:
          UserError: see `prepare`.
        """
        if cohort.source is None or cohort.source != self._source:
            # The client may have other examples in other rounds.
            return self._kept(cohort.load(client_id))[0]
        if client_id not in self._known:
            self._known[client_id] = self._kept(cohort.load(client_id))[0]
        return self._known[client_id]

    def _kept(self, examples: Examples) -> tuple[ExampleFile, bool]:
        content, ends = encoded(examples, self.specs)
        name = hashlib.sha256(content).hexdigest()
        path = self.folder / name[:2] / f"{name}{SUFFIX}"
        try:
            try:
                found = path.stat()
            except FileNotFoundError:
                _write(path, content)
                return ExampleFile(path, fingerprint(content), ends), True
            # Reading a pipe might never end.
            is_file = stat.S_ISREG(found.st_mode) and found.st_size == len(content)
            if not is_file or path.read_bytes() != content:
                raise UserError(
                    f"{path} does not hold the examples that its name stands for: it "
                    "was damaged or changed; remove the file, and the run writes it "
                    "again"
                )
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}") from error
        return ExampleFile(path, fingerprint(content), ends), False


def _write(path: pathlib.Path, content: bytes) -> None:
    """Writes a file that has all of its content or does not exist.

    Other runs may write the same file. Unlike `atomic.write`, this function does not
    wait for the disk. If a power failure damages a file, its content does not match its
    name, and the file can be written again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{uuid.uuid4().hex}{atomic.TEMPORARY_SUFFIX}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def fingerprint(content: bytes) -> np.ndarray:
    """Computes FarmHash64 of bytes, uint8 `[8]`; it is equal on all machines."""
    # A tensor is needed: TensorFlow converts lists by NumPy, which cuts off last zeros.
    data = tf.reshape(tf.constant(content), [1])
    found = tf.raw_ops.Fingerprint(data=data, method="farmhash64")
    return np.asarray(found)[0]


def encoded(
    examples: Examples, specs: Mapping[str, ArraySpec]
) -> tuple[bytes, tuple[int, ...]]:
    """Makes the content of a client's file, and the offsets of its arrays.

    Args:
      examples: arrays `[n, ...]` by flat name.
      specs: specs of the arrays to write, in their order.
    """
    header, blobs = [], []
    for name, spec in specs.items():
        array = np.asarray(examples[name])
        dtype = np.dtype(spec.dtype)
        if dtype.hasobject:
            kind = "text"
            blobs.append(bytes(tf.io.serialize_tensor(tf.constant(array)).numpy()))
        else:
            dtype = dtype.newbyteorder("<")
            kind = dtype.str
            blobs.append(np.ascontiguousarray(array, dtype).tobytes())
        header.append([name, kind, list(array.shape)])
    first = json.dumps({"version": VERSION, "arrays": header}).encode() + b"\n"
    ends = np.cumsum([len(first), *map(len, blobs)])
    return first + b"".join(blobs), tuple(int(end) for end in ends)
