"""Converts messages of tensors to bytes, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def to_bytes(message: Sequence[np.ndarray], integer_bits: int = 32) -> bytes:
    """Writes tensors one after another, little-endian; each begins at a whole byte.

    Args:
      message: arrays of float32 and int32.
      integer_bits: bits of an entry of an integer tensor, 1 to 32. Below 32, entries
        must be from 0 to 2^integer_bits - 1, and are packed without gaps.

    Raises:
      ValueError: a tensor has another dtype, or an entry does not fit.
    """
    parts = []
    for array in message:
        array = np.asarray(array)
        if array.dtype not in (np.float32, np.int32):
            raise ValueError(
                f"messages must have float32 and int32 tensors, got {array.dtype}"
            )
        if array.dtype == np.int32 and integer_bits < 32:
            parts.append(_packed(array, integer_bits))
        else:
            parts.append(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return b"".join(parts)


def from_bytes(
    sent: bytes, layout: Sequence[tf.TensorSpec], integer_bits: int = 32
) -> list[np.ndarray]:
    """Reads the tensors of a message; the inverse of `to_bytes`.

    Args:
      sent: the bytes of a message.
      layout: shapes and dtypes of the message.
      integer_bits: as in `to_bytes`.

    Raises:
      ValueError: more or fewer bytes than the layout needs.
    """
    message, start = [], 0
    for spec in layout:
        dtype = np.dtype(spec.dtype.as_numpy_dtype)
        packs = dtype == np.int32 and integer_bits < 32
        count = int(np.prod(spec.shape, dtype=np.int64))
        size = -(-count * integer_bits // 8) if packs else count * dtype.itemsize
        part = sent[start : start + size]
        if len(part) < size:
            raise ValueError(
                f"the message ends after {len(sent)} bytes, in the middle of a tensor "
                f"of shape {spec.shape}"
            )
        start += size
        if packs:
            array = _unpacked(part, count, integer_bits)
        else:
            array = np.frombuffer(part, dtype.newbyteorder("<")).astype(dtype)
        message.append(array.reshape(spec.shape))
    if start != len(sent):
        raise ValueError(f"the message has {len(sent)} bytes, expected {start}")
    return message


def _packed(array: np.ndarray, bits: int) -> bytes:
    flat = array.ravel()
    if flat.size and not (flat.min() >= 0 and flat.max() < 2**bits):
        raise ValueError(
            f"entries from {flat.min()} to {flat.max()} do not fit into {bits} bits"
        )
    places = np.arange(bits)
    digits = (flat[:, None] >> places) & 1
    return np.packbits(digits.astype(np.uint8), bitorder="little").tobytes()


def _unpacked(sent: bytes, count: int, bits: int) -> np.ndarray:
    digits = np.unpackbits(
        np.frombuffer(sent, np.uint8), count=count * bits, bitorder="little"
    )
    places = np.arange(bits, dtype=np.int32)
    powers = np.left_shift(np.int32(1), places)
    return (digits.reshape(count, bits) * powers).sum(axis=1, dtype=np.int32)
