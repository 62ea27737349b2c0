"""A fingerprint of client data: SHA-256 over client ids and arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Optional

import numpy as np

from tfl_research.data.client_data import ClientData


def content_digest(splits: Mapping[str, Optional[ClientData]]) -> str:
    """SHA-256 over the clients' ids and examples, in hexadecimal.

    Two equal digests mean the same splits, the same clients in the same order, and
    arrays of the same names, dtypes, shapes and values. Batching and roles do not
    count. Clients are loaded one after another, so memory holds a single client.

    Args:
      splits: client data by the split's name; None for a split that does not exist.

    Raises:
      ValueError: an array holds Python objects, whose bytes have no meaning.
    """
    total = hashlib.sha256()
    for split, data in splits.items():
        total.update(_line([split, None if data is None else len(data)]))
        if data is None:
            continue
        for client_id, examples in data.items():
            for name in sorted(examples):
                array = np.asarray(examples[name])
                if array.dtype.hasobject:
                    raise ValueError(
                        f"client {client_id!r}: {name} holds Python objects, expected "
                        "numbers or text of fixed length"
                    )
                # In little-endian order on every machine.
                array = np.ascontiguousarray(
                    array, array.dtype.newbyteorder("<")
                ).reshape(-1)
                kind = array.dtype.str
                total.update(_line([client_id, name, kind, *examples[name].shape]))
                total.update(array.view(np.uint8).data)
    return total.hexdigest()


def _line(header: list[object]) -> bytes:
    return (json.dumps(header) + "\n").encode()
