"""Computes a digest of the values of a process' clients; imports TensorFlow."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.errors import SettingError
from tfl_research.experiment.own_process.client_values import ProcessClients

# A dataset of unknown length with more elements counts as endless.
_MOST_OF_UNKNOWN = 1_000_000


@dataclasses.dataclass(frozen=True)
class ValuesDigest:
    """The digest of all clients' values, and the clients whose values vary.

    Attributes:
      sha256: the SHA-256, hexadecimal, of the values that do not vary.
      varying: words about the first client whose values differ at each reading, or have
        no end; None if there is no such client.
      number_varying: the number of clients whose values vary.
    """

    sha256: str
    varying: Optional[str] = None
    number_varying: int = 0

    def check_same(self) -> None:
        """Checks that no client's values vary.

        Raises:
          SettingError: a client's values differ at each reading, or have no end.
        """
        if self.varying is not None:
            raise SettingError(self.varying)


def digest_of(clients: ProcessClients) -> ValuesDigest:
    """Reads every client's value, and reads values that may vary a second time.

    Raises:
      SettingError: a value has another type, or cannot be read; the message names the
        client.
    """
    total, varying = hashlib.sha256(), []
    for client_id in clients.client_ids:
        where, part, why = f"clients[{client_id!r}]", "varies", ""
        try:
            given = clients.given(client_id)
            part = again = _digest(clients.typed(client_id, given))
            if not clients.is_held or _has_dataset(given):
                again = _digest(clients.checked(client_id))
            if part != again:
                part = "varies"
                why = (
                    "has other values when it is read again, as after a shuffle "
                    "without a seed, so a repeated round would have other data; give "
                    "every shuffle a seed and reshuffle_each_iteration=False"
                )
        except _WithoutEndError:
            why = "has a dataset without an end; cut it, as by take"
        except tf.errors.OpError as error:
            what = " ".join(str(error).split())[:200]
            raise SettingError(
                f"{where}: its values cannot all be read ({what})"
            ) from error
        if why:
            varying.append(f"{where}: {why}")
        total.update(f"{client_id}\n{part}\n".encode())
    first = varying[0] if varying else None
    return ValuesDigest(total.hexdigest(), first, len(varying))


class _WithoutEndError(Exception):
    """A dataset has no end, or no known end."""


def _has_dataset(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_dataset, value.values()))
    if isinstance(value, tff.structure.Struct):
        return any(_has_dataset(m) for _, m in tff.structure.iter_elements(value))
    if isinstance(value, (list, tuple)):
        return any(map(_has_dataset, value))
    return isinstance(value, tf.data.Dataset)


def _digest(value: Any) -> str:
    """Computes the SHA-256 of a client's value."""
    digest = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, tf.data.Dataset):
            size = int(part.cardinality())
            if size == tf.data.INFINITE_CARDINALITY:
                raise _WithoutEndError
            for number, element in enumerate(part.as_numpy_iterator()):
                if size == tf.data.UNKNOWN_CARDINALITY and number >= _MOST_OF_UNKNOWN:
                    raise _WithoutEndError
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
