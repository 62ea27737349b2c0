"""Messages of the protocol: dicts of arrays, checked when they are read.

Every message has `terms`, the 32 bytes of `SumTerms.digest`. Names are a JSON list in
UTF-8 as an array of uint8. n is the number of names in the message.

From a party to the server:

- keys: `cipher_key` and `mask_key`, uint8[32] each, X25519 public keys.
- shares: `recipients` names, `ciphertexts` uint8[n, 60] for them; `holders` names,
  `digests` uint8[n, 2, 16] of the mask share and the self share of each.
- masked: `vector/0`, `vector/1` ..., flat, of the dtype `VectorSpec.wire`.
- unmask: `owners` names, `shares` uint8[n, 16].

From the server to a party:

- keys: `parties` names, `cipher_keys` and `mask_keys` uint8[n, 32].
- shares: `senders` names, `ciphertexts` uint8[n, 60].
- masked: `survivors` names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfl_research.federation.secure_sums.errors import SecureSumError
from tfl_research.federation.secure_sums.terms import SumTerms

Arrays = dict[str, np.ndarray]


def bytes_array(content: bytes) -> np.ndarray:
    """Bytes as an array of uint8."""
    return np.frombuffer(content, np.uint8)


def rows_array(rows: Sequence[bytes], length: int) -> np.ndarray:
    """Bytes of one length as an array of uint8, a row each."""
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), length)


def names_array(names: Iterable[str]) -> np.ndarray:
    """Names as an array of uint8."""
    return bytes_array(json.dumps(list(names), ensure_ascii=False).encode())


class Reader:
    """Reads the arrays of one message, and refuses arrays that do not fit.

    Args:
      message: the message's arrays.
      sender: the name of the sender, for errors.
      terms: the terms on which the receiver agreed.

    Raises:
      SecureSumError: the message belongs to other terms.
    """

    def __init__(self, message: Mapping[str, np.ndarray], sender: str, terms: SumTerms):
        self._message = message
        self._sender = sender
        self._terms = terms
        if self.row("terms", len(terms.digest)) != terms.digest:
            raise self.error(
                "is of another sum: its session, parties, threshold or vectors differ"
            )

    def error(self, what: str) -> SecureSumError:
        """An error of one line about the message."""
        return SecureSumError(f"a secure sum's message from {self._sender} {what}")

    def array(self, name: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        """An array of the message, which must have this dtype and shape."""
        found = self._message.get(name)
        if found is None:
            raise self.error(f"has no {name!r}")
        if found.dtype != dtype or found.shape != shape:
            raise self.error(
                f"has {name!r} of dtype {found.dtype} and shape {found.shape}; "
                f"expected {np.dtype(dtype)} and {shape}"
            )
        return found

    def row(self, name: str, length: int) -> bytes:
        """The bytes of an array `[length]`."""
        return self.array(name, np.uint8, (length,)).tobytes()

    def rows(self, name: str, count: int, length: int) -> list[bytes]:
        """The rows of an array `[count, length]`, as bytes."""
        array = self.array(name, np.uint8, (count, length))
        return [row.tobytes() for row in array]

    def names(self, name: str) -> list[str]:
        """Names, each of them one of the parties and none twice."""
        found = self._message.get(name)
        if found is None or found.dtype != np.uint8 or found.ndim != 1:
            raise self.error(f"has no {name!r}, a list of names")
        try:
            names = json.loads(found.tobytes())
        except (ValueError, RecursionError):
            names = None
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise self.error(f"has {name!r} that is not a list of names")
        if len(set(names)) < len(names):
            raise self.error(f"has {name!r} with the same name twice")
        strangers = [n for n in names if n not in self._terms.parties]
        if strangers:
            raise self.error(
                f"has {name!r} with {strangers[0]!r}, which is not a party of the sum"
            )
        return names
