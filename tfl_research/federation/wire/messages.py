"""Messages between a coordinator and its sites: JSON and tensors as bytes, no code.

Version 1 of the format; numbers are big-endian unless said otherwise:

    6 bytes   "tflfed"
    2 bytes   version, 1
    4 bytes   length of the JSON text, at most 4 MiB
    JSON      an object in UTF-8: {"kind": text, "header": object, "tensors":
              [[name, dtype, [dimension, ...], bytes], ...]}
    data      the tensors' elements in C order, little-endian, in the table's order,
              without gaps; nothing follows

`plain_json` says which JSON is accepted. A later version gets a new number, and readers
refuse numbers that they do not know.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np

from tfl_research.errors import UserError
from tfl_research.federation.wire import plain_json

VERSION = 1
# The default length of the longest accepted message.
LIMIT_BYTES = 2**30
_MAGIC = b"tflfed"
_FRONT = struct.Struct(">6sHI")
_JSON_LIMIT = 2**22
_PARTS = {"kind", "header", "tensors"}
_DIMENSIONS = 16
_DTYPES = {
    name: np.dtype(name)
    for name in [
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
        "complex64",
        "complex128",
    ]
}
_KIND = re.compile(r"[a-z][a-z_]{0,39}")
_NAME_LIMIT = 500


class MessageError(UserError):
    """Bytes or values are no message; the text says what does not fit."""


@dataclasses.dataclass(frozen=True, eq=False)
class Message:
    """A request or a reply.

    Attributes:
      kind: the kind of the request, such as "round"; lower-case letters and "_".
      header: JSON values by name: finite numbers, texts, booleans, None, lists, and
        dictionaries with texts as keys.
      tensors: arrays by name, of booleans, integers, floats or complex numbers.

    Example:
      >>> import numpy as np
      >>> from tfl_research.federation.wire.messages import Message, decode, encode
      >>> sent = Message("round", {"round": 3}, {"weights": np.zeros((2, 2))})
      >>> received = decode(encode(sent))
      >>> received.integer("round"), received.tensor("weights", shape=(2, 2)).sum()
      (3, 0.0)
    """

    kind: str
    header: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tensors: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def integer(self, name: str) -> int:
        """A whole number of the header. Raises MessageError if there is none."""
        value = self._value(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._unfit(name, value, "a whole number")
        return value

    def text(self, name: str) -> str:
        """A text of the header. Raises MessageError if there is none."""
        value = self._value(name)
        if not isinstance(value, str):
            raise self._unfit(name, value, "a text")
        return value

    def texts(self, name: str) -> list[str]:
        """A list of texts of the header. Raises MessageError if there is none."""
        value = self._value(name)
        if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
            raise self._unfit(name, value, "a list of texts")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """An object of the header. Raises MessageError if there is none."""
        value = self._value(name)
        if not isinstance(value, dict):
            raise self._unfit(name, value, "an object")
        return value

    def tensor(
        self,
        name: str,
        *,
        dtype: Any = None,
        shape: Optional[Sequence[Optional[int]]] = None,
    ) -> np.ndarray:
        """A tensor of the message.

        Args:
          name: the name of the tensor.
          dtype: the only accepted dtype; None accepts all dtypes.
          shape: the only accepted shape, with None for a dimension of any size; None
            accepts all shapes.

        Raises:
          MessageError: there is no such tensor, or it has another dtype or shape.
        """
        if name not in self.tensors:
            raise MessageError(f"the message {self.kind!r} has no tensor {name!r}")
        array = self.tensors[name]
        if dtype is not None and array.dtype != np.dtype(dtype):
            raise MessageError(
                f"tensor {name!r} of the message {self.kind!r} is {array.dtype}, "
                f"expected {np.dtype(dtype)}"
            )
        if shape is not None and not (
            len(shape) == array.ndim
            and all(want in (None, size) for want, size in zip(shape, array.shape))
        ):
            raise MessageError(
                f"tensor {name!r} of the message {self.kind!r} has the shape "
                f"{list(array.shape)}, expected {list(shape)}"
            )
        return array

    def _value(self, name: str) -> Any:
        if name not in self.header:
            raise MessageError(f"the message {self.kind!r} has no field {name!r}")
        return self.header[name]

    def _unfit(self, name: str, value: Any, expected: str) -> MessageError:
        return MessageError(
            f"field {name!r} of the message {self.kind!r} is {str(value)[:80]!r}, "
            f"expected {expected}"
        )


def encode(message: Message) -> bytes:
    """The message as bytes.

    Raises:
      MessageError: the format cannot represent the kind, a header's value or a tensor.
    """
    _check_kind(message.kind)
    header = dict(message.header)
    try:
        plain_json.check(header, "header")
    except ValueError as error:
        raise MessageError(f"the message {message.kind!r}: {error}") from error
    table: list[list[Any]] = []
    data: list[memoryview] = []
    for name, tensor in message.tensors.items():
        _check_name(name)
        array = np.asarray(tensor)
        if array.dtype.newbyteorder("=").name not in _DTYPES:
            raise MessageError(
                f"tensor {name!r} has the dtype {array.dtype}; a message carries "
                + ", ".join(_DTYPES)
            )
        if array.ndim > _DIMENSIONS:
            raise MessageError(
                f"tensor {name!r} has {array.ndim} dimensions; {_DIMENSIONS} fit"
            )
        stored = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        table.append([name, array.dtype.name, list(array.shape), array.nbytes])
        data.append(stored.reshape(-1).view(np.uint8).data)
    described = {"kind": message.kind, "header": header, "tensors": table}
    text = json.dumps(described, allow_nan=False, separators=(",", ":")).encode()
    if len(text) > _JSON_LIMIT:
        raise MessageError(
            f"the header of the message {message.kind!r} takes {len(text)} bytes, at "
            f"most {_JSON_LIMIT} fit; send large values as tensors"
        )
    return b"".join([_FRONT.pack(_MAGIC, VERSION, len(text)), text, *data])


def decode(content: bytes, limit_bytes: int = LIMIT_BYTES) -> Message:
    """The message of these bytes.

    The memory is at most a small multiple of the bytes, whatever sizes they claim.

    Args:
      content: the bytes; anyone may have written them.
      limit_bytes: the length of the longest accepted content.

    Raises:
      MessageError: the bytes are no message.
    """
    if len(content) > limit_bytes:
        raise MessageError(
            f"a message of {len(content)} bytes is above the limit of {limit_bytes}"
        )
    if len(content) < _FRONT.size:
        raise MessageError(
            f"{len(content)} bytes are too few for a message: the front is cut off"
        )
    magic, version, length = _FRONT.unpack_from(content)
    if magic != _MAGIC:
        raise MessageError(
            f"the bytes begin with {magic!r}, but a message begins with {_MAGIC!r}"
        )
    if version != VERSION:
        raise MessageError(
            f"the message has version {version} of the format, but this package reads "
            f"version {VERSION}; install the same package on both sides"
        )
    start = _FRONT.size + length
    if length > _JSON_LIMIT or start > len(content):
        raise MessageError(
            f"the message claims {length} bytes of JSON, but has "
            f"{len(content) - _FRONT.size}; at most {_JSON_LIMIT} fit"
        )
    try:
        described = plain_json.parsed(content[_FRONT.size : start])
    except ValueError as error:
        raise MessageError(f"the message's JSON cannot be read: {error}") from error
    if not isinstance(described, dict) or set(described) != _PARTS:
        raise MessageError(
            f"the message's JSON is {str(described)[:80]!r}, expected an object with "
            "kind, header and tensors"
        )
    kind, header = described["kind"], described["header"]
    _check_kind(kind)
    if not isinstance(header, dict):
        raise MessageError(f"the header is {str(header)[:80]!r}, expected an object")
    return Message(kind, header, _tensors(described["tensors"], content, start))


def _tensors(table: Any, content: bytes, start: int) -> dict[str, np.ndarray]:
    if not isinstance(table, list):
        raise MessageError("the table of tensors must be a list")
    available, tensors = len(content) - start, {}
    rows = [_row(row, available) for row in table]
    total = sum(size for _, _, _, size in rows)
    if total != available:
        raise MessageError(
            f"the tensors claim {total} bytes, but the message has {available} for them"
        )
    for name, dtype, shape, size in rows:
        if name in tensors:
            raise MessageError(f"the message has the tensor {name!r} twice")
        count = size // dtype.itemsize
        if (
            dtype == np.bool_
            and np.frombuffer(content, np.uint8, count, start).max(initial=0) > 1
        ):
            raise MessageError(f"tensor {name!r} has bytes that are not booleans")
        stored = np.frombuffer(content, dtype.newbyteorder("<"), count, start)
        # The copy is aligned, and the caller may write to it.
        tensors[name] = stored.astype(dtype).reshape(shape)
        start += size
    return tensors


def _row(row: Any, available: int) -> tuple[str, np.dtype, list[int], int]:
    if not isinstance(row, list) or len(row) != 4:
        raise MessageError(
            f"a row of the table of tensors is {str(row)[:80]!r}, expected [name, "
            "dtype, shape, bytes]"
        )
    name, dtype_name, shape, size = row
    _check_name(name)
    dtype = _DTYPES.get(dtype_name) if isinstance(dtype_name, str) else None
    if dtype is None:
        raise MessageError(
            f"tensor {name!r} has the dtype {str(dtype_name)[:80]!r}; a message "
            f"carries {', '.join(_DTYPES)}"
        )
    if not isinstance(shape, list) or len(shape) > _DIMENSIONS:
        raise MessageError(
            f"tensor {name!r} has the shape {str(shape)[:80]!r}, expected a list of at "
            f"most {_DIMENSIONS} sizes"
        )
    sizes = [*shape, size]
    if any(type(number) is not int or number < 0 for number in sizes):
        raise MessageError(
            f"tensor {name!r} has sizes that are not whole numbers from 0 on: "
            f"{str(sizes)[:80]}"
        )
    expected = math.prod(shape) * dtype.itemsize
    # This also limits empty tensors, since NumPy multiplies their other dimensions.
    if math.prod(max(1, number) for number in shape) > max(available, 2**31):
        raise MessageError(f"tensor {name!r} of shape {shape} is too large")
    if size != expected:
        raise MessageError(
            f"tensor {name!r} of shape {shape} and dtype {dtype} takes {expected} "
            f"bytes, but the message claims {size}"
        )
    return name, dtype, shape, size


def _check_kind(kind: Any) -> None:
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise MessageError(
            f"the kind of a message is {str(kind)[:80]!r}, expected up to 40 "
            "lower-case letters and '_'"
        )


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= _NAME_LIMIT:
        raise MessageError(
            f"a tensor's name is {str(name)[:80]!r}, expected a text of 1 to "
            f"{_NAME_LIMIT} characters"
        )
