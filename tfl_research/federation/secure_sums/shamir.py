"""Shamir's secret sharing of 16 bytes, in GF(2**128), by pycryptodome."""

from __future__ import annotations

from collections.abc import Mapping

from tfl_research.federation.secure_sums.errors import SecureSumError

try:
    from Crypto.Protocol.SecretSharing import Shamir
except ImportError as error:
    raise SecureSumError(
        "secure sums need cryptography and pycryptodome: "
        "pip install 'tfl_research[federation]'"
    ) from error


def split(secret: bytes, threshold: int, count: int) -> list[bytes]:
    """Splits a secret so that any `threshold` shares give it, and fewer say nothing.

    Args:
      secret: 16 bytes.
      threshold: number of shares that give the secret.
      count: number of shares.

    Returns:
      The shares 1 to `count`, of 16 bytes each.
    """
    return [bytes(share) for _, share in Shamir.split(threshold, count, secret)]


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Computes the secret from `threshold` shares, by their numbers from 1.

    Further shares are ignored.

    Raises:
      SecureSumError: there are fewer shares than the threshold.
    """
    if len(shares) < threshold:
        raise SecureSumError(
            f"a secret needs {threshold} shares, but there are {len(shares)}"
        )
    chosen = sorted(shares.items())[:threshold]
    return bytes(Shamir.combine(chosen))
