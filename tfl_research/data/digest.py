"""A fingerprint of client data: SHA-256 over client ids and arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from tfl_research.data.client_data import ClientData
from tfl_research.data.cohort import Examples


def content_digest(splits: Mapping[str, Optional[ClientData]]) -> str:
    """Computes SHA-256 over the clients' ids and examples, in hexadecimal.

    Two equal digests mean the same splits, the same clients in the same order, and
    arrays of the same names, dtypes, shapes and values. Batching and roles do not
    count. Clients are loaded one after another, so memory holds a single client.

    Args:
      splits: client data by the split's name; None for a split that does not exist.

    Raises:
      ValueError: an array holds Python objects other than text, because their bytes
        have no meaning; or the first client of a split has other examples when they are
        loaded again.
    """
    total = hashlib.sha256()
    for split, data in splits.items():
        total.update(_line([split, None if data is None else len(data)]))
        if data is None:
            continue
        first: Optional[tuple[str, str]] = None
        for client_id, examples in data.items():
            _add(total, client_id, examples)
            if first is None:
                first = client_id, _of_client(client_id, examples)
        if first is not None and _of_client(first[0], data.load(first[0])) != first[1]:
            raise ValueError(
                f"client {first[0]!r}: loading the examples twice gave two different "
                "results; the loader must be a function of the client's id alone"
            )
    return total.hexdigest()


def _of_client(client_id: str, examples: Examples) -> str:
    digest = hashlib.sha256()
    _add(digest, client_id, examples)
    return digest.hexdigest()


def _add(total: Any, client_id: str, examples: Examples) -> None:
    """Adds a client's arrays to a digest."""
    for name in sorted(examples):
        array = np.asarray(examples[name])
        if array.dtype.hasobject:
            total.update(_line([client_id, name, "text", *array.shape]))
            for text in array.reshape(-1).tolist():
                if not isinstance(text, (bytes, str)):
                    raise ValueError(
                        f"client {client_id!r}: {name} holds Python objects, expected "
                        f"numbers or text, got {type(text).__name__}"
                    )
                content = text.encode() if isinstance(text, str) else text
                total.update(len(content).to_bytes(8, "big") + content)
            continue
        # The bytes are in little-endian order on every machine.
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1)
        kind = array.dtype.str
        total.update(_line([client_id, name, kind, *examples[name].shape]))
        total.update(array.view(np.uint8).data)


def _line(header: list[object]) -> bytes:
    return (json.dumps(header) + "\n").encode()
