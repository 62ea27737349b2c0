"""Masks: uniform residues from a key, added to a vector block by block."""

from __future__ import annotations

from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from tfl_research.federation.secure_sums.vectors import VectorSpec

# 256 KiB, so that a block and its intermediate results stay in the processor's cache.
_BLOCK_BYTES = 1 << 18
_ZEROS = bytes(_BLOCK_BYTES)


class _Words:
    """The keystream of ChaCha20 (RFC 8439) as unsigned words."""

    def __init__(self, key: bytes, vector: int, word: np.dtype[Any], most: int):
        # The counter begins at 0. Each vector has a nonce of its own.
        start = bytes(8) + vector.to_bytes(8, "little")
        self._cipher = Cipher(algorithms.ChaCha20(key, start), mode=None).encryptor()
        self._word = word.newbyteorder("<")
        self._block = bytearray(min(most * word.itemsize, _BLOCK_BYTES))

    def next(self, count: int) -> np.ndarray:
        """The next words, `count` of them or a block's; valid until the next call."""
        size = min(count * self._word.itemsize, len(self._block))
        zeros = _ZEROS if size == _BLOCK_BYTES else _ZEROS[:size]
        self._cipher.update_into(zeros, self._block)
        words = np.frombuffer(self._block, self._word, size // self._word.itemsize)
        return words.astype(words.dtype.newbyteorder("="), copy=False)


def apply(
    total: np.ndarray, spec: VectorSpec, key: bytes, vector: int, *, add: bool
) -> None:
    """Adds the mask that a key gives to residues, or subtracts it, in place.

    The mask is exactly uniform in [0, m): a word at or above the largest multiple of m
    is skipped. At most one block of the mask is in memory.

    Args:
      total: residues, flat, in the dtype `spec.word`.
      spec: the vector's spec.
      key: 32 bytes that are used for nothing else.
      vector: the vector's position among the vectors of the sum.
      add: True adds the mask, False subtracts the mask.
    """
    change = spec.add if add else spec.subtract
    words = _Words(key, vector, spec.word, total.size)
    values = 2 ** (spec.word.itemsize * 8)
    limit = values // spec.modulus * spec.modulus
    done = 0
    while done < total.size:
        mask = words.next(total.size - done)
        if spec.modulus & (spec.modulus - 1) == 0:
            if spec.modulus < values:
                mask = mask & spec.word.type(spec.modulus - 1)
        else:
            fits = mask < spec.word.type(limit)
            if not fits.all():
                mask = mask[fits]
            modulus = spec.word.type(spec.modulus)
            mask = mask - mask // modulus * modulus
        change(total[done : done + mask.size], mask)
        done += mask.size
